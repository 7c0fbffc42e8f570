"""The commands of ``quiesce``, one module for each kind.

serve     a server
run       one run, in this process or on a server, with a live view
remote    ls, show, tail, stop, agents: what asks a server
control   pause, resume, step, answer, deadline, rerun: what asks something of a live run
demo      the demonstration
asking    a run's questions at the keyboard
loading   agents from files and modules
top       the runs of a server, live in a terminal
target    a run to follow, answer and stop, here or on a server
values    what people type
"""
