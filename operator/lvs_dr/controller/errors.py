"""What can go wrong on the way to the API server, as far as somebody here reacts to it.

ControllerError
+-- ApiError            the API server answered with an error; carries the HTTP status
|   +-- Unauthorized    401: the token is refused
|   +-- Forbidden       403: RBAC, or a namespace that is being deleted
|   +-- NotFound        404: the object, its namespace or its kind is gone
|   +-- Conflict        409: somebody else was faster, or a precondition does not hold
+-- Unreachable         no answer in time
+-- OwnerGone           the owner of a compiled object is gone, or being deleted
+-- NotLeading          a write was asked for after the Lease was lost
+-- KindsMissing        a kind of ours is not served (yet), or is being deleted
+-- BadConfiguration    command line, kubeconfig or in-cluster files are unusable
"""


class ControllerError(Exception):
    """Base of all errors that the controller raises on purpose."""


class ApiError(ControllerError):
    """The API server refused a request."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason


class Unauthorized(ApiError):
    """401."""


class Forbidden(ApiError):
    """403."""


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409."""


class Unreachable(ControllerError):
    """The API server did not answer in time, or not at all."""


class OwnerGone(ControllerError):
    """The owner of a compiled object is gone, so the object must not be created."""


class NotLeading(ControllerError):
    """This process does not hold the Lease (any more)."""


class KindsMissing(ControllerError):
    """A kind of ours is not served, or its CustomResourceDefinition is being deleted or was replaced."""


class BadConfiguration(ControllerError):
    """The process cannot start with this configuration."""


_BY_STATUS: dict[int, type[ApiError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict}


def api_error(status: int, reason: str, message: str) -> ApiError:
    """Return the error for an HTTP status."""
    return _BY_STATUS.get(status, ApiError)(status, reason, message)
