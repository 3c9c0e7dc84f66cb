"""Events of a real kernel: defined only where there is one (see conftest)."""

import asyncio

from lvs_dr.agent.kernel.events import Events, Hint
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.core.kernel import AddressConfig, AddressKey
from tests.contract.conftest import REAL

if REAL:

    async def test_addresses_and_links_are_heard_of() -> None:
        """A vanished VIP or a new interface would be noticed seconds later than the kernel told."""
        kernel = NodeKernel()
        told: asyncio.Queue[Hint] = asyncio.Queue()
        events = Events(told.put_nowait)
        key = AddressKey("lo", "198.51.100.250")
        async with asyncio.timeout(20):
            assert await told.get() is Hint.RESYNC
            await asyncio.to_thread(kernel.add_address, key, AddressConfig(254))
            assert await told.get() is Hint.ADDRESS_ADDED
            await asyncio.to_thread(kernel.delete_address, key)
            assert await told.get() is Hint.ADDRESS_REMOVED
            change = await asyncio.create_subprocess_exec("ip", "link", "set", "eth0", "mtu", "1400")
            assert await change.wait() == 0
            assert await told.get() is Hint.LINK
        events.close()
        kernel.close()
