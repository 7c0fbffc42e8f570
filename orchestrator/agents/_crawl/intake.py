"""Taking in a body that may be compressed, up to a bound, and seeing whether it is whole."""

from __future__ import annotations

import zlib

GZIP_MAGIC = b"\x1f\x8b"


class Intake:
    """Takes in a body up to its bound, and undoes its compression.

    Attributes:
        body: what came, decompressed; one byte more than the bound if there was more.
        broken: it could not be decompressed.
    """

    def __init__(self, max_bytes: int, *, gzip: bool) -> None:
        self._room = max_bytes + 1
        self._member = _member() if gzip else None
        self._begun = False
        self._over = False
        self.body = bytearray()
        self.broken = False

    @property
    def full(self) -> bool:
        """Whether there was more than the bound."""
        return self._room == 0

    @property
    def cut_off(self) -> bool:
        """Whether the compressed body ended before its end; ask once all of it was taken in."""
        return self._member is not None and self._begun and not self._member.eof and not self.full

    def take(self, chunk: bytes) -> bool:
        """Take in a piece; False if no more is wanted."""
        while chunk and not self.full and not self.broken:
            chunk = self._rest_of(chunk)
        return not self.full and not self.broken

    def _rest_of(self, chunk: bytes) -> bytes:
        """Take in a piece as far as one member of the compressed file goes; return what is left."""
        if self._member is None:
            self._add(chunk[: self._room])
            return b""
        if self._member.eof:
            chunk = self._next_member(chunk)
        if not chunk:
            return b""
        self._begun = True
        try:
            self._add(self._member.decompress(chunk, self._room))
        except zlib.error:
            self.broken = True
        return self._member.unused_data if self._member.eof else b""

    def _next_member(self, chunk: bytes) -> bytes:
        """Return what may be another member. RFC 1952 has them simply follow one another (2.2);
        anything else there is padding or rubbish, which gzip and browsers leave out too."""
        member = b"" if self._over else chunk.lstrip(b"\0")
        self._over = self._over or not GZIP_MAGIC.startswith(member[:2])
        if self._over or not member:
            return b""
        self._member = _member()
        return member

    def _add(self, piece: bytes) -> None:
        self.body += piece
        self._room -= len(piece)


def _member() -> zlib._Decompress:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)
