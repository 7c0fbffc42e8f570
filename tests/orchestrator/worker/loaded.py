"""A module that nobody imports but the warden, when it is told to."""
