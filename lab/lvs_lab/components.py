"""Command lines of etcd, kube-apiserver and kube-controller-manager, and the key that signs ServiceAccount tokens."""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SERVICE_RANGE = "10.96.0.0/16"
ADMIN, CONTROLLER_MANAGER = "admin", "kube-controller-manager"


def _fresh_tokens(*users: str) -> dict[str, str]:
    return {user: secrets.token_hex(16) for user in users}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where one control plane listens and keeps its files."""

    directory: Path
    binaries: Mapping[str, Path]
    """Executables of etcd, kube-apiserver, kube-controller-manager and kubectl."""
    address: str = "127.0.0.1"
    api_port: int = 6443
    etcd_port: int = 2379
    etcd_peer_port: int = 2380
    tokens: dict[str, str] = field(default_factory=lambda: _fresh_tokens(ADMIN, CONTROLLER_MANAGER))

    @property
    def certificate(self) -> Path:
        """The API server's certificate followed by the authority that signed it (made by the API server)."""
        return self.directory / "certs" / "apiserver.crt"

    @property
    def signing_key(self) -> Path:
        """Private key that signs and verifies ServiceAccount tokens."""
        return self.directory / "service-account.key"

    @property
    def token_file(self) -> Path:
        """Bearer tokens of administrator and controller-manager, in the form `--token-auth-file` takes."""
        return self.directory / "tokens.csv"

    @property
    def controller_manager_kubeconfig(self) -> Path:
        """Kubeconfig the controller-manager is started with."""
        return self.directory / "controller-manager.kubeconfig"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{self.api_port}"

    @property
    def etcd(self) -> str:
        """URL of etcd; it listens on loopback only and without TLS."""
        return f"http://127.0.0.1:{self.etcd_port}"

    def prepare(self) -> None:
        """Write tokens and signing key."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        rows = [f'{token},system:{user},{user},"system:masters"' for user, token in self.tokens.items()]
        self.token_file.write_text("\n".join(rows) + "\n")
        self.signing_key.write_text(p256_private_key_pem())


def p256_private_key_pem() -> str:
    """Make a fresh P-256 private key (RFC 5915, ECPrivateKey with named curve and without the public key)."""
    scalar = (secrets.randbelow(P256_ORDER - 1) + 1).to_bytes(32, "big")
    curve = bytes.fromhex("a00a06082a8648ce3d030107")  # [0] { OID prime256v1 }
    inner = b"\x02\x01\x01" + b"\x04\x20" + scalar + curve
    text = base64.b64encode(b"\x30" + bytes([len(inner)]) + inner).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *lines, "-----END EC PRIVATE KEY-----", ""])


def etcd_argv(layout: Layout) -> list[str]:
    """Etcd without fsync: the data is thrown away with the lab."""
    peer = f"http://127.0.0.1:{layout.etcd_peer_port}"
    return [
        str(layout.binaries["etcd"]),
        f"--data-dir={layout.directory / 'etcd'}",
        f"--listen-client-urls={layout.etcd}",
        f"--advertise-client-urls={layout.etcd}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server_argv(layout: Layout) -> list[str]:
    """kube-apiserver with RBAC, Node authorization and ServiceAccount admission, as in production."""
    return [
        str(layout.binaries["kube-apiserver"]),
        f"--etcd-servers={layout.etcd}",
        f"--cert-dir={layout.certificate.parent}",
        f"--bind-address={'127.0.0.1' if layout.address == '127.0.0.1' else '0.0.0.0'}",  # noqa: S104 - in the sandbox
        f"--advertise-address={layout.address}",
        f"--secure-port={layout.api_port}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={layout.signing_key}",
        f"--service-account-key-file={layout.signing_key}",
        f"--token-auth-file={layout.token_file}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        # Loopback may not be an endpoint; elsewhere EndpointSlice default/kubernetes has the address, as everywhere.
        f"--endpoint-reconciler-type={'none' if layout.address == '127.0.0.1' else 'lease'}",
        "--enable-aggregator-routing=false",
        "--profiling=false",
    ]


def controller_manager_argv(layout: Layout, *, node_grace_seconds: int) -> list[str]:
    """kube-controller-manager with its default controllers; no cloud, no node IPAM."""
    return [
        str(layout.binaries["kube-controller-manager"]),
        f"--kubeconfig={layout.controller_manager_kubeconfig}",
        f"--root-ca-file={layout.certificate}",
        f"--service-account-private-key-file={layout.signing_key}",
        "--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-ttl-controller",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--node-monitor-period=1s",
        f"--node-monitor-grace-period={node_grace_seconds}s",
        "--profiling=false",
    ]
