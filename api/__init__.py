"""The web interface of Quiesce: HTTP server, clients and the ``quiesce`` command."""
