"""Runs on a director: writes to the API server and watches this kernel for the effect, both on one clock.

    observer.py FILE    (FILE: JSON with server, ca, token, kind "create" or "weight", count, vip, port, weight, ...)

Prints one JSON list of milliseconds. The stamp before is taken before the request is sent, the stamp after when a
netlink read of IPVS shows the effect; reads are about a millisecond apart.
"""

import http.client
import json
import pathlib
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

from lvs_dr.netlink import ipvs_decode, ipvs_encode
from lvs_dr.netlink.errors import NetlinkError
from lvs_dr.netlink.ipvs import FAMILY_NAME, ServiceKey
from lvs_dr.netlink.socket import GenericNetlinkSocket

API = "/apis/lvs-operator.io/v1alpha1/namespaces/default"
LIMIT_SECONDS = 20
PAUSE_SECONDS = 0.001


class Writer:
    """One kept connection to the API server."""

    def __init__(self, server: str, ca: str, token: str) -> None:
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        parts = urlsplit(server)
        self._connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=10)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._token = token

    def send(self, method: str, path: str, body: object, content_type: str = "application/json") -> None:
        """Send one request and read its answer; anything but success ends the run."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
        self._connection.request(method, path, json.dumps(body), headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise SystemExit(f"{method} {path}: {response.status} {text[:300]!r}")


def watch(sock: GenericNetlinkSocket, key: ServiceKey, wanted: set[int]) -> float:
    """Read until the service has exactly these destination weights; return the time of the read that showed it."""
    end = time.monotonic() + LIMIT_SECONDS
    request = ipvs_encode.get_destinations(key)
    while time.monotonic() < end:
        try:
            found = ipvs_decode.parse_destinations(sock.dump(request))
        except NetlinkError:
            found = {}  # the service is not there yet
        if found and {config.weight for config in found.values()} == wanted:
            return time.monotonic()
        time.sleep(PAUSE_SECONDS)
    raise SystemExit(f"{key} did not show {wanted} within {LIMIT_SECONDS} s: {found}")


def service(name: str, address: str, port: int) -> dict[str, object]:
    """A VirtualService over the pool of the benchmark, without a check: programming is what is measured."""
    return {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "VirtualService",
        "metadata": {"name": name},
        "spec": {
            "address": address,
            "ports": [{"port": port}],
            "scheduler": "wrr",
            "realServers": {"selector": {"matchLabels": {"pool": "latency"}}},
        },
    }


def main() -> None:
    """Measure as the file says."""
    plan = json.loads(pathlib.Path(sys.argv[1]).read_text())
    writer = Writer(plan["server"], plan["ca"], plan["token"])
    taken: list[float] = []
    weight = plan["weight"]
    with GenericNetlinkSocket(FAMILY_NAME) as sock:
        for number in range(plan["count"]):
            if plan["kind"] == "create":
                key = ServiceKey(plan["vip"], plan["port"] + number, socket.IPPROTO_TCP, 0, socket.AF_INET)
                body = service(f"latency-{number}", plan["vip"], plan["port"] + number)
                began = time.monotonic()
                writer.send("POST", f"{API}/virtualservices", body)
            else:
                key = ServiceKey(plan["vip"], plan["port"], socket.IPPROTO_TCP, 0, socket.AF_INET)
                weight = 100 + number % 2
                patch = {"spec": {"weight": weight}}
                began = time.monotonic()
                path = f"{API}/realservers/{plan['realServer']}"
                writer.send("PATCH", path, patch, "application/merge-patch+json")
            taken.append((watch(sock, key, {weight}) - began) * 1000)
            time.sleep(plan.get("pause", 0.05))
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
