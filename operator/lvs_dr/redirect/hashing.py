"""sh, dh and mh: who gets a request depends on client or path alone. Pure; equal on every director.

Sources: net/netfilter/ipvs/ip_vs_{sh,dh,mh}.c, include/linux/hash.h; M. Eisenbud et al., Maglev, NSDI 2016, 3.4.
`sh` hashes addresses exactly as the kernel does. `mh` has the kernel's table size and turns, with another hash.
"""

from collections.abc import Sequence
from functools import reduce
from hashlib import blake2b
from math import gcd
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from lvs_dr.redirect.algorithms import Asked, Candidate

SLOTS: Final = 256  # IP_VS_SH_TAB_BITS, IP_VS_DH_TAB_BITS
_SLOT_BITS: Final = 8
_GOLDEN_RATIO_32: Final = 0x61C88647
_WORD: Final = 4

MH_SLOTS: Final = 4093  # the prime of CONFIG_IP_VS_MH_TAB_INDEX 12, the kernel's default
_MH_TURN_BITS: Final = 6  # half of the index: turns are shifted down until they fit


def source_slot(client: bytes) -> int:
    """Return the slot of a packed IPv4 or IPv6 address (ip_vs_sh_hashkey without port and offset)."""
    words = (int.from_bytes(client[at : at + _WORD], "big") for at in range(0, len(client), _WORD))
    folded = reduce(int.__xor__, words, 0)
    return (folded * _GOLDEN_RATIO_32 & 0xFFFFFFFF) >> (32 - _SLOT_BITS)


class _Table:
    """A table of slots, made anew when the candidates are others."""

    def __init__(self) -> None:
        self._made_for: tuple[tuple[str, int], ...] | None = None
        self._slots: list[int] = []

    def _pick(self, candidates: Sequence["Candidate"], slot: int) -> "Candidate | None":
        """Return who has the slot; the next ones that are not full take its place."""
        made_for = tuple((one.name, one.weight) for one in candidates)
        if made_for != self._made_for:
            self._made_for, self._slots = made_for, self._fill(candidates)
        slots = self._slots
        if not slots:
            return None
        one = candidates[slots[slot]]
        if not one.full:
            return one
        if all(each.full for each in candidates):
            return None
        behind = (candidates[slots[(slot + step) % len(slots)]] for step in range(1, len(slots)))
        return next((each for each in behind if not each.full), None)

    def _fill(self, candidates: Sequence["Candidate"]) -> list[int]:
        raise NotImplementedError


class SourceHashing(_Table):
    """sh: a client address keeps its real server; slots are handed out by weight."""

    def choose(self, candidates: Sequence["Candidate"], asked: "Asked") -> "Candidate | None":
        """Return who has the client's slot."""
        return self._pick(candidates, source_slot(asked.client))

    def _fill(self, candidates: Sequence["Candidate"]) -> list[int]:
        """Share the slots in proportion: in the kernel the first weights may use them all up (see core.weights)."""
        total = sum(one.weight for one in candidates)
        common = gcd(*(one.weight for one in candidates))
        if not total:
            return []
        if total // common <= SLOTS:  # as the kernel does with these weights
            turn = [index for index, one in enumerate(candidates) for _ in range(one.weight // common)]
            return [turn[slot % len(turn)] for slot in range(SLOTS)]
        slots: list[int] = []
        passed = 0
        for index, one in enumerate(candidates):
            passed += one.weight
            slots += [index] * (passed * SLOTS // total - len(slots))
        return slots


class DestinationHashing(_Table):
    """dh: a path keeps its real server; weights do not count."""

    def choose(self, candidates: Sequence["Candidate"], asked: "Asked") -> "Candidate | None":
        """Return who has the path's slot."""
        return self._pick(candidates, crc32(asked.resource) % SLOTS)

    def _fill(self, candidates: Sequence["Candidate"]) -> list[int]:
        return [slot % len(candidates) for slot in range(SLOTS)] if candidates else []


class Maglev(_Table):
    """mh: as sh, and when a real server comes or goes nearly all other clients keep theirs."""

    def choose(self, candidates: Sequence["Candidate"], asked: "Asked") -> "Candidate | None":
        """Return who has the client's slot."""
        return self._pick(candidates, _number(asked.client) % MH_SLOTS)

    def _fill(self, candidates: Sequence["Candidate"]) -> list[int]:
        if not candidates:
            return []
        turns = _turns([one.weight for one in candidates])
        hashes = [_number(one.address.encode()) for one in candidates]
        positions = [value % MH_SLOTS for value in hashes]
        strides = [(value >> 32) % (MH_SLOTS - 1) + 1 for value in hashes]
        slots, left = [-1] * MH_SLOTS, MH_SLOTS
        while True:
            for index in range(len(candidates)):
                position, stride = positions[index], strides[index]
                for _ in range(turns[index]):
                    while slots[position] >= 0:
                        position = (position + stride) % MH_SLOTS
                    slots[position] = index
                    left -= 1
                    if not left:
                        return slots
                positions[index] = position


def _turns(weights: Sequence[int]) -> list[int]:
    """Return how many slots each gets in a round: at least one, and few enough for rounds to mix."""
    common = gcd(*weights)
    shift = max(0, (max(weights) // common).bit_length() - _MH_TURN_BITS)
    return [max(1, weight // common >> shift) for weight in weights]


def _number(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8, person=b"lvs-mh").digest(), "big")
