"""The commands of ``quiesce``, one module for each kind.

serve     a server
run       one run, in this process or on a server, with a live view
remote    ls, show, tail, stop, agents: what asks a server
demo      the demonstration
loading   agents from files and modules
target    a run to follow and stop, here or on a server
"""
