"""A module that nobody can import to its end."""

from __future__ import annotations

import os

# Something that a test can see, in the one variable of its choice that reaches a warden.
if os.path.isabs(os.environ.get("LANG", "")):
    os.open(os.environ.get("LANG", ""), os.O_RDWR | os.O_CREAT)
print(pow(3, 10**9) % 7)
