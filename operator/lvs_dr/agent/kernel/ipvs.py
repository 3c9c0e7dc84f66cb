"""IPVS through the project's own codec: one dump per service to read, one batch to write.

The keys and configurations of `core.kernel` have the fields of the codec's own, so they go in and out unconverted.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from lvs_dr.agent.kernel.errors import KernelError, ipvs_failure, ipvs_missing
from lvs_dr.agent.kernel.family import Family
from lvs_dr.core.destinations import Destinations, Place
from lvs_dr.core.kernel import (
    DestinationConfig,
    DestinationOp,
    Failure,
    MarkUse,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    Verb,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.netlink import ipvs, ipvs_decode, ipvs_encode
from lvs_dr.netlink.errors import NetlinkError, NetlinkFailure, UnencodableValue
from lvs_dr.netlink.ipvs_dump import TableReader
from lvs_dr.netlink.socket import GenericNetlinkSocket

log = logging.getLogger(__name__)

IpvsOp = ServiceOp | DestinationOp

_AF_INET: Final = 2
_AF_INET6: Final = 10
_NEW: Final = ipvs_encode.NEW_DESTINATION
_SET: Final = ipvs_encode.SET_DESTINATION
_DELETE: Final = ipvs_encode.DELETE_DESTINATION
_TCP: Final = 6
_SCTP: Final = 132


class IpvsState:
    """What one read found."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, ServiceConfig] = {}
        self.destinations = Destinations[DestinationConfig]()
        self.connections = Destinations[int]()
        self.templates = Destinations[int]()
        self.silent_marks: frozenset[ServiceKey] = frozenset()
        self.mark_packets: Mapping[ServiceKey, int] = {}
        self.slots = 0


class Ipvs:
    """The IPVS of this network namespace. One thread at a time."""

    def __init__(
        self,
        open_socket: Callable[[], GenericNetlinkSocket] = lambda: GenericNetlinkSocket(ipvs.FAMILY_NAME),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._family = Family(open_socket, clock, lambda error: log.warning("%s", error))
        self._reader = TableReader(ServiceKey, ServiceConfig, DestinationConfig)
        self._slots = 0

    def read(self, unread: AbstractSet[ServiceKey] = frozenset()) -> IpvsState:
        """Read all services, and destinations but those of `unread`; a kernel without IPVS has none.

        Raises KernelError.
        """
        state = IpvsState()
        try:
            socket = self._family.socket()
            if socket is None:
                return state
            if not self._slots:  # fixed when ip_vs is loaded
                info = ipvs_decode.parse_info(socket.request(ipvs_encode.get_info()))
                self._slots = info.connection_table_size
            state.slots = self._slots
            state.services, state.silent_marks = self._reader.services(socket.dump(ipvs_encode.get_services()))
            state.mark_packets = self._reader.mark_packets
            configs: dict[ServiceKey, Mapping[Place, DestinationConfig]] = {}
            connections: dict[ServiceKey, Mapping[Place, int]] = {}
            templates: dict[ServiceKey, Mapping[Place, int]] = {}
            for key, service in state.services.items():
                if key in unread:
                    continue
                messages = socket.dump(ipvs_encode.get_destinations(key))
                if messages:
                    # TCP and SCTP keep closed connections as inactive for minutes: removal cuts nothing of them.
                    inactive_too = key.protocol not in (_TCP, _SCTP)
                    configs[key], connections[key] = self._reader.destinations(key, messages, inactive_too=inactive_too)
                    if service.timeout_seconds:
                        templates[key] = self._reader.templates(key, messages)
            state.templates = Destinations(templates)
            state.destinations, state.connections = Destinations(configs), Destinations(connections)
        except NetlinkFailure as error:
            self._family.failed(error)
            raise KernelError(errno.EIO, f"IPVS cannot be read: {error}") from error
        return state

    def mark_use(self, service: ServiceKey) -> MarkUse | None:
        """Read one firewall-mark service; None when it is not there. Raises KernelError."""
        try:
            socket = self._family.socket()
            if socket is None:
                return None
            packets = ipvs_decode.packets_in(socket.request(ipvs_encode.get_service(service)))
            found = [
                ipvs_decode.parse_destination(message) for message in socket.dump(ipvs_encode.get_destinations(service))
            ]
        except NetlinkError as error:
            if error.code == errno.ESRCH:
                return None
            raise KernelError(error.code, f"IPVS cannot be read: {error}") from error
        except NetlinkFailure as error:
            self._family.failed(error)
            raise KernelError(errno.EIO, f"IPVS cannot be read: {error}") from error
        places = frozenset((address, port) for address, port, *_ in found)
        return MarkUse(places, packets, sum(active + inactive for *_, active, inactive in found))

    def apply(self, ops: Sequence[IpvsOp]) -> list[Failure]:
        """Carry out operations in one batch and return those that were refused."""
        try:
            socket = self._family.socket()
        except NetlinkFailure as error:
            return _all_failed(ops, error)
        if socket is None:
            return [failure for failure in map(ipvs_missing, ops) if failure is not None]
        messages, sent, failures = _encoded(ops)
        try:
            refused = socket.transact(messages) if messages else {}
        except NetlinkFailure as error:
            self._family.failed(error)
            return failures + _all_failed(sent, error)
        for position, refusal in sorted(refused.items()):
            failure = ipvs_failure(sent[position], refusal.code)
            if failure is not None:
                failures.append(failure)
        return failures

    def close(self) -> None:
        """Close the socket."""
        self._family.close()


def encode(op: IpvsOp) -> bytes:
    """Return the netlink message of an operation. Raises UnencodableValue."""
    return encode_all((op,))[0]


def encode_all(ops: Iterable[IpvsOp]) -> list[bytes]:
    """Return the netlink messages of operations. Raises UnencodableValue."""
    messages: list[bytes] = []
    append, add, delete = messages.append, Verb.ADD, Verb.DELETE  # thousands: nothing is looked up or hashed twice
    make_head, make_body = ipvs_encode.destination_head, ipvs_encode.destination_body
    last_service, last_verb, last_size, head = None, None, 0, b""
    for op in ops:
        if isinstance(op, ServiceOp):
            append(_encode_service(op))
            continue
        verb, (service, address, port), config = op
        family = _AF_INET6 if ":" in address else _AF_INET
        if verb is delete:
            body = ipvs_encode.destination_name(address, port, family)
        elif config is not None:
            body = make_body(address, port, family, config)
        else:
            raise UnencodableValue(f"{verb} of destination {op.key} without a configuration")
        size = len(body)
        if service is not last_service or verb is not last_verb or size != last_size:
            last_service, last_verb, last_size = service, verb, size
            command = _NEW if verb is add else _DELETE if verb is delete else _SET
            head = make_head(command, service, size)
        append(head + body)
    return messages


def _encoded(ops: Sequence[IpvsOp]) -> tuple[list[bytes], Sequence[IpvsOp], list[Failure]]:
    """Return the messages, the operations they are of, and those that cannot be said in a message."""
    try:
        return encode_all(ops), ops, []
    except UnencodableValue:
        pass  # one by one, to find out which
    messages: list[bytes] = []
    sent: list[IpvsOp] = []
    failures: list[Failure] = []
    for op in ops:
        try:
            messages.append(encode(op))
            sent.append(op)
        except UnencodableValue as error:
            failures.append(Failure(op, errno.EINVAL, Reason.KERNEL_REFUSED, str(error)))
    return messages, sent, failures


def _encode_service(op: ServiceOp) -> bytes:
    if op.verb is Verb.DELETE:
        return ipvs_encode.delete_service(op.key)
    if op.config is None:
        raise UnencodableValue(f"{op.verb} of service {op.key} without a configuration")
    make = ipvs_encode.new_service if op.verb is Verb.ADD else ipvs_encode.set_service
    return make(op.key, op.config)


def _all_failed(ops: Sequence[IpvsOp], error: NetlinkFailure) -> list[Failure]:
    """Return every operation as failed: an unknown part was applied, the next pass reads and heals."""
    return [Failure(op, errno.EIO, Reason.KERNEL_REFUSED, f"IPVS did not answer: {error}") for op in ops]
