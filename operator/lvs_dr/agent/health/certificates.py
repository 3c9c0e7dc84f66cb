"""The certificates that checks present and trust, from Secrets: read on use, so a changed Secret counts at once."""

import os
import ssl
from collections.abc import Callable
from contextlib import ExitStack

from lvs_dr.agent.health.attempt import CannotCheckError, Identity
from lvs_dr.agent.secrets import Secret, SecretUnavailableError

CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"

ReadSecret = Callable[[str], Secret]
"""Returns a Secret by name. Raises SecretUnavailableError."""


def identity(read: ReadSecret | None, name: str) -> Identity:
    """Return what the Secret holds. Raises CannotCheckError, with the key that is wrong."""
    if read is None:
        raise CannotCheckError(f"Secret {name} cannot be read here")
    try:
        secret = read(name)
    except SecretUnavailableError as error:
        raise CannotCheckError(str(error)) from error
    certificate, key, authorities = (_text(secret, each) for each in (CERTIFICATE, KEY, AUTHORITIES))
    if bool(certificate) != bool(key):
        lacking = KEY if certificate else CERTIFICATE
        raise CannotCheckError(f"Secret {name} has no {lacking}, which the check's certificate needs")
    if not certificate and not authorities:
        raise CannotCheckError(f"Secret {name} has neither {CERTIFICATE} and {KEY}, nor {AUTHORITIES}")
    return Identity(name, certificate, key, authorities)


def client_context(ca_bundle: str, given: Identity) -> ssl.SSLContext:
    """Return a context that trusts both sets of authorities, or the image's, and presents the certificate.

    Raises CannotCheckError.
    """
    try:
        context = ssl.create_default_context(cadata=ca_bundle or None)
    except ssl.SSLError as error:
        raise CannotCheckError(f"caBundle cannot be read: {error.reason or error}") from error
    if given.authorities:
        try:
            fresh = context if ca_bundle else ssl.create_default_context(cadata=given.authorities)
            fresh.load_verify_locations(cadata=given.authorities)
        except ssl.SSLError as error:
            raise _unreadable(given, AUTHORITIES, error) from error
        context = fresh
    if given.certificate:
        _present(context, given)
    return context


def is_refusal(error: ssl.SSLError) -> bool:
    """Tell whether the other side does not accept our certificate (RFC 8446, 6.2)."""
    reason = error.reason or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _present(context: ssl.SSLContext, given: Identity) -> None:
    with ExitStack() as stack:
        certificate, key = (_in_memory(stack, text) for text in (given.certificate, given.key))
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except _EncryptedKeyError as error:
            raise CannotCheckError(f"Secret {given.secret}: {KEY} is encrypted, which an agent cannot read") from error
        except ssl.SSLError as error:
            if "MISMATCH" in (error.reason or ""):
                text = f"Secret {given.secret}: {KEY} does not belong to {CERTIFICATE}"
                raise CannotCheckError(text) from error
            raise _unreadable(given, KEY if _is_certificate(given.certificate) else CERTIFICATE, error) from error


class _EncryptedKeyError(ValueError):
    """The key needs a password."""


def _no_password() -> str:
    """Keep OpenSSL from asking on the terminal."""
    raise _EncryptedKeyError


def _text(secret: Secret, key: str) -> str:
    try:
        return secret.data.get(key, b"").decode("ascii")
    except UnicodeDecodeError as error:
        raise CannotCheckError(f"Secret {secret.name}: {key} is not in PEM form") from error


def _unreadable(given: Identity, key: str, error: ssl.SSLError) -> CannotCheckError:
    text = (error.reason or str(error)).lower().replace("_", " ")
    return CannotCheckError(f"Secret {given.secret}: {key} cannot be read: {text}")


def _is_certificate(text: str) -> bool:
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _in_memory(stack: ExitStack, text: str) -> str:
    """Return the path of a file that is nowhere on a disk: OpenSSL's interface takes files."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    os.write(descriptor, text.encode())
    return f"/proc/self/fd/{descriptor}"
