"""The parts of the agent that takes in documents. None knows of a run but the last.

kinds     what a file is
reading   from a file to its sections, whatever it is
markdown  the sections of a Markdown file
pdf       the pages of a PDF
----
book      what is kept of each document
"""
