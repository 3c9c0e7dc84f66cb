"""What the agent reports of shared settings and tunnels, so that the controller can act on it."""

from typing import Any

from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.kernel import TunnelConfig, TunnelKey
from lvs_dr.core.settings import TCP, sysctl_key
from tests.unit.agent.bench import BACKEND, DIRECTOR, VIP, Bench

RIP = "192.0.2.1"
DEVICE = TunnelKey("lvsipipc0000201")
WITH_TUNNELS: dict[str, Any] = {
    **BACKEND,
    "backendTunnels": [
        {"address": RIP, "tunnel": {}},
        {"address": RIP, "tunnel": {"type": "GUE", "port": 6080}},
    ],
}
WITH_SETTINGS: dict[str, Any] = {
    **DIRECTOR,
    "director": {
        **DIRECTOR["director"],
        "settings": {"tcpSeconds": 7200, "sysctls": [{"name": "conn_reuse_mode", "value": 2}]},
    },
}
REUSE = sysctl_key("conn_reuse_mode")


def reasons(status: dict[str, Any]) -> dict[str, str]:
    """Return the problems of a status, reason -> message."""
    return {one["reason"]: one["message"] for one in status.get("problems", [])}


async def test_a_real_server_says_which_tunnels_are_ready(bench: Bench) -> None:
    """The controller would never let a tunnelled real server into a table."""
    async with bench.running():
        await bench.node(WITH_TUNNELS)
        told = await bench.api.status_where(lambda status: len(status.get("tunnels", [])) == 2)
        assert told["tunnels"] == WITH_TUNNELS["backendTunnels"]
        assert bench.on_lo() == {VIP}
        bench.kernel.tunnels.clear()
        await bench.until(lambda: DEVICE in bench.kernel.tunnels)
        await bench.api.status_where(lambda status: status.get("repairs", 0) > 0)
        await bench.node(BACKEND)
        await bench.until(lambda: not bench.kernel.tunnels and not bench.kernel.gue_ports)
        await bench.api.status_where(lambda status: not status.get("tunnels"))


async def test_a_missing_module_is_named(bench: Bench) -> None:
    """The user would look for the mistake in the objects."""
    bench.kernel.has_fou = False
    async with bench.running():
        await bench.node(WITH_TUNNELS)
        told = await bench.api.status_where(lambda status: "TunnelUnavailable" in reasons(status))
        assert "modprobe fou" in reasons(told)["TunnelUnavailable"]
        told = await bench.api.status_where(lambda status: bool(status.get("tunnels")))
        assert told["tunnels"] == WITH_TUNNELS["backendTunnels"][:1]


async def test_a_device_of_somebody_else_is_reported(bench: Bench) -> None:
    """The user would see a tunnel that never gets ready, and no reason."""
    bench.kernel.tunnels[DEVICE] = TunnelConfig("ipip", RIP)
    async with bench.running():
        await bench.node(WITH_TUNNELS)
        told = await bench.api.status_where(lambda status: "TunnelUnavailable" in reasons(status))
        assert DEVICE.name in reasons(told)["TunnelUnavailable"]
        assert not told.get("tunnels")


async def test_settings_reach_the_kernel_and_leave_it(bench: Bench) -> None:
    """A DirectorGroup's timeouts would be words only, or stay when the node directs no more."""
    async with bench.running():
        await bench.node(WITH_SETTINGS)
        await bench.table()
        await bench.until(lambda: bench.kernel.timeouts[TCP] == 7200 and bench.kernel.settings[REUSE] == "2")
        await bench.node({"decided": True})
        await bench.until(lambda: bench.kernel.timeouts[TCP] == 900 and bench.kernel.settings[REUSE] == "0")


async def test_settings_of_kube_proxy_are_a_conflict_that_is_reported(bench: Bench) -> None:
    """The agent would change what all Services of the cluster share, or say that all is well."""
    bench.kernel.links["kube-ipvs0"] = Interface(9, "kube-ipvs0", "", True, ("10.96.0.1/32",))
    async with bench.running():
        await bench.node(WITH_SETTINGS)
        await bench.table()
        told = await bench.api.status_where(lambda status: "SharedSettingConflict" in reasons(status))
        assert "kube-proxy" in reasons(told)["SharedSettingConflict"]
        assert bench.kernel.timeouts[TCP] == 900
        bench.kernel.timeouts[TCP], bench.kernel.settings[REUSE] = 7200, "2"
        await bench.api.status_where(lambda status: "SharedSettingConflict" not in reasons(status))


async def test_a_fight_over_a_setting_ends(bench: Bench) -> None:
    """Two programs would change the timeouts of everybody's connections for ever."""
    settings = {**DIRECTOR["director"], "settings": {"tcpSeconds": 7200}}
    async with bench.running():
        await bench.node({**DIRECTOR, "director": settings})
        await bench.table()

        def undo() -> bool:
            bench.kernel.timeouts[TCP] = 60
            return bool(bench.agent.node_pass.drift.conflicts())

        await bench.until(undo, seconds=15)
        told = await bench.api.status_where(lambda status: "SharedSettingConflict" in reasons(status))
        assert "timeout tcp" in reasons(told)["SharedSettingConflict"]
        await bench.passes(3)
        assert bench.kernel.timeouts[TCP] == 60
