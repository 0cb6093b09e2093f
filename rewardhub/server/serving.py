"""One process, one event loop: both doors over one hub, from the first bind to the last answer."""

import asyncio
import contextlib
import gc
import math
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import uvicorn

from rewardhub.errors import ConfigError
from rewardhub.logs import logger
from rewardhub.server import grpc_server
from rewardhub.server.auth import Auth, check_addresses, parse_address
from rewardhub.server.http_protocol import HeadLimited
from rewardhub.server.metrics import DoorMetrics
from rewardhub.server.quota import Metered, Quotas
from rewardhub.server.rest import RestDoor
from rewardhub.server.rpc import RewardService
from rewardhub.server.settings import ApiKey, ServerSettings
from rewardhub.server.surface import ScoringHub

HEALTH_S = 0.5
_LAST_WRITES_S = 2.0
_DESCRIPTORS = 65_536
_BACKSTOP = 4
"""Connections that may idle on top, as a multiple of the limit of calls."""


async def serve(
    hub: ScoringHub,
    http_addr: str = "127.0.0.1:8080",
    grpc_addr: str = "127.0.0.1:8081",
    *,
    settings: ServerSettings | None = None,
    grace_s: float = 30.0,
    reread: Callable[[], ServerSettings] | None = None,
) -> None:
    """Starts the hub and both doors, prints one line when ready, returns after SIGTERM or SIGINT and drain.

    Port 0 takes a free port. ``reread`` gives the settings as the operator's files now state them, of which a reload
    takes the keys. A second signal ends the wait for running work. Raises ``ConfigError`` for an
    address that is taken, or open to other machines without keys; any other exception is a fault that
    ended the service.
    """
    settings = settings or ServerSettings()
    auth = Auth(check(settings, http_addr, grpc_addr))
    stop = Stop()
    _allow_descriptors()
    with bound(http_addr) as http_socket, stop.on_signals():
        try:
            doors = Doors(hub, auth, settings, http_socket, grpc_addr)
            if reread is not None:
                doors.reread_keys(lambda: check(reread(), http_addr, grpc_addr))
            if await stop.run(hub.start()):
                # What start-up made is there to stay: collections under load need not walk through it.
                gc.collect()
                gc.freeze()
                await doors.run(stop, grace_s)
        finally:
            await hub.aclose()


def check(settings: ServerSettings, http_addr: str, grpc_addr: str) -> Sequence[ApiKey]:
    """The keys of the settings; raises ``ConfigError`` for addresses and certificates that cannot be served with."""
    check_addresses(Auth(settings.keys), http_addr, grpc_addr)
    if settings.tls is not None:
        settings.tls.check()
    return settings.keys


class Doors:
    """Both servers on their real addresses, ``url`` and ``grpc_addr``. Build it, then :meth:`run` it once."""

    def __init__(
        self, hub: ScoringHub, auth: Auth, settings: ServerSettings, http_socket: socket.socket, grpc_addr: str
    ) -> None:
        metrics = DoorMetrics()
        quotas = Quotas(settings.quotas)
        hub.programs.tenants = quotas.programs
        hub = Metered(hub, quotas) if settings.quotas else hub
        self._hub = hub
        self._rest = RestDoor(hub, auth, settings, metrics, quotas)
        self._service = RewardService(hub, auth, settings, metrics)
        self._health = grpc_server.Health()
        self._grpc = grpc_server.make_server(self._service, self._health, auth, settings, metrics)
        self.grpc_addr = f"{grpc_addr.rpartition(':')[0]}:{grpc_server.add_port(self._grpc, grpc_addr, settings.tls)}"
        self._socket = http_socket
        self._http = _Uvicorn(_http_config(self._rest, settings))
        host, port = http_socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if settings.tls else 'http'}://{shown}:{port}"
        self.ready = asyncio.Event()

    def reread_keys(self, reread: Callable[[], Sequence[ApiKey]]) -> None:
        """A reload asks ``reread`` for the keys, which raises where they cannot be used."""
        self._rest.reread_keys = reread

    async def run(self, stop: "Stop", grace_s: float) -> None:
        """Serves until ``stop``, then drains for at most ``grace_s`` seconds."""
        await self._health.show(not self._hub.ready())
        await self._grpc.start()
        http = asyncio.create_task(self._http.serve([self._socket]))
        health = asyncio.create_task(self._watch_health())
        try:
            await self._until_listening(http)
            print(f"rewardhub ready http={self.url} grpc={self.grpc_addr} pid={os.getpid()}", flush=True)
            self.ready.set()
            await stop.wait(http)
            if http.done():
                raise RuntimeError("the REST door ended by itself")
            await self._drain(stop, grace_s)
        finally:
            health.cancel()
            self._http.should_exit = True
            await asyncio.gather(self._grpc.stop(_LAST_WRITES_S), http, health, return_exceptions=True)

    async def _drain(self, stop: "Stop", grace_s: float) -> None:
        logger.info("draining")
        self._rest.leaving = True
        await self._health.leave()
        stop.again()
        await stop.run(self._finish(grace_s))
        logger.info("drained")

    async def _finish(self, grace_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                finishing = (self._service.finish_streams(), self._rest.finish_programs())
                await asyncio.gather(self._hub.drain(grace_s), *finishing)

    async def _until_listening(self, http: asyncio.Task[None]) -> None:
        while not self._http.started:
            if http.done():
                await http
                raise ConfigError("the REST door did not start")
            await asyncio.sleep(0.005)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_S)
            await self._health.show(not self._hub.ready())


class Stop:
    """The wish to stop, from signals; :meth:`again` listens for another one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for each in signals:
            loop.add_signal_handler(each, self.now)
        try:
            yield
        finally:
            for each in signals:
                loop.remove_signal_handler(each)

    def now(self) -> None:
        self._event.set()

    def again(self) -> None:
        self._event.clear()

    async def wait(self, task: asyncio.Task[None]) -> None:
        """Returns when the wish comes or the task ends, which goes on."""
        wish = asyncio.create_task(self._event.wait())
        try:
            await asyncio.wait((wish, task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            wish.cancel()

    async def run(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work ended before the wish came, which cancels it; raises what the work raises."""
        task = asyncio.create_task(work)
        try:
            await self.wait(task)
            if task.done():
                task.result()
                return True
            return False
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to :class:`Stop`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _allow_descriptors() -> None:
    """The doors bound their connections themselves, at more than the usual soft limit, which idle ones of callers
    without a key would use up: no worker could start then, and no program.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _http_config(rest: RestDoor, settings: ServerSettings) -> uvicorn.Config:
    tls = settings.tls
    certificates: dict[str, Any] = {}
    if tls is not None:
        certificates = {"ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
        if tls.client_ca is not None:
            certificates |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return uvicorn.Config(
        rest.app(),
        http=HeadLimited,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_BACKSTOP * settings.limits.concurrency,
        timeout_graceful_shutdown=math.ceil(_LAST_WRITES_S),
        **certificates,
    )


@contextlib.contextmanager
def bound(address: str) -> Iterator[socket.socket]:
    """A listening socket; raises ``ConfigError`` where there is none to be had."""
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"REST cannot listen on {address}: {error.strerror}") from None
    # asyncio sets this only on sockets that name their protocol; accepted ones inherit it from here.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        yield listening
