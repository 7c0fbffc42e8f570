"""The server's certificate."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from orchestrator import OrchestratorError

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("quiesce.server")


class BadCertificate(OrchestratorError):
    """The certificate cannot be used."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot use the certificate: {why}")


class Certificate:
    """A certificate and its key, from two PEM files.

    Attributes:
        context: for every connection; a certificate that is read again is for those to come.

    Raises:
        BadCertificate: it cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._check()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.context.load_cert_chain(*self._files)

    def reload(self) -> None:
        """Read the files again. Should they be broken, the log says why, and nothing changes."""
        try:
            self._check()
        except BadCertificate as error:
            _log.error("the certificate stays as it was: %s", error)
        else:
            self.context.load_cert_chain(*self._files)
            _log.warning("the certificate %s was read again", self._files[0])

    def _check(self) -> None:
        """Try the files elsewhere first: half of a new pair must not get into the context."""
        for file in self._files:
            try:
                file.read_bytes()
            except OSError as error:
                raise BadCertificate(f"{file}: {error.strerror}") from None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files, password=_none)
        except (ssl.SSLError, ValueError) as error:
            names = " and ".join(map(str, self._files))
            why = getattr(error, "reason", None) or str(error)
            raise BadCertificate(f"{names} are no certificate with its key ({why})") from None


def _none() -> str:
    """Refuse a key that is encrypted, rather than ask for a password at the terminal."""
    raise ValueError("the key is encrypted")
