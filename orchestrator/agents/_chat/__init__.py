"""The parts of the chat.

turns  answers of a model and results of tools as messages; pure, and knows of no run
book   the stored conversation
"""
