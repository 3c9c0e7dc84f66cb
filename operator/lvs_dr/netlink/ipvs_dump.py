"""Reads whole IPVS tables again and again: straight into the caller's types, and nothing twice.

Between two reads of a table hardly anything differs but counters. So the reader keeps, for every entry of the last
read, the bytes in front of its counters together with the key and configuration they mean; bytes that come again
mean the same objects again. That is a cache of decoding, not of the table: each read asks the kernel for all of it.
The same objects also make the comparison with what is wanted cheaper: equality starts with identity.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from lvs_dr.netlink import ipvs_decode
from lvs_dr.netlink.ipvs_attributes import DestinationAttribute
from lvs_dr.netlink.message import ATTRIBUTES_START

ServiceKeyT = TypeVar("ServiceKeyT", bound=tuple[object, ...])
ServiceConfigT = TypeVar("ServiceConfigT", bound=tuple[object, ...])
DestinationConfigT = TypeVar("DestinationConfigT", bound=tuple[object, ...])

_KNOWN: Final = slice(ATTRIBUTES_START, ipvs_decode.COUNTERS_START + 4)
"""From the outer attribute's header to the header of the first counter."""
_COUNTERS: Final = struct.Struct("=III8xQ")
"""From the value of the first counter: active, header, inactive, (persistent), address family as one attribute."""
_COUNTERS_AT: Final = _KNOWN.stop
_TEMPLATES: Final = struct.Struct("=I")
_TEMPLATES_AT: Final = 16  # after active, header, inactive and the header of its own
_INACTIVE_HEADER: Final = struct.unpack("=I", struct.pack("=HH", 8, DestinationAttribute.INACTIVE))[0]
_COUNTER_SIZES: Final = 8
_MEANINGS: Final = 16384
_NO_COUNTERS: Final = (0, 0, 0, 0)
_unpack_counters = _COUNTERS.unpack_from
_new = tuple.__new__

Place = tuple[str, int]
"""Address and port of a destination."""

# size of the message, address family attribute, place, configuration
_Entry = tuple[int, int, Place, DestinationConfigT]


@dataclass(frozen=True, slots=True)
class _Meaning(Generic[DestinationConfigT]):
    """What the bytes of a destination say; the same machine is in many services, with the same bytes."""

    known: bytes
    size: int
    family: int
    place: Place
    config: DestinationConfigT


class TableReader(Generic[ServiceKeyT, ServiceConfigT, DestinationConfigT]):
    """Decodes dumps. The types are named tuples of the caller's own.

    Services have the fields of netlink.ipvs.ServiceKey and ServiceConfig, destination configurations those of
    DestinationConfig. All methods raise MalformedMessage.
    """

    def __init__(
        self,
        service_key: type[ServiceKeyT],
        service_config: type[ServiceConfigT],
        destination_config: type[DestinationConfigT],
    ) -> None:
        self._service_key = service_key
        self._service_config = service_config
        self._destination_config = destination_config
        self._services: dict[bytes, tuple[ServiceKeyT, ServiceConfigT]] = {}
        self._counters: dict[int, bytes] = {}  # size -> header
        self._meanings: dict[bytes, _Meaning[DestinationConfigT]] = {}
        self._destinations: dict[ServiceKeyT, dict[bytes, _Entry[DestinationConfigT]]] = {}
        self._last: dict[ServiceKeyT, Mapping[Place, DestinationConfigT]] = {}
        self.mark_packets: dict[ServiceKeyT, int] = {}
        """How many packets each firewall-mark service of the last read has had."""

    def services(self, messages: Iterable[bytes]) -> tuple[dict[ServiceKeyT, ServiceConfigT], frozenset[ServiceKeyT]]:
        """Read the answer to `get_services`: all services, and the firewall marks that no packet has had so far.

        The kernel adds up its counters every 2 s, and not at all where net.ipv4.vs.run_estimation is 0.
        """
        found: dict[ServiceKeyT, ServiceConfigT] = {}
        packets: dict[ServiceKeyT, int] = {}
        silent: list[ServiceKeyT] = []
        before, self._services = self._services, {}
        for message in messages:
            known = self._without_counters(message)
            entry = before.get(known)
            if entry is None:
                key, config = ipvs_decode.parse_service(message)
                entry = _new(self._service_key, key), _new(self._service_config, config)
                known = self._learn_counters(message)
            self._services[known] = entry
            found[entry[0]] = entry[1]
            if entry[0][3]:
                count = packets[entry[0]] = ipvs_decode.packets_in(message)
                if not count:
                    silent.append(entry[0])
        if len(self._destinations) > len(found):
            self._destinations = {key: one for key, one in self._destinations.items() if key in found}
            self._last = {key: one for key, one in self._last.items() if key in found}
        self.mark_packets = packets
        return found, frozenset(silent)

    def destinations(
        self, service: ServiceKeyT, messages: list[bytes], *, inactive_too: bool
    ) -> tuple[Mapping[Place, DestinationConfigT], dict[Place, int]]:
        """Read the answer to `get_destinations`: how each is set, and its active connections, or all.

        The first mapping is the very same one as in the read before where nothing has changed; it is not to be changed.
        """
        before = self._destinations.get(service)
        if before is None or len(before) > 2 * len(messages) + 16:
            before = self._destinations[service] = {}
        configs: dict[Place, DestinationConfigT] = {}
        connections: dict[Place, int] = {}
        get, where, header = before.get, _COUNTERS_AT, _INACTIVE_HEADER
        for message in messages:
            entry = get(message[_KNOWN])
            if entry is None or entry[0] != len(message):
                self._add(before, message, configs, connections, inactive_too=inactive_too)
                continue
            _, family_known, place, config = entry
            active, inactive_header, inactive, family = _unpack_counters(message, where)
            if family != family_known or inactive_header != header:
                self._add(before, message, configs, connections, inactive_too=inactive_too)
                continue
            configs[place] = config
            connections[place] = active + inactive if inactive_too else active
        last = self._last.get(service)
        if last is not None and last == configs:
            return last, connections
        self._last[service] = configs
        return configs, connections

    def templates(self, service: ServiceKeyT, messages: list[bytes]) -> dict[Place, int]:
        """Read from the same answer, after `destinations`, how many clients persistence remembers for each."""
        known = self._destinations.get(service, {})
        found: dict[Place, int] = {}
        for message in messages:
            entry = known.get(message[_KNOWN])
            if entry is not None and entry[0] == len(message):
                found[entry[2]] = _TEMPLATES.unpack_from(message, _COUNTERS_AT + _TEMPLATES_AT)[0]
            else:
                address, port, *_ = ipvs_decode.parse_destination(message)
                found[address, port] = ipvs_decode.templates(message)
        return found

    def _without_counters(self, message: bytes) -> bytes:
        """Return what says all about a service but its counters; they come last, in one of few sizes."""
        for size, header in self._counters.items():
            if message[-size : 4 - size] == header:
                return message[ATTRIBUTES_START:-size]
        return message

    def _learn_counters(self, message: bytes) -> bytes:
        size = ipvs_decode.statistics_size(message)
        if not size:
            return message
        if len(self._counters) < _COUNTER_SIZES:
            self._counters[size] = message[-size : 4 - size]
        return message[ATTRIBUTES_START:-size]

    def _add(
        self,
        before: dict[bytes, _Entry[DestinationConfigT]],
        message: bytes,
        configs: dict[Place, DestinationConfigT],
        connections: dict[Place, int],
        *,
        inactive_too: bool,
    ) -> None:
        """Take a destination that this service did not have in the read before, or that has changed."""
        known = message[_KNOWN]
        meaning = self._meanings.get(known)
        if meaning is None or meaning.size != len(message):
            meaning = self._decode(message, known)
        active, header, inactive, family = _unpack_counters(message, _COUNTERS_AT) if meaning else _NO_COUNTERS
        if meaning is not None and header == _INACTIVE_HEADER and family == meaning.family:
            place, config = meaning.place, meaning.config
            before[meaning.known] = (meaning.size, family, place, config)
        else:
            address, port, _, found, active, inactive = ipvs_decode.parse_destination(message)
            place = (address, port)
            config = _new(self._destination_config, found)
        configs[place] = config
        connections[place] = active + inactive if inactive_too else active

    def _decode(self, message: bytes, known: bytes) -> "_Meaning[DestinationConfigT] | None":
        """Decode one destination and remember what it says; None where its attributes are not in the usual order."""
        if not ipvs_decode.in_kernel_order(message):
            return None
        address, port, _, config, _, _ = ipvs_decode.parse_destination(message)
        family = _unpack_counters(message, _COUNTERS_AT)[3]
        meaning = _Meaning(known, len(message), family, (address, port), _new(self._destination_config, config))
        if len(self._meanings) >= _MEANINGS:
            self._meanings.clear()
        self._meanings[known] = meaning
        return meaning
