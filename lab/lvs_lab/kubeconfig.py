"""How one reaches the API server: address, certificate authority and bearer token, and the kubeconfig form of it."""

import base64
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

SERVER_NAME = "kubernetes.default.svc"
"""A name that the API server's self-made certificate always carries, whatever address it was made for."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """One identity at one address of the API server."""

    server: str
    """URL without a path, such as `https://127.0.0.1:6443`."""
    ca_pem: str
    token: str
    tls_server_name: str = SERVER_NAME

    @property
    def host(self) -> str:
        """Host part of the URL, without brackets."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        """Port part of the URL; 443 when it has none."""
        return urlsplit(self.server).port or 443

    def tls(self) -> ssl.SSLContext:
        """A context that trusts this API server's authority and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.ca_pem)
        return context

    def at(self, server: str) -> "Access":
        """Return the same identity, reached at another address (through the relay, for example)."""
        return Access(server=server, ca_pem=self.ca_pem, token=self.token, tls_server_name=self.tls_server_name)

    def document(self, user: str = "admin") -> dict[str, object]:
        """Return the kubeconfig as plain data."""
        cluster = {
            "server": self.server,
            "tls-server-name": self.tls_server_name,
            "certificate-authority-data": base64.b64encode(self.ca_pem.encode()).decode(),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lvs-lab", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.token}}],
            "contexts": [{"name": "lvs-lab", "context": {"cluster": "lvs-lab", "user": user}}],
            "current-context": "lvs-lab",
        }

    def write(self, path: Path, user: str = "admin") -> None:
        """Write a kubeconfig that only its owner can read; a reader sees the old one or the new one."""
        fresh = path.with_name(path.name + ".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(self.document(user), indent=2) + "\n")
        fresh.rename(path)

    @classmethod
    def read(cls, path: Path) -> "Access":
        """Read back what `write` wrote. Raises OSError or KeyError when it is something else."""
        document = yaml.safe_load(path.read_text())
        cluster = document["clusters"][0]["cluster"]
        return cls(
            server=cluster["server"],
            ca_pem=base64.b64decode(cluster["certificate-authority-data"]).decode(),
            token=document["users"][0]["user"]["token"],
            tls_server_name=cluster.get("tls-server-name", SERVER_NAME),
        )
