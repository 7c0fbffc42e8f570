"""The lifecycle against a model: random trees, and a random outside world that meddles with them.

- ``program``: what an agent does, as plain values; a random one is a tuple of them;
- ``story``: what the world does to the orchestrator, and when;
- ``random_stories``: Hypothesis' strategies for both;
- ``model``: pure: what must be refused, what may follow, and what must be true of an end;
- ``trace``: what agents really did, in their own words: side effects, not the core's events;
- ``player``: the agent that performs programs;
- ``flight``: operations in flight, and the two clocks;
- ``watch``: looks at every run after each step of any task;
- ``disk``: a store that outlives its orchestrators, is slow, and is out of order at times;
- ``life deeds world``: play a story in virtual time, crashes included;
- ``account after``: what must be true of store and trace once a story is over.
"""
