"""Batches: what may be sent in one, and how it is cut. Pure."""

from collections.abc import Iterator, Sequence

from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.message import HEADER_SIZE


def check(messages: Sequence[bytes], longest: int) -> None:
    """Refuse a message that would make the kernel drop the rest of its chunk without an answer."""
    for position, message in enumerate(messages):
        if len(message) < HEADER_SIZE or len(message) % 4 or len(message) > longest:
            raise UnencodableValue(f"message {position} has {len(message)} bytes")


def chunks(messages: Sequence[bytes], longest: int) -> Iterator[tuple[int, int]]:
    """Cut a batch into ranges of at most `longest` bytes."""
    first = size = 0
    for position, message in enumerate(messages):
        if size + len(message) > longest:
            yield first, position
            first, size = position, 0
        size += len(message)
    if first < len(messages):
        yield first, len(messages)
