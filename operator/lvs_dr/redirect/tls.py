"""The certificate of a listener, changed while it serves."""

import logging
import os
import ssl
from contextlib import ExitStack

from lvs_dr.redirect.messages import Tls

log = logging.getLogger(__name__)


class UnusableCertificate(ValueError):
    """Certificate and key cannot be loaded, or do not belong together."""


class Certificate:
    """A server context, whose certificate `load` replaces for all later handshakes.

    Raises UnusableCertificate if the first one cannot be loaded.
    """

    def __init__(self, tls: Tls) -> None:
        self.context = _new_context()
        self._tls = tls
        self._seen = _stamps(tls)
        _load(self.context, tls)

    def load(self, tls: Tls) -> None:
        """Take another certificate. Raises UnusableCertificate; then the last good one goes on being used."""
        self._tls, self._seen = tls, _stamps(tls)
        _load(_new_context(), tls)  # a failure half-way would leave a new certificate with an old key
        _load(self.context, tls)

    def refresh(self) -> bool:
        """Load the files again if they have changed; tells whether they had. Raises UnusableCertificate."""
        if _stamps(self._tls) == self._seen:
            return False
        self.load(self._tls)
        return True


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    with ExitStack() as stack:
        try:
            certificate = tls.certificate_file or _in_memory(stack, tls.certificate)
            key = tls.key_file or _in_memory(stack, tls.key)
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise UnusableCertificate(f"the certificate cannot be used: {error}") from error


def _no_password() -> str:
    """Keep OpenSSL from asking on the terminal."""
    raise ValueError("the key is encrypted")


def _in_memory(stack: ExitStack, text: str) -> str:
    """Return the path of a file that is nowhere on a disk: OpenSSL's interface takes files."""
    if not text:
        raise ValueError("certificate or key is empty")
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    os.write(descriptor, text.encode())
    return f"/proc/self/fd/{descriptor}"


def _stamps(tls: Tls) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(_stamp(path) for path in (tls.certificate_file, tls.key_file))


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file does; a mounted Secret is changed by another link, hence the inode."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, no Path
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
