"""The parts of the agent ``command``.

session     a process with a session of its own: signals for all of it, and its end
output      what it says, line by line, at a pace that others can bear
meaning     lines that are JSON objects with a meaning
attending   one command from its start to its end, and the rungs that make it end
"""
