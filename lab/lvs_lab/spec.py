"""What a lab consists of: node specifications, addresses, and what the two halves of the lab hand each other."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Network = Literal["lan", "management"]

LAN4 = ipaddress.IPv4Network("192.168.35.0/24")
LAN6 = ipaddress.IPv6Network("fd35::/64")
MANAGEMENT = ipaddress.IPv4Network("172.30.0.0/24")
CONTROL = ipaddress.IPv4Network("172.31.0.0/24")
"""The lab's own channel to the nodes. It lives in a network namespace of its own inside each node, so that
cutting a node off from everything never takes the lab's hands off it."""

MANAGEMENT_HOST = str(MANAGEMENT[1])
"""The address the sandbox (API server) has on the management network."""

AGENT_PORT = 2602
"""TCP port of the control server on each node's control address."""

INTERFACES: Mapping[str, str] = {"lan": "eth0", "management": "eth1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One machine of the lab. `octet` is the last part of all its addresses (192.168.35.OCTET, fd35::OCTET, …)."""

    name: str
    octet: int
    kubernetes: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int = 256
    persistent: Sequence[str] = ("/var/lib/lvs-operator",)
    """Directories of the node's disk that survive a reboot; all else the node writes lives in its memory."""

    def __post_init__(self) -> None:
        """Refuse an octet that has another meaning. Raises ValueError."""
        if not 2 <= self.octet <= 254:
            raise ValueError(f"node {self.name}: octet must be 2..254, not {self.octet}")

    @property
    def lan_address(self) -> str:
        """IPv4 address on eth0."""
        return str(LAN4[self.octet])

    @property
    def lan_address6(self) -> str:
        """IPv6 address on eth0: the octet's decimal digits, read as hexadecimal, as people write it."""
        return str(LAN6[int(str(self.octet), 16)])

    @property
    def management_address(self) -> str:
        """IPv4 address on eth1."""
        return str(MANAGEMENT[self.octet])

    @property
    def control_address(self) -> str:
        """IPv4 address of the control server; not visible to programs on the node."""
        return str(CONTROL[self.octet])

    def mac(self, network: Literal["lan", "management", "control"] = "lan") -> str:
        """Fixed hardware address: a rebooted node with a new one is unreachable until ARP caches expire."""
        return f"02:00:00:00:{['lan', 'management', 'control'].index(network) + 1:02x}:{self.octet:02x}"


_DIRECTOR = {"lvs-operator.io/director": ""}

DEFAULT_NODES: tuple[NodeSpec, ...] = (
    NodeSpec(name="director-1", octet=11, labels=_DIRECTOR),
    NodeSpec(name="director-2", octet=12, labels=_DIRECTOR),
    NodeSpec(name="storage-1", octet=21),
    NodeSpec(name="storage-2", octet=22),
    NodeSpec(name="storage-3", octet=23),
    NodeSpec(name="control-1", octet=31),
    NodeSpec(name="client-1", octet=51, kubernetes=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What the Kubernetes half needs to know to run in the supervisor's event loop.

    `relay_fd` is a listening TCP socket on 127.0.0.1:`relay_port` of the host's network, made before the sandbox
    was; `binaries` maps etcd, kube-apiserver, kube-controller-manager and kubectl to executables.
    """

    run_dir: Path
    project: Path
    binaries: Mapping[str, Path]
    relay_fd: int
    relay_port: int
    progress: Callable[[str], None]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, through the relay, for programs on the host."""
        return self.run_dir / "kubeconfig"


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended."""

    stdout: str
    stderr: str
    returncode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInfo:
    """A pod as the lab's kubelet stand-in runs it; `pids` are process numbers on the node, 0 when not running."""

    name: str
    namespace: str
    node: str
    phase: str
    ready: bool
    restarts: int
    pids: Mapping[str, int] = field(default_factory=dict)
