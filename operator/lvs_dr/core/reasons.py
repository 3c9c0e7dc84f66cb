"""Every reason that a condition, an Event, a report or a log line may carry. Documented in docs/reasons.md."""

from enum import StrEnum


class Reason(StrEnum):
    """Why something is as it is; never free text, never empty."""

    # All is well
    ACCEPTED = "Accepted"
    PROGRAMMED = "Programmed"
    SERVING = "Serving"
    CONFIGURED = "Configured"
    HEALTHY = "Healthy"
    ELECTED = "Elected"
    IN_SERVICE = "InService"
    # Input that is refused
    INVALID = "Invalid"
    ADDRESS_NOT_ALLOWED = "AddressNotAllowed"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    ADDRESS_CLAIMED = "AddressClaimed"
    PORT_CLAIMED = "PortClaimed"
    RESERVED_ADDRESS = "ReservedAddress"
    ADDRESS_IS_VIRTUAL = "AddressIsVirtual"
    DUPLICATE_ADDRESS = "DuplicateAddress"
    TOO_MANY_DESTINATIONS = "TooManyDestinations"
    UNKNOWN_GROUP = "UnknownGroup"
    # What only the cluster can answer
    NO_DIRECTOR = "NoDirector"
    NO_INTERFACE = "NoInterface"
    NO_REAL_SERVER = "NoRealServer"
    NO_ADDRESS = "NoAddress"
    NOT_ON_LINK = "NotOnLink"
    NODE_MISSING = "NodeMissing"
    NO_AGENT = "NoAgent"
    AGENT_SILENT = "AgentSilent"
    UNDECIDED = "Undecided"
    # On the way
    WAITING_FOR_BACKEND = "WaitingForBackend"
    WAITING_FOR_DIRECTOR = "WaitingForDirector"
    WAITING_FOR_RELEASE = "WaitingForRelease"
    # On a node
    IPVS_UNAVAILABLE = "IPVSUnavailable"
    SCHEDULER_UNAVAILABLE = "SchedulerUnavailable"
    KERNEL_REFUSED = "KernelRefused"
    ADDRESS_IN_USE = "AddressInUse"
    FOREIGN_ENTRY = "ForeignEntry"
    CONTESTED = "Contested"
    PAUSED = "Paused"
    UNSUPPORTED = "Unsupported"
    MASS_REMOVAL_HELD = "MassRemovalHeld"
    # Health
    NOT_CHECKED = "NotChecked"
    CHECKING = "Checking"
    CHECK_FAILED = "CheckFailed"
    NO_HEALTHY_REAL_SERVER = "NoHealthyRealServer"
    MAINTENANCE = "Maintenance"
    NOT_SELECTED = "NotSelected"
