"""Who we are for the API server: address, certificate authority and a token that is read again before it runs out.

One middleware puts the token on every request of every client session here, kopf's included, and answers a 401 by
reading the token file again. So neither kopf nor kubernetes.aio ever sees an expired token, as long as the kubelet
renews the file.
"""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration

from lvs_dr.controller.errors import BadConfiguration

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REREAD_SECONDS = 60.0  # as client-go does: tokens are renewed long before they expire
READ_BUFFER_BYTES = 4 * 1024 * 1024
LOAD_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What one reading of the credentials gave."""

    server: str
    token: str  # "" with a client certificate
    tls: ssl.SSLContext
    tls_server_name: str | None


class Credentials:
    """In-cluster ServiceAccount, or a kubeconfig (token, tokenFile, client certificate, exec plugin)."""

    def __init__(self, kubeconfig: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if kubeconfig is not None and not kubeconfig.is_file():
            raise BadConfiguration(f"kubeconfig {kubeconfig} does not exist")
        self._kubeconfig = kubeconfig
        self._clock = clock
        self._read_at = float("-inf")
        self._identity: Identity | None = None
        self._lock = asyncio.Lock()

    async def identity(self, *, refused: str | None = None) -> Identity:
        """Return the current identity; read it again when it is old or its token equals `refused`.

        Raises BadConfiguration when it was never readable; later failures to read keep the old one.
        """
        async with self._lock:
            known = self._identity
            old = self._clock() - self._read_at >= REREAD_SECONDS
            if known is None or old or (refused is not None and known.token == refused):
                self._identity = await self._read(known)
                self._read_at = self._clock()
            if self._identity is None:
                raise BadConfiguration("no credentials for the API server")
            return self._identity

    async def _read(self, known: Identity | None) -> Identity:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                if self._kubeconfig is not None:
                    return await _from_kubeconfig(self._kubeconfig)
                return _in_cluster(known)
        except (OSError, ValueError, TimeoutError, ssl.SSLError, kubernetes_config.ConfigException) as error:
            if known is None:
                raise BadConfiguration(f"cannot read the credentials for the API server: {error}") from error
            log.warning("cannot read the credentials again, the old ones stay in use: %s", error)
            return known

    async def middleware(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request with the current token; once more with the new one when it is refused."""
        identity = await self.identity()
        _authorize(request, identity)
        response = await handler(request)
        if response.status != HTTPStatus.UNAUTHORIZED:
            return response
        fresh = await self.identity(refused=identity.token)
        if fresh.token == identity.token:
            return response
        log.info("the token was refused; its file has a new one")
        response.release()
        _authorize(request, fresh)
        return await handler(request)

    async def session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Return a new session that authenticates itself; the caller closes it."""
        identity = await self.identity()
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=identity.tls, limit=0),
            middlewares=(*middlewares, self.middleware),
            read_bufsize=READ_BUFFER_BYTES,
        )

    async def configuration(self) -> Configuration:
        """Return the configuration of a kubernetes.aio client that authenticates itself the same way."""
        identity = await self.identity()
        configuration = Configuration(host=identity.server)
        configuration.client_session_kwargs = {
            "connector": aiohttp.TCPConnector(ssl=identity.tls, limit=0),
            "middlewares": (self.middleware,),
            "trust_env": False,
        }
        return configuration


def _authorize(request: ClientRequest, identity: Identity) -> None:
    if identity.token:
        request.headers["Authorization"] = f"Bearer {identity.token}"
    if identity.tls_server_name:
        request.server_hostname = identity.tls_server_name


def _in_cluster(known: Identity | None) -> Identity:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise BadConfiguration("not in a cluster (KUBERNETES_SERVICE_HOST is not set) and no --kubeconfig")
    token = (SERVICE_ACCOUNT / "token").read_text().strip()
    if not token:
        raise ValueError(f"{SERVICE_ACCOUNT / 'token'} is empty")
    # The connections hold on to the context, so a renewed authority takes a restart; only the token changes here.
    tls = known.tls if known is not None else ssl.create_default_context(cafile=SERVICE_ACCOUNT / "ca.crt")
    bracketed = f"[{host}]" if ":" in host else host
    return Identity(server=f"https://{bracketed}:{port}", token=token, tls=tls, tls_server_name=None)


async def _from_kubeconfig(path: Path) -> Identity:
    configuration = Configuration()
    await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(path), client_configuration=configuration, persist_config=False
    )
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    token = configuration.api_key.get("BearerToken", "").removeprefix("Bearer ").strip()
    return Identity(
        server=configuration.host.rstrip("/"), token=token, tls=tls, tls_server_name=configuration.tls_server_name
    )
