"""Every ipvsadm option for services and destinations, said in a CR, makes what ipvsadm makes. And what makes no sense.

The CRs go the whole way: parsed and compiled here as the controller does, programmed by an agent's passes on a node.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lvs_dr.api import translate
from lvs_dr.api.compiled import spec_body
from lvs_dr.core.objects import Invalid, Key, RealServer, VirtualService
from lvs_lab import Lab
from tests.kernel.ipvsadm_nonsense import NONSENSE
from tests.kernel.ipvsadm_rows import ROWS, SCHEDULERS, Row
from tests.unit.core.worlds import Objects, node, status

REPOSITORY = Path(__file__).parents[2]
NODE = "client-1"
"""No agent runs there."""

NETWORKS = ("192.0.2.1/24", "2001:db8::1/64")
SAID = re.compile(
    r"(?<!\S)(-[tufsbpMorgimwxy6]|--sctp-service|--pe|--tun-type|--tun-port|--tun-nocsum|--tun-csum|--tun-remcsum)(?!\S)"
)


def guest(lab: Lab, way: str, given: object = None) -> Any:
    """Make a table on a node, in a network namespace of its own, or try the nonsense."""
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}:{REPOSITORY}", "unshare", "--net", sys.executable, "-B"]
    argv += [str(REPOSITORY / "tests" / "kernel" / "rows_guest.py"), way]
    done = lab.nodes[NODE].run(*argv, stdin=json.dumps(given), timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def body(name: str, spec: dict[str, Any], pool: str) -> dict[str, Any]:
    """Return an object as the API server sends it."""
    return {"metadata": {"name": name, "namespace": "rows", "generation": 1, "labels": {"pool": pool}}, "spec": spec}


def compiled() -> dict[str, Any]:
    """Return the DirectorTable of each row, by its name, as the API server would have it."""
    objects = Objects(node("director-1", "192.0.2.1", director=True))
    objects.settle()
    interfaces = status().interfaces
    report = status(interfaces=tuple(type(each)(name=each.name, addresses=NETWORKS) for each in interfaces))
    objects.report("director-1", report)
    for number, row in enumerate(ROWS):
        pool = f"row-{number}"
        choice = {"selector": {"matchLabels": {"pool": pool}}, **row.spec.get("realServers", {})}
        if "overrides" in choice:
            choice["overrides"] = [{**each, "name": f"{pool}-{each['name']}"} for each in choice["overrides"]]
        service = translate.virtual_service(body(pool, {**row.spec, "realServers": choice}, pool))
        assert isinstance(service, VirtualService), f"{row.options}: {service}"
        servers = [translate.real_server(body(f"{pool}-{name}", spec, pool)) for name, spec in row.servers.items()]
        assert not any(isinstance(each, Invalid) for each in servers), f"{row.options}: {servers}"
        objects.put(service, *(each for each in servers if isinstance(each, RealServer)))
    objects.settle()
    tables = {}
    for number, row in enumerate(ROWS):
        key = Key("rows", f"row-{number}")
        decision = objects.decisions[key]
        assert decision.accepted.ok, f"{row.options}: {decision.accepted}"
        tables[f"rows/{key.name}"] = spec_body(objects.world.tables[key].spec)
    return tables


def test_each_row_makes_what_ipvsadm_makes(lab: Lab) -> None:
    """A user who comes from ipvsadm would get a service that behaves differently from the one they had."""
    ours = guest(lab, "agent", compiled())
    theirs = guest(lab, "ipvsadm", [command for row in ROWS for command in row.commands])
    assert (ours.pop("failures"), theirs.pop("failures")) == ([], [])
    for listing, lines in theirs.items():
        assert sorted(ours[listing]) == sorted(lines), listing
    services = sum(command.startswith("-A") for row in ROWS for command in row.commands)
    assert sum(line.startswith("-A") for line in ours["rules"]) == services


@pytest.mark.parametrize("option", ["-t", "-u", "--sctp-service", "-f", "-6", "-s", "-b", "-p", "-M", "--pe", "-o",
                                    "-r", "-g", "-i", "-m", "-w", "-x", "-y", "--tun-type", "--tun-port",
                                    "--tun-nocsum", "--tun-csum", "--tun-remcsum"])  # fmt: skip
def test_every_option_is_in_a_row(option: str) -> None:
    """An option that no row uses could be lost without anybody noticing."""
    assert any(option in SAID.findall(command) for row in ROWS for command in row.commands)


def test_every_scheduler_and_tunnel_type_is_in_a_row() -> None:
    """The values of an option are part of the mapping as well."""

    def said(row: Row, option: str) -> set[str]:
        return {found for command in row.commands for found in re.findall(rf"{option} (\S+)", command)}

    assert {name for row in ROWS for name in said(row, "-s")} >= set(SCHEDULERS)
    assert {name for row in ROWS for name in said(row, "--tun-type")} == {"ipip", "gre", "gue"}


REFUSED_BY_NEITHER = {
    # ipvsadm writes the service's own port instead, and says nothing.
    "direct routing to another port",
    "tunnel to another port",
    "prefix 0",
    "engine sip with TCP",
    "engine sip without persistence",
    "weight above 65535",
    "the VIP as real server",
    "a multicast VIP",
    "VIP 0.0.0.0",
    "one-packet with a firewall mark",
    "one-packet with persistence",
    "masquerade to any port of a port",
}
REFUSED_BY_KERNEL = {
    "unknown scheduler",
    "unknown engine",
    "IPv6 prefix above 128",
    "weight below 0",
    "lower limit above upper",
    "lower limit without upper",
    "IPv6 real server of IPv4, direct routing",
    "IPv6 real server of IPv4, masquerade",
    "IPv4 real server of IPv6, direct routing",
    "GUE without port",
    "a multicast address as real server",
}
NOT_SAID_TO_THE_KERNEL = {"IPv6 prefix on IPv4", "firewall mark 0", "port above 65535"}
"""There is no room for it in a message: a mask instead of a prefix, no mark, 16 bits."""


def test_who_refuses_what_makes_no_sense(lab: Lab, record_property: Any) -> None:
    """docs/ipvsadm.md says who refuses what: a new kernel or ipvsadm would make it wrong."""
    found = guest(lab, "nonsense")
    assert [each[0] for each in found] == [each.what for each in NONSENSE]
    for what, ipvsadm, made, kernel, _ in found:
        record_property(what, f"ipvsadm: {ipvsadm or 'takes it'} {made if not ipvsadm else ''}; kernel: {kernel}")
    untold = {what for what, _, _, kernel, _ in found if kernel.startswith("not encodable")}
    assert untold == NOT_SAID_TO_THE_KERNEL
    assert {what for what, _, _, kernel, _ in found if kernel} - untold == REFUSED_BY_KERNEL
    neither = {what for what, ipvsadm, _, kernel, _ in found if not ipvsadm and not kernel}
    assert neither == REFUSED_BY_NEITHER
    # Both netmasks are four bytes to ipvsadm: /64 becomes the mask 0.0.0.64, which makes all clients a few.
    assert next(each for each in found if each[0] == "IPv6 prefix on IPv4")[1] == ""
