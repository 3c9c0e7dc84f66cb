"""Combinations that make no sense, as ipvsadm's commands and as they reach the kernel; see docs/ipvsadm.md."""

import struct
from typing import NamedTuple

from lvs_dr.netlink.ipvs import DestinationConfig, DestinationKey, ServiceConfig, ServiceKey


class Nonsense(NamedTuple):
    """A combination that makes no sense: as ipvsadm's commands (the last is tried), and as it reaches the kernel."""

    what: str
    commands: tuple[str, ...]
    service: ServiceKey
    config: ServiceConfig
    destination: tuple[DestinationKey, DestinationConfig] | None = None
    written: tuple[bytes, bytes] = (b"", b"")  # bytes of the messages, and what takes their place: past our codec


TCP, UDP = ServiceKey("192.0.2.50", 80, 6, 0, 2), ServiceKey("192.0.2.50", 53, 17, 0, 2)
TCP6, MARK = ServiceKey("2001:db8::50", 80, 6, 0, 10), ServiceKey("", 0, 0, 7, 2)
PLAIN, PLAIN6 = ServiceConfig("wlc", 0, 0, 32, ""), ServiceConfig("wlc", 0, 0, 128, "")
ADD, ADDED = "-A -t 192.0.2.50:80", "-a -t 192.0.2.50:80 -r 192.0.2.21"
ONE_PACKET, SCHEDULER_2 = 4, 16
MASQUERADE, TUNNEL, DIRECT = 0, 2, 3
IPIP, GUE, GRE = 0, 1, 2


def _to4(port: int = 80, method: int = DIRECT, **given: int) -> tuple[DestinationKey, DestinationConfig]:
    return DestinationKey("192.0.2.21", port, 2), DestinationConfig(
        given.get("weight", 1),
        method,
        given.get("upper", 0),
        given.get("lower", 0),
        given.get("tunnel", IPIP),
        given.get("tunnel_port", 0),
        given.get("flags", 0),
    )


def _at(address: str, method: int = DIRECT) -> tuple[DestinationKey, DestinationConfig]:
    key = DestinationKey(address, 80, 10 if ":" in address else 2)
    return key, DestinationConfig(1, method, 0, 0, 0, 0, 0)


NONSENSE: tuple[Nonsense, ...] = (
    Nonsense("direct routing to another port", (ADD, f"{ADDED}:8080 -g"), TCP, PLAIN, _to4(8080)),
    Nonsense("tunnel to another port", (ADD, f"{ADDED}:8080 -i"), TCP, PLAIN, _to4(8080, TUNNEL)),
    Nonsense("one-packet with TCP", ("-A -t 192.0.2.50:80 -o",), TCP, ServiceConfig("wlc", ONE_PACKET, 0, 32, "")),
    Nonsense(
        "one-packet with SCTP",
        ("-A --sctp-service 192.0.2.50:80 -o",),
        ServiceKey("192.0.2.50", 80, 132, 0, 2),
        ServiceConfig("wlc", ONE_PACKET, 0, 32, ""),
    ),
    Nonsense("any port without persistence", ("-A -t 192.0.2.50:0",), ServiceKey("192.0.2.50", 0, 6, 0, 2), PLAIN),
    Nonsense("IPv6 prefix on IPv4", ("-A -t 192.0.2.50:80 -p 60 -M 64",), TCP, ServiceConfig("wlc", 0, 60, 64, "")),
    Nonsense("prefix 0", ("-A -t 192.0.2.50:80 -p 60 -M 0.0.0.0",), TCP, ServiceConfig("wlc", 0, 60, 0, "")),
    Nonsense(
        "IPv6 prefix above 128",
        ("-A -t [2001:db8::50]:80 -p 60 -M 129",),
        TCP6,
        ServiceConfig("wlc", 0, 60, 93, ""),
        written=(struct.pack("=I", 93), struct.pack("=I", 129)),
    ),
    Nonsense(
        "flag of another scheduler",
        ("-A -t 192.0.2.50:80 -s rr -b sh-port",),
        TCP,
        ServiceConfig("rr", SCHEDULER_2, 0, 32, ""),
    ),
    Nonsense("unknown scheduler", ("-A -t 192.0.2.50:80 -s wwrr",), TCP, ServiceConfig("wwrr", 0, 0, 32, "")),
    Nonsense("unknown engine", ("-A -u 192.0.2.50:53 -p 60 --pe http",), UDP, ServiceConfig("wlc", 0, 60, 32, "http")),
    Nonsense(
        "engine sip with TCP", ("-A -t 192.0.2.50:80 -p 60 --pe sip",), TCP, ServiceConfig("wlc", 0, 60, 32, "sip")
    ),
    Nonsense(
        "engine sip without persistence", ("-A -u 192.0.2.50:53 --pe sip",), UDP, ServiceConfig("wlc", 0, 0, 32, "sip")
    ),
    Nonsense("persistence of 0 s", ("-A -t 192.0.2.50:80 -p 0",), TCP, ServiceConfig("wlc", 1, 0, 32, "")),
    Nonsense(
        "persistence above 31 days", ("-A -t 192.0.2.50:80 -p 2678401",), TCP, ServiceConfig("wlc", 0, 2678401, 32, "")
    ),
    Nonsense("firewall mark 0", ("-A -f 0",), ServiceKey("", 0, 0, 0, 2), PLAIN),
    Nonsense("port above 65535", ("-A -t 192.0.2.50:70000",), ServiceKey("192.0.2.50", 70000, 6, 0, 2), PLAIN),
    Nonsense(
        "weight below 0",
        (ADD, f"{ADDED} -w -1"),
        TCP,
        PLAIN,
        _to4(weight=0x5A5A5A5A),
        written=(struct.pack("=i", 0x5A5A5A5A), struct.pack("=i", -1)),
    ),
    Nonsense("weight above 65535", (ADD, f"{ADDED} -w 65536"), TCP, PLAIN, _to4(weight=65536)),
    Nonsense("lower limit above upper", (ADD, f"{ADDED} -x 5 -y 10"), TCP, PLAIN, _to4(upper=5, lower=10)),
    Nonsense("lower limit without upper", (ADD, f"{ADDED} -y 10"), TCP, PLAIN, _to4(lower=10)),
    Nonsense(
        "IPv6 real server of IPv4, direct routing",
        (ADD, "-a -t 192.0.2.50:80 -r [2001:db8::21]:80 -g"),
        TCP,
        PLAIN,
        _at("2001:db8::21"),
    ),
    Nonsense(
        "IPv6 real server of IPv4, masquerade",
        (ADD, "-a -t 192.0.2.50:80 -r [2001:db8::21]:80 -m"),
        TCP,
        PLAIN,
        _at("2001:db8::21", MASQUERADE),
    ),
    Nonsense(
        "IPv4 real server of IPv6, direct routing",
        ("-A -t [2001:db8::50]:80", "-a -t [2001:db8::50]:80 -r 192.0.2.21 -g"),
        TCP6,
        PLAIN6,
        _at("192.0.2.21"),
    ),
    Nonsense("GUE without port", (ADD, f"{ADDED} -i --tun-type gue"), TCP, PLAIN, _to4(method=TUNNEL, tunnel=GUE)),
    Nonsense(
        "IPIP with port",
        (ADD, f"{ADDED} -i --tun-type ipip --tun-port 6080"),
        TCP,
        PLAIN,
        _to4(method=TUNNEL, tunnel_port=6080),
    ),
    Nonsense(
        "IPIP with checksum", (ADD, f"{ADDED} -i --tun-type ipip --tun-csum"), TCP, PLAIN, _to4(method=TUNNEL, flags=1)
    ),
    Nonsense(
        "GRE with port",
        (ADD, f"{ADDED} -i --tun-type gre --tun-port 6080"),
        TCP,
        PLAIN,
        _to4(method=TUNNEL, tunnel=GRE, tunnel_port=6080),
    ),
    Nonsense(
        "GRE with remote checksum",
        (ADD, f"{ADDED} -i --tun-type gre --tun-remcsum"),
        TCP,
        PLAIN,
        _to4(method=TUNNEL, tunnel=GRE, flags=2),
    ),
    Nonsense(
        "tunnel options without tunnel",
        (ADD, f"{ADDED} -g --tun-type gue --tun-port 6080"),
        TCP,
        PLAIN,
        _to4(tunnel=GUE, tunnel_port=6080),
    ),
    Nonsense("unknown tunnel type", (ADD, f"{ADDED} -i --tun-type l2tp"), TCP, PLAIN, _to4(method=TUNNEL, tunnel=9)),
    Nonsense(
        "a multicast address as real server",
        (ADD, "-a -t 192.0.2.50:80 -r 224.0.0.1 -g"),
        TCP,
        PLAIN,
        _at("224.0.0.1"),
    ),
    Nonsense("the VIP as real server", (ADD, "-a -t 192.0.2.50:80 -r 192.0.2.50 -g"), TCP, PLAIN, _at("192.0.2.50")),
    Nonsense("a multicast VIP", ("-A -t 224.0.0.1:80",), ServiceKey("224.0.0.1", 80, 6, 0, 2), PLAIN),
    Nonsense("VIP 0.0.0.0", ("-A -t 0.0.0.0:80",), ServiceKey("0.0.0.0", 80, 6, 0, 2), PLAIN),
    Nonsense("one-packet with a firewall mark", ("-A -f 7 -o",), MARK, ServiceConfig("wlc", ONE_PACKET, 0, 32, "")),
    Nonsense(
        "one-packet with persistence",
        ("-A -u 192.0.2.50:53 -o -p 60",),
        UDP,
        ServiceConfig("wlc", ONE_PACKET, 60, 32, ""),
    ),
    Nonsense(
        "masquerade to any port of a port",
        (ADD, f"{ADDED}:0 -m"),
        TCP,
        PLAIN,
        _to4(0, MASQUERADE),
    ),
)
