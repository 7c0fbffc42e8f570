"""What agents that were written for Gofannon call.

- ``stopping``: what each of its calls passes, and ``AgentStopped``;
- ``data``: the data store; ``clients``: other agents, HTTP, and servers of tools;
- ``models``: language models, and how much fits into them.
"""
