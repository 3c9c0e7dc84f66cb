"""The kernel from the event loop: one worker thread makes all calls, each within a time limit."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lvs_dr.agent.kernel.protocol import Interface, Kernel
from lvs_dr.core.arp_settings import ARP_KEYS
from lvs_dr.core.kernel import Failure, KernelState, MarkUse, Op, ServiceKey, SysctlKey
from lvs_dr.core.scope import Scope
from lvs_dr.core.suspicions import OwnView

CALL_SECONDS = 20.0

T = TypeVar("T")


class KernelStuckError(Exception):
    """A call into the kernel has not come back. Nothing more can be done here until it does."""


class KernelDoor:
    """Wraps a `Kernel` for the event loop."""

    def __init__(self, kernel: Kernel, *, seconds: float = CALL_SECONDS) -> None:
        self._kernel = kernel
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._began: float | None = None  # when the call now in the thread started

    @property
    def stuck(self) -> bool:
        """Whether a call is out for longer than its limit."""
        began = self._began
        return began is not None and time.monotonic() - began > self._seconds

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function of the kernel in its thread. Raises KernelStuckError, or what the function raises."""
        if self.stuck:
            raise KernelStuckError(f"a kernel call has not returned for more than {self._seconds:.0f} s")
        future = asyncio.wrap_future(self._thread.submit(self._timed, function, arguments))
        done, _ = await asyncio.wait({future}, timeout=self._seconds)
        if not done:
            future.add_done_callback(_forget)
            raise KernelStuckError(f"a kernel call did not return within {self._seconds:.0f} s")
        return future.result()

    def _timed(self, function: Callable[..., T], arguments: Sequence[object]) -> T:
        self._began = time.monotonic()
        try:
            return function(*arguments)
        finally:
            self._began = None

    async def read(self, addresses: frozenset[str], parts: Scope) -> KernelState:
        """Read the state of one pass."""
        return await self.call(self._kernel.read, addresses, parts)

    async def apply(self, ops: Sequence[Op]) -> tuple[Failure, ...]:
        """Carry out operations."""
        return await self.call(self._kernel.apply, ops)

    async def mark_use(self, service: ServiceKey) -> MarkUse | None:
        """Read one firewall-mark service."""
        return await self.call(self._kernel.mark_use, service)

    async def read_sysctls(self, keys: Sequence[SysctlKey] = ARP_KEYS) -> Mapping[SysctlKey, str]:
        """Read settings of interfaces."""
        return await self.call(self._kernel.read_sysctls, keys)

    async def surroundings(self) -> tuple[tuple[Interface, ...], tuple[str, ...]]:
        """Read the interfaces and the next hops."""
        return await self.call(lambda: (self._kernel.interfaces(), self._kernel.next_hops()))

    async def own_view(self, interfaces: Collection[str]) -> OwnView:
        """Read what may keep clients of VIPs from an answer."""
        return await self.call(self._kernel.own_view, interfaces)

    def close(self) -> None:
        """Close the kernel's sockets in its thread; a stuck thread is left behind."""
        if not self.stuck:
            self._thread.submit(self._kernel.close)
        self._thread.shutdown(wait=not self.stuck)


def _forget(future: asyncio.Future[T]) -> None:
    """Look at a result that came too late, so that nothing complains that nobody did."""
    if not future.cancelled():
        future.exception()
