"""Where runs are durable: the ``Store`` protocol and its implementations."""
