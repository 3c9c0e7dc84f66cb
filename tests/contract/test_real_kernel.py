"""What only a real kernel can show: defined only where there is one (see conftest)."""

import asyncio
import subprocess
from concurrent.futures import ThreadPoolExecutor

from lvs_dr.agent.kernel.dumps import Dumps
from lvs_dr.agent.kernel.events import Events, Hint
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.core.kernel import AddressConfig, AddressKey, AddressOp, Verb
from tests.contract.conftest import REAL

if REAL:

    async def test_addresses_and_links_are_heard_of() -> None:
        """A vanished VIP or a new interface would be noticed seconds later than the kernel told."""
        kernel = NodeKernel()
        told: asyncio.Queue[Hint] = asyncio.Queue()
        events = Events(told.put_nowait)
        loop, worker = asyncio.get_running_loop(), ThreadPoolExecutor(max_workers=1)
        key = AddressKey("lo", "198.51.100.250")
        async with asyncio.timeout(20):
            assert await told.get() is Hint.RESYNC
            add = await asyncio.create_subprocess_exec("ip", "address", "add", "198.51.100.249/31", "dev", "lo")
            assert await add.wait() == 0
            assert await told.get() is Hint.ADDRESS_ADDED
            # New host addresses are not heard of: the speaker renews those of its VIPs again and again.
            for op in (AddressOp(Verb.ADD, key, AddressConfig(254)), AddressOp(Verb.DELETE, key)):
                assert await loop.run_in_executor(worker, kernel.apply, (op,)) == ()
            assert await told.get() is Hint.ADDRESS_REMOVED
            change = await asyncio.create_subprocess_exec("ip", "link", "set", "eth0", "mtu", "1400")
            assert await change.wait() == 0
            assert await told.get() is Hint.LINK
        events.close()
        await loop.run_in_executor(worker, kernel.close)
        worker.shutdown()

    def test_the_dumps_agree_with_pyroute2() -> None:
        """Addresses, interfaces or gateways would be read wrongly by our own few lines."""
        from pyroute2 import IPRoute  # noqa: PLC0415 - not loaded where it is not needed

        for command in (
            "ip link add tunnel0 type dummy",
            "ip link set tunnel0 up",
            "ip address add 203.0.113.1 peer 203.0.113.2 dev tunnel0",
            "ip route add 203.0.113.128/25 nexthop via 192.0.2.7 dev eth0 nexthop via 192.0.2.8 dev eth0",
            "ip -6 route add 2001:db8:9::/64 via 2001:db8::99",
            "ip route add 203.0.113.64/26 via inet6 2001:db8::98 dev eth0",
        ):
            subprocess.run(command.split(), check=True, timeout=20)
        dumps = Dumps()
        with IPRoute() as oracle:
            addresses = {
                (one["index"], one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS"), one["prefixlen"], one["scope"])
                for one in oracle.get_addr()
            }
            links = {(one["index"], one.get_attr("IFLA_IFNAME"), one["flags"]) for one in oracle.get_links()}
        found = dumps.addresses()
        assert {(one.interface, one.address, one.prefix_length, one.scope) for one in found} == addresses
        assert {(one.interface, one.name, one.flags) for one in dumps.links()} == links
        gateways = {hop for family in (2, 10) for route in dumps.routes(family) for hop in route.gateways}
        assert {"192.0.2.254", "192.0.2.7", "192.0.2.8", "2001:db8::99", "2001:db8::98"} <= gateways
        assert all(route.kind == 6 for family in (2, 10) for route in dumps.routes(family, 6))
        dumps.close()
