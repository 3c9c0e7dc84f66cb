"""Runs inside a lab node: plays a list of steps on this kernel's IPVS and prints what each one found, as JSON.

Input on stdin: [[step, argument, ...], ...]. It keeps to a network namespace of its own when started by
`unshare --net`, so nothing that the node serves is touched. Python starts slowly in a lab node: one process plays
a whole test.
"""

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from lvs_dr.agent.kernel.ipvs import Ipvs
from lvs_dr.netlink import ipvs_decode as decode
from lvs_dr.netlink import ipvs_encode as encode
from lvs_dr.netlink.errors import FamilyMissing
from lvs_dr.netlink.ipvs import (
    FAMILY_NAME,
    Command,
    DestinationConfig,
    DestinationKey,
    Forwarding,
    ServiceConfig,
    ServiceKey,
    refusal,
)
from lvs_dr.netlink.message import command_of
from lvs_dr.netlink.socket import GenericNetlinkSocket

MAKERS: dict[str, Callable[..., bytes]] = {
    "new_service": lambda key, config: encode.new_service(ServiceKey(*key), ServiceConfig(*config)),
    "set_service": lambda key, config: encode.set_service(ServiceKey(*key), ServiceConfig(*config)),
    "delete_service": lambda key: encode.delete_service(ServiceKey(*key)),
    "new_destination": lambda service, key, config: encode.new_destination(
        ServiceKey(*service), DestinationKey(*key), DestinationConfig(*config)
    ),
    "set_destination": lambda service, key, config: encode.set_destination(
        ServiceKey(*service), DestinationKey(*key), DestinationConfig(*config)
    ),
    "delete_destination": lambda service, key: encode.delete_destination(ServiceKey(*service), DestinationKey(*key)),
}


def apply(changes: list[list[Any]]) -> dict[int, list[Any]]:
    """Send changes as one batch; errno and refusal by position."""
    messages = [MAKERS[name](*arguments) for name, *arguments in changes]
    with GenericNetlinkSocket(FAMILY_NAME) as ipvs:
        errors = ipvs.transact(messages)
    return {
        position: [error.code, refusal(Command(command_of(messages[position])), error.code)]
        for position, error in errors.items()
    }


def read() -> list[list[Any]]:
    """Read the whole table with the codec: [service, config, [[destination, config], ...]]."""
    with GenericNetlinkSocket(FAMILY_NAME) as ipvs:
        services = decode.parse_services(ipvs.dump(encode.get_services()))
        return [
            [key, config, list(decode.parse_destinations(ipvs.dump(encode.get_destinations(key))).items())]
            for key, config in services.items()
        ]


def reader_read() -> dict[str, Any]:
    """Read the whole table as the agent does, twice, and say where that differs from the codec."""
    agent = Ipvs()
    first, again = agent.read(), agent.read()
    agent.close()
    codec: dict[Any, Any] = {}
    for key, _, destinations in read():
        codec |= {((*key,), one.address, one.port): (*config,) for one, config in destinations}
    found = {((*key.service,), key.address, key.port): (*config,) for key, config in again.destinations.items()}
    return {
        "same as the codec": found == codec and len(again.services) == len(read()),
        "same again": (first.services, first.destinations) == (again.services, again.destinations),
        "silent": sorted(key.mark for key in again.silent_marks),
        "slots": again.slots,
    }


def send_marked(address: str, mark: int) -> None:
    """Send a packet that carries a firewall mark, and wait until the kernel has added up its counters (2 s)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sender.sendto(b"marked", (address, 9))
    deadline = time.monotonic() + 10
    while mark in reader_read()["silent"] and time.monotonic() < deadline:
        time.sleep(0.1)


def connections(service: list[Any]) -> list[list[Any]]:
    """Read the active and inactive connections of a service's destinations."""
    with GenericNetlinkSocket(FAMILY_NAME) as ipvs:
        messages = ipvs.dump(encode.get_destinations(ServiceKey(*service)))
    return [[one[:3], one[-2:]] for one in map(decode.parse_destination, messages)]


def info() -> list[int] | str:
    """Read the version of this kernel's IPVS; looking it up loads the module."""
    try:
        with GenericNetlinkSocket(FAMILY_NAME) as ipvs:
            return list(decode.parse_info(ipvs.request(encode.get_info())).version)
    except FamilyMissing as error:
        return str(error)


def run(*argv: str, stdin: str = "") -> list[Any]:
    """Run a command: [code, output lines, error text]."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return [done.returncode, done.stdout.splitlines(), done.stderr]


def pyroute2_read() -> list[list[Any]]:
    """Read the table with pyroute2, in the form of `read`."""
    from pyroute2 import IPVS  # noqa: PLC0415 - imports for seconds, and only where it is needed
    from pyroute2.ipvs import IPVSService  # noqa: PLC0415

    table = []
    with IPVS() as ipvs:
        for message in ipvs.service("dump"):
            found = dict(message.get("IPVS_CMD_ATTR_SERVICE")["attrs"])
            key, config = _service(found)
            named = {"af": key.family, "fwmark": key.mark} if key.mark else {
                "af": key.family, "addr": key.address, "port": key.port, "protocol": key.protocol
            }  # fmt: skip
            dumped = ipvs.dest("dump", service=IPVSService(**named))
            destinations = [_destination(dict(one.get("IPVS_CMD_ATTR_DEST")["attrs"])) for one in dumped]
            table.append([key, config, destinations])
    return table


def _service(found: dict[str, Any]) -> tuple[ServiceKey, ServiceConfig]:
    family = found["IPVS_SVC_ATTR_AF"]
    mask = socket.inet_aton(found["IPVS_SVC_ATTR_NETMASK"])  # typed as an IPv4 address for both families
    prefix = struct.unpack("=I", mask)[0] if family == socket.AF_INET6 else mask.hex().count("f") * 4
    flags = found["IPVS_SVC_ATTR_FLAGS"]["flags"]
    config = ServiceConfig(
        found["IPVS_SVC_ATTR_SCHED_NAME"], flags & ~3, found["IPVS_SVC_ATTR_TIMEOUT"] if flags & 1 else 0,
        prefix, found.get("IPVS_SVC_ATTR_PE_NAME", ""),
    )  # fmt: skip
    if "IPVS_SVC_ATTR_FWMARK" in found:
        return ServiceKey("", 0, 0, found["IPVS_SVC_ATTR_FWMARK"], family), config
    address, port = found["IPVS_SVC_ATTR_ADDR"], found["IPVS_SVC_ATTR_PORT"]
    return ServiceKey(address, port, found["IPVS_SVC_ATTR_PROTOCOL"], 0, family), config


def _destination(found: dict[str, Any]) -> tuple[DestinationKey, DestinationConfig]:
    value = {name.removeprefix("IPVS_DEST_ATTR_"): each for name, each in found.items()}
    return DestinationKey(value["ADDR"], value["PORT"], value["ADDR_FAMILY"]), DestinationConfig(
        value["WEIGHT"], value["FWD_METHOD"], value["U_THRESH"], value["L_THRESH"],
        value["TUN_TYPE"], socket.ntohs(value["TUN_PORT"]), value["TUN_FLAGS"],
    )  # fmt: skip


def pyroute2_update(service: list[Any]) -> None:
    """Ask pyroute2 to "update" a service."""
    from pyroute2 import IPVS  # noqa: PLC0415
    from pyroute2.ipvs import IPVSService  # noqa: PLC0415

    key = ServiceKey(*service)
    with IPVS() as ipvs:
        ipvs.service("update", service=IPVSService(
            af=key.family, addr=key.address, port=key.port, protocol=key.protocol, sched_name="wrr"
        ))  # fmt: skip


def speed(services: int, destinations: int) -> dict[str, float]:
    """Seconds for a whole table: batch in, dump out, and ipvsadm -R for the same rules."""
    config = ServiceConfig("rr", 0, 0, 32, "")
    direct = DestinationConfig(100, Forwarding.DIRECT_ROUTING, 0, 0, 0, 0, 0)
    keys = [ServiceKey(f"10.9.{n >> 8}.{n & 255}", 80, 6, 0, socket.AF_INET) for n in range(services)]
    servers = [DestinationKey(f"10.1.{n >> 8}.{n & 255}", 80, socket.AF_INET) for n in range(destinations)]
    stamps = [time.perf_counter()]
    with GenericNetlinkSocket(FAMILY_NAME) as ipvs:
        batch = []
        for key in keys:
            batch.append(encode.new_service(key, config))
            batch += [encode.new_destination(key, server, direct) for server in servers]
        stamps.append(time.perf_counter())
        errors = ipvs.transact(batch)
        stamps.append(time.perf_counter())
        dumped = [ipvs.dump(encode.get_destinations(key)) for key in keys]
        stamps.append(time.perf_counter())
        parsed = sum(len(decode.parse_destinations(each)) for each in dumped)
        stamps.append(time.perf_counter())
    rules = "\n".join(run("ipvsadm", "-Sn")[1]) + "\n"
    run("ipvsadm", "-C")
    before = time.perf_counter()
    restored = run("ipvsadm", "-R", stdin=rules)[0]
    stamps.append(time.perf_counter())
    names = ("encode", "batch", "dump", "parse")
    spans = {name: stop - start for name, start, stop in zip(names, stamps, stamps[1:], strict=False)}
    return {**spans, "ipvsadm": stamps[-1] - before, "entries": parsed, "failed": len(errors) + restored}


STEPS: dict[str, Callable[..., Any]] = {
    "apply": lambda *changes: apply(list(changes)),
    "connections": connections,
    "info": info,
    "pyroute2_read": pyroute2_read,
    "pyroute2_update": pyroute2_update,
    "read": read,
    "reader_read": reader_read,
    "run": run,
    "send_marked": send_marked,
    "speed": speed,
}

if __name__ == "__main__":
    json.dump([STEPS[name](*arguments) for name, *arguments in json.load(sys.stdin)], sys.stdout)
