"""The files that pages load, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent."""

    content: bytes
    media_type: str


_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

FILES = {
    path.name: File(path.read_bytes(), _TYPES[path.suffix]) for path in sorted(FOLDER.iterdir())
}

# All of the files together have one version: a page never loads modules that do not fit together.
VERSION = hashlib.sha256(b"".join(file.content for file in FILES.values())).hexdigest()[:12]
