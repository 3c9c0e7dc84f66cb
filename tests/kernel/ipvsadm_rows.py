"""What ipvsadm can say about services and destinations, as CRs and as ipvsadm's own commands; see docs/ipvsadm.md."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """One VirtualService, its real servers by name, and what a person would type instead."""

    options: str  # of ipvsadm, that this row is about
    spec: dict[str, Any]
    servers: dict[str, dict[str, Any]]
    commands: tuple[str, ...]


RIP, RIP2, RIP6, FAR, FAR6 = "192.0.2.21", "192.0.2.22", "2001:db8::21", "203.0.113.21", "2001:db8:9::21"


def _to(*addresses: str, **spec: Any) -> dict[str, dict[str, Any]]:
    return {f"server-{number}": {"addresses": [each], **spec} for number, each in enumerate(addresses, 1)}


def _scheduler(number: int, name: str) -> Row:
    vip = f"192.0.2.{100 + number}"
    return Row(
        f"-s {name}",
        {"address": vip, "ports": [{"port": 80}], "scheduler": name},
        _to(RIP, weight=1),
        (f"-A -t {vip}:80 -s {name}", f"-a -t {vip}:80 -r {RIP}:80 -g -w 1"),
    )


def _flag(number: int, scheduler: str, flags: list[str]) -> Row:
    vip = f"192.0.2.{120 + number}"
    return Row(
        f"-b {','.join(flags)}",
        {"address": vip, "ports": [{"port": 80}], "scheduler": scheduler, "schedulerFlags": flags},
        _to(RIP, weight=1),
        (f"-A -t {vip}:80 -s {scheduler} -b {','.join(flags)}", f"-a -t {vip}:80 -r {RIP}:80 -g -w 1"),
    )


def _tunnel(number: int, said: str, tunnel: dict[str, Any] | None) -> Row:
    vip = f"192.0.2.{140 + number}"
    spec: dict[str, Any] = {"address": vip, "ports": [{"port": 80}], "forwardingMethod": "Tunnel"}
    if tunnel is not None:
        spec["tunnel"] = tunnel
    return Row(
        f"-i {said}".strip(),
        spec,
        _to(FAR),
        (f"-A -t {vip}:80 -s wlc", f"-a -t {vip}:80 -r {FAR}:80 -i {said} -w 100"),
    )


SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh")

ROWS: tuple[Row, ...] = (
    Row(
        "-A -t, -a -r -g -w (defaults)",
        {"address": "192.0.2.50", "ports": [{"port": 443}]},
        _to(RIP, RIP2),
        (
            "-A -t 192.0.2.50:443",
            f"-a -t 192.0.2.50:443 -r {RIP} -g -w 100",
            f"-a -t 192.0.2.50:443 -r {RIP2} -g -w 100",
        ),
    ),
    Row(
        "-u",
        {"address": "192.0.2.51", "ports": [{"port": 53, "protocol": "UDP"}], "scheduler": "rr"},
        _to(RIP),
        ("-A -u 192.0.2.51:53 -s rr", f"-a -u 192.0.2.51:53 -r {RIP} -g -w 100"),
    ),
    Row(
        "--sctp-service",
        {"address": "192.0.2.52", "ports": [{"port": 3868, "protocol": "SCTP"}]},
        _to(RIP),
        ("-A --sctp-service 192.0.2.52:3868", f"-a --sctp-service 192.0.2.52:3868 -r {RIP} -g -w 100"),
    ),
    Row(
        "-t, IPv6",
        {"address": "2001:db8::50", "ports": [{"port": 443}]},
        _to(RIP6),
        ("-A -t [2001:db8::50]:443", f"-a -t [2001:db8::50]:443 -r [{RIP6}]:443 -g -w 100"),
    ),
    Row(
        "-u, IPv6",
        {"address": "2001:db8::51", "ports": [{"port": 53, "protocol": "UDP"}]},
        _to(RIP6),
        ("-A -u [2001:db8::51]:53", f"-a -u [2001:db8::51]:53 -r [{RIP6}]:53 -g -w 100"),
    ),
    Row(
        "--sctp-service, IPv6",
        {"address": "2001:db8::52", "ports": [{"port": 3868, "protocol": "SCTP"}]},
        _to(RIP6),
        ("-A --sctp-service [2001:db8::52]:3868", f"-a --sctp-service [2001:db8::52]:3868 -r [{RIP6}]:3868 -g -w 100"),
    ),
    Row(
        "several -A for one VIP",
        {"address": "192.0.2.53", "ports": [{"port": 80}, {"port": 443}, {"port": 443, "protocol": "UDP"}]},
        _to(RIP),
        tuple(
            f"{command} {kind} 192.0.2.53:{port}{rest}"
            for kind, port in (("-t", 80), ("-t", 443), ("-u", 443))
            for command, rest in (("-A", ""), ("-a", f" -r {RIP} -g -w 100"))
        ),
    ),
    Row(
        "-f",
        {"address": "192.0.2.54", "firewallMark": 7, "scheduler": "sh"},
        _to(RIP, weight=1),
        ("-A -f 7 -s sh", f"-a -f 7 -r {RIP} -g -w 1"),
    ),
    Row(
        "-f -6",
        {"address": "2001:db8::54", "firewallMark": 8},
        _to(RIP6),
        ("-A -f 8 -6", f"-a -f 8 -6 -r [{RIP6}]:0 -g -w 100"),
    ),
    Row(
        "-f, the highest",
        {"address": "192.0.2.55", "firewallMark": 4294967295},
        _to(RIP),
        ("-A -f 4294967295", f"-a -f 4294967295 -r {RIP} -g -w 100"),
    ),
    Row(
        "-t VIP:0 -p",
        {"address": "192.0.2.56", "anyPort": True, "persistence": {}},
        _to(RIP),
        ("-A -t 192.0.2.56:0 -p 300", f"-a -t 192.0.2.56:0 -r {RIP} -g -w 100"),
    ),
    Row(
        "-u VIP:0 -p and -t VIP:0 -p",
        {
            "address": "192.0.2.57",
            "anyPort": True,
            "anyPortProtocols": ["TCP", "UDP"],
            "persistence": {"timeoutSeconds": 60},
        },
        _to(RIP),
        tuple(
            f"{command} {kind} 192.0.2.57:0{rest}"
            for kind in ("-t", "-u")
            for command, rest in (("-A", " -p 60"), ("-a", f" -r {RIP} -g -w 100"))
        ),
    ),
    *(_scheduler(number, name) for number, name in enumerate(SCHEDULERS)),
    _flag(0, "sh", ["sh-fallback"]),
    _flag(1, "sh", ["sh-port"]),
    _flag(2, "sh", ["sh-fallback", "sh-port"]),
    _flag(3, "mh", ["mh-fallback"]),
    _flag(4, "mh", ["mh-port"]),
    _flag(5, "mh", ["mh-fallback", "mh-port"]),
    Row(
        "-p",
        {"address": "192.0.2.60", "ports": [{"port": 80}], "persistence": {"timeoutSeconds": 2678400}},
        _to(RIP),
        ("-A -t 192.0.2.60:80 -p 2678400", f"-a -t 192.0.2.60:80 -r {RIP} -g -w 100"),
    ),
    Row(
        "-p -M",
        {
            "address": "192.0.2.61",
            "ports": [{"port": 80}],
            "persistence": {"timeoutSeconds": 120, "prefixLength": 24},
        },
        _to(RIP),
        ("-A -t 192.0.2.61:80 -p 120 -M 255.255.255.0", f"-a -t 192.0.2.61:80 -r {RIP} -g -w 100"),
    ),
    Row(
        "-p -M, IPv6",
        {
            "address": "2001:db8::61",
            "ports": [{"port": 80}],
            "persistence": {"timeoutSeconds": 120, "prefixLength": 64},
        },
        _to(RIP6),
        ("-A -t [2001:db8::61]:80 -p 120 -M 64", f"-a -t [2001:db8::61]:80 -r [{RIP6}]:80 -g -w 100"),
    ),
    Row(
        "-p --pe sip",
        {
            "address": "192.0.2.62",
            "ports": [{"port": 5060, "protocol": "UDP"}],
            "persistence": {"timeoutSeconds": 60, "engine": "sip"},
        },
        _to(RIP),
        ("-A -u 192.0.2.62:5060 -p 60 --pe sip", f"-a -u 192.0.2.62:5060 -r {RIP} -g -w 100"),
    ),
    Row(
        "-o",
        {"address": "192.0.2.63", "ports": [{"port": 53, "protocol": "UDP"}], "onePacket": True},
        _to(RIP),
        ("-A -u 192.0.2.63:53 -o", f"-a -u 192.0.2.63:53 -r {RIP} -g -w 100"),
    ),
    Row(
        "-w",
        {"address": "192.0.2.64", "ports": [{"port": 80}]},
        {
            "none": {"addresses": [RIP], "weight": 0},
            "one": {"addresses": [RIP2], "weight": 1},
            "most": {"addresses": ["192.0.2.23"], "weight": 65535},
        },
        (
            "-A -t 192.0.2.64:80",
            f"-a -t 192.0.2.64:80 -r {RIP} -g -w 0",
            f"-a -t 192.0.2.64:80 -r {RIP2} -g -w 1",
            "-a -t 192.0.2.64:80 -r 192.0.2.23 -g -w 65535",
        ),
    ),
    Row(
        "-x -y",
        {"address": "192.0.2.65", "ports": [{"port": 80}]},
        {
            "both": {"addresses": [RIP], "connectionLimits": {"upper": 1000, "lower": 900}},
            "upper": {"addresses": [RIP2], "connectionLimits": {"upper": 2147483647}},
        },
        (
            "-A -t 192.0.2.65:80",
            f"-a -t 192.0.2.65:80 -r {RIP} -g -w 100 -x 1000 -y 900",
            f"-a -t 192.0.2.65:80 -r {RIP2} -g -w 100 -x 2147483647",
        ),
    ),
    Row(
        "-m",
        {"address": "192.0.2.66", "ports": [{"port": 80}], "forwardingMethod": "Masquerade"},
        _to(FAR),
        ("-A -t 192.0.2.66:80", f"-a -t 192.0.2.66:80 -r {FAR} -m -w 100"),
    ),
    Row(
        "-m -r RIP:port",
        {"address": "192.0.2.67", "ports": [{"port": 80, "targetPort": 8080}], "forwardingMethod": "Masquerade"},
        _to(FAR),
        ("-A -t 192.0.2.67:80", f"-a -t 192.0.2.67:80 -r {FAR}:8080 -m -w 100"),
    ),
    Row(
        "-m, IPv6",
        {"address": "2001:db8::66", "ports": [{"port": 80}], "forwardingMethod": "Masquerade"},
        _to(FAR6),
        ("-A -t [2001:db8::66]:80", f"-a -t [2001:db8::66]:80 -r [{FAR6}]:80 -m -w 100"),
    ),
    _tunnel(0, "", None),
    _tunnel(1, "--tun-type ipip", {"type": "IPIP"}),
    _tunnel(2, "--tun-type gre", {"type": "GRE"}),
    _tunnel(3, "--tun-type gre --tun-nocsum", {"type": "GRE", "checksum": "None"}),
    _tunnel(4, "--tun-type gre --tun-csum", {"type": "GRE", "checksum": "Checksum"}),
    _tunnel(5, "--tun-type gue --tun-port 6080 --tun-nocsum", {"type": "GUE", "port": 6080}),
    _tunnel(6, "--tun-type gue --tun-port 65535 --tun-csum", {"type": "GUE", "port": 65535, "checksum": "Checksum"}),
    _tunnel(7, "--tun-type gue --tun-port 1 --tun-remcsum", {"type": "GUE", "port": 1, "checksum": "RemoteChecksum"}),
    Row(
        "-i, IPv6 real server of an IPv4 service",
        {"address": "192.0.2.68", "ports": [{"port": 80}], "forwardingMethod": "Tunnel"},
        _to(FAR6),
        ("-A -t 192.0.2.68:80", f"-a -t 192.0.2.68:80 -r [{FAR6}]:80 -i -w 100"),
    ),
    Row(
        "-i, IPv6",
        {"address": "2001:db8::67", "ports": [{"port": 80}], "forwardingMethod": "Tunnel"},
        _to(FAR6),
        ("-A -t [2001:db8::67]:80", f"-a -t [2001:db8::67]:80 -r [{FAR6}]:80 -i -w 100"),
    ),
    Row(
        "-i -f",
        {"address": "192.0.2.69", "firewallMark": 9, "forwardingMethod": "Tunnel", "persistence": {}},
        _to(FAR),
        ("-A -f 9 -p 300", f"-a -f 9 -r {FAR} -i -w 100"),
    ),
    Row(
        "-g, -i and -m in one service",
        {
            "address": "192.0.2.70",
            "ports": [{"port": 80}],
            "realServers": {
                "overrides": [
                    {"name": "far", "forwardingMethod": "Tunnel", "tunnel": {"type": "GUE", "port": 6080}},
                    {"name": "nat", "forwardingMethod": "Masquerade", "weight": 7},
                    {"name": "full", "connectionLimits": {"upper": 20, "lower": 10}},
                ]
            },
        },
        {
            "near": {"addresses": [RIP]},
            "full": {"addresses": [RIP2], "connectionLimits": {"upper": 5}},
            "far": {"addresses": [FAR]},
            "nat": {"addresses": ["203.0.113.22"]},
        },
        (
            "-A -t 192.0.2.70:80",
            f"-a -t 192.0.2.70:80 -r {RIP} -g -w 100",
            f"-a -t 192.0.2.70:80 -r {RIP2} -g -w 100 -x 20 -y 10",
            f"-a -t 192.0.2.70:80 -r {FAR} -i --tun-type gue --tun-port 6080 -w 100",
            "-a -t 192.0.2.70:80 -r 203.0.113.22 -m -w 7",
        ),
    ),
)
