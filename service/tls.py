"""TLS of the service itself: a certificate that is read again when it changes, without ending a connection."""

import ssl
from pathlib import Path

import structlog

from kdmri.errors import InvalidRequest

log = structlog.get_logger()

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate with its key, in the context of a server; a new connection gets them as they are now."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the files. Raises InvalidRequest if they can't be read or do not belong together."""
        self._files = (certificate, key)
        self._seen = self._stamp()
        try:
            self._current = self._load()
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequest(
                "KDMRI_TLS_CERTIFICATE, KDMRI_TLS_KEY: expected PEM files of a certificate chain and its key, "
                f"got {type(error).__name__}"
            ) from None

    def context(self) -> ssl.SSLContext:
        """Return the context that a server listens with. Every handshake looks whether the files have changed."""
        listening = self._load()
        listening.sni_callback = self._choose
        return listening

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
        # Connections that are open keep the context of their own handshake.
        try:
            if (stamp := self._stamp()) != self._seen:
                self._current = self._load()
                self._seen = stamp
                log.info("certificate read again")
        except (OSError, ssl.SSLError) as error:
            # A certificate and a key are replaced one after the other: until both are there, the old ones serve.
            log.warning("the new certificate can't be used yet", error=type(error).__name__)
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files)
        return context

    def _stamp(self) -> Stamp:
        statuses = [file.stat() for file in self._files if file.exists()]
        return tuple((status.st_mtime_ns, status.st_size, status.st_ino) for status in statuses)


def server_context(certificate: Path, key: Path, *_: object) -> ssl.SSLContext:
    """Return the context for uvicorn, which passes its configuration and its own default, neither of them needed here.

    Args:
        certificate: PEM file of the certificate and those that sign it.
        key: PEM file of the private key.

    Returns:
        A context of TLS 1.2 and newer.

    Raises:
        InvalidRequest: The files can't be used.
    """
    return Certificate(certificate, key).context()
