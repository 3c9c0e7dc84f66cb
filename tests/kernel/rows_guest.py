"""Runs inside a lab node, each time in a fresh network namespace: one IPVS table, made in one of three ways.

`agent` makes DirectorTables (JSON on stdin) with the agent's own passes; `ipvsadm` runs commands (a list on stdin);
both print what is then there. `nonsense` tries what makes no sense, and prints what ipvsadm and the kernel said.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.netlink import ipvs_decode as decode
from lvs_dr.netlink import ipvs_encode as encode
from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.ipvs import FAMILY_NAME
from lvs_dr.netlink.socket import GenericNetlinkSocket
from tests.kernel.ipvsadm_nonsense import NONSENSE, Nonsense
from tests.kernel.life import live

LISTINGS = {
    "rules": ["-Sn"],
    "limits": ["-Ln", "--thresholds"],
    "tunnels": ["-Ln", "--tun-info"],
    "persistence": ["-Ln", "--persistent-conn"],
}


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def listed() -> dict[str, list[str]]:
    """Return what ipvsadm shows of the table."""
    return {name: run("ipvsadm", *options).stdout.splitlines() for name, options in LISTINGS.items()}


def by_agent(tables: dict[str, Any]) -> dict[str, Any]:
    """Program tables as a director does; a second pass must find nothing to do."""
    specs = {name: msgspec.convert(raw, DirectorTableSpec) for name, raw in tables.items()}
    role = {"group": "default", "internalAddresses": ["192.0.2.1"], "tables": sorted(tables)}
    spec = msgspec.convert({"decided": True, "director": role}, LVSNodeSpec)
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        seen = live(Path(directory), spec, specs)
    failures = [failure.message for failure in seen.done.failures] if seen.done is not None else ["no pass was made"]
    return {**listed(), "failures": failures}


def by_ipvsadm(commands: list[str]) -> dict[str, Any]:
    """Run ipvsadm once for each command."""
    failures = []
    for command in commands:
        done = run("ipvsadm", *shlex.split(command))
        if done.returncode:
            failures.append(f"ipvsadm {command}: {done.stderr.strip()}")
    return {**listed(), "failures": failures}


def clear() -> None:
    """Empty the table, without starting a process."""
    with GenericNetlinkSocket(FAMILY_NAME) as ipvs:
        found = decode.parse_services(ipvs.dump(encode.get_services()))
        ipvs.transact([encode.delete_service(key) for key in found])


def refused_by_ipvsadm(one: Nonsense) -> tuple[str, list[str]]:
    """Return ipvsadm's words, "" when it took it, and what is then in the kernel."""
    clear()
    for command in one.commands[:-1]:
        run("ipvsadm", *shlex.split(command))
    done = run("ipvsadm", *shlex.split(one.commands[-1]))
    said = (done.stderr.strip() or f"code {done.returncode}").splitlines()[0] if done.returncode else ""
    return said, [] if said else run("ipvsadm", "-Sn").stdout.splitlines()


def refused_by_kernel(one: Nonsense) -> tuple[str, list[str]]:
    """Return the kernel's errno in words, "" when it took it, and what it then has."""
    clear()
    try:
        messages = [encode.new_service(one.service, one.config)]
        if one.destination is not None:
            messages.append(encode.new_destination(one.service, *one.destination))
    except (UnencodableValue, ValueError, OSError) as error:
        return f"not encodable: {error}", []
    if one.written[0]:
        if not any(one.written[0] in each for each in messages):
            raise ValueError(f"{one.what}: there is nothing to be replaced")
        messages = [each.replace(*one.written) for each in messages]
    with GenericNetlinkSocket(FAMILY_NAME) as ipvs:
        refused = ipvs.transact(messages)
    if refused:
        return "; ".join(str(error) for error in refused.values()), []
    return "", run("ipvsadm", "-Sn").stdout.splitlines()


def nonsense() -> list[list[Any]]:
    """Try all that makes no sense."""
    return [[one.what, *refused_by_ipvsadm(one), *refused_by_kernel(one)] for one in NONSENSE]


def main() -> None:
    """Make a table in one of the ways, and print what came of it."""
    for command in (
        "link set lo up",
        "link add eth0 type dummy",
        "link set eth0 up",
        "address add 192.0.2.1/24 dev eth0",
        "address add 2001:db8::1/64 dev eth0 nodad",
        "route add default via 192.0.2.254",
        "-6 route add default via 2001:db8::fe",
    ):
        subprocess.run(["ip", *command.split()], check=True, timeout=20)
    if sys.argv[1] == "nonsense":
        json.dump(nonsense(), sys.stdout)
    else:
        json.dump({"agent": by_agent, "ipvsadm": by_ipvsadm}[sys.argv[1]](json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
