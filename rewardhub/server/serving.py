"""One process, one event loop: both doors over one hub, from the first bind to the last answer."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from rewardhub.errors import ConfigError
from rewardhub.lasting import lasting
from rewardhub.logs import logger
from rewardhub.server import certificates, grpc_server
from rewardhub.server.auth import Auth, check_addresses
from rewardhub.server.certificates import Certificates, Credentials
from rewardhub.server.exchange import Exchange
from rewardhub.server.metrics import DoorMetrics
from rewardhub.server.quota import Metered, Quotas
from rewardhub.server.rest import RestDoor
from rewardhub.server.rest_server import LAST_WRITES_S, RestServer, bound
from rewardhub.server.rpc import RewardService
from rewardhub.server.settings import ServerSettings
from rewardhub.server.surface import ScoringHub

HEALTH_S = 0.5
_DESCRIPTORS = 65_536


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
    takes keys, quotas and certificates. A second signal ends the wait for running work. Raises ``ConfigError`` for an
    address that is taken, or open to other machines without keys; any other exception is a fault that
    ended the service.
    """
    settings = settings or ServerSettings()
    check_addresses(settings, http=http_addr, grpc=grpc_addr)
    auth = Auth(settings.keys)
    stop = Stop()
    _allow_descriptors()
    with bound(http_addr) as http_socket, stop.on_signals():
        try:
            doors = Doors(hub, auth, settings, http_socket, grpc_addr)
            if reread is not None:
                doors.reread(lambda: check_addresses(reread(), http=http_addr, grpc=grpc_addr))
            if await stop.run(hub.start()):
                # What start-up made is there to stay: collections under load need not walk through it.
                gc.collect()
                gc.freeze()
                await doors.run(stop, grace_s)
        finally:
            await hub.aclose()


def check(settings: ServerSettings, http_addr: str, grpc_addr: str) -> None:
    """Raises ``ConfigError`` for addresses and certificates that cannot be served with."""
    check_addresses(settings, http=http_addr, grpc=grpc_addr)
    if settings.tls is not None:
        certificates.load(settings.tls)


class Doors:
    """Both servers on their real addresses, ``url`` and ``grpc_addr``. Build it, then :meth:`run` it once."""

    def __init__(
        self, hub: ScoringHub, auth: Auth, settings: ServerSettings, http_socket: socket.socket, grpc_addr: str
    ) -> None:
        metrics = DoorMetrics()
        quotas = Quotas(settings.quotas)
        hub.programs.tenants = quotas.programs
        self._hub = hub = Metered(hub, quotas)
        self._exchange = Exchange(hub, settings, auth, quotas, self._show)
        self._rest = RestDoor(hub, auth, settings, metrics, quotas, self._exchange)
        self._service = RewardService(hub, settings, metrics)
        self._health = grpc_server.Health()
        self._grpc = grpc_server.make_server(self._service, self._health, auth, settings, metrics)
        shown = certificates.load(settings.tls) if settings.tls else None
        self._credentials = Credentials(shown) if shown else None
        port = grpc_server.add_port(self._grpc, grpc_addr, self._credentials)
        self.grpc_addr = f"{grpc_addr.rpartition(':')[0]}:{port}"
        context = shown.context if shown else None
        self._http = RestServer(self._rest.app(), http_socket, settings.limits.concurrency, context)
        host, port = http_socket.getsockname()[:2]
        self.url = f"{'https' if settings.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        self.ready = asyncio.Event()

    def reread(self, reread: Callable[[], ServerSettings]) -> None:
        """A reload asks ``reread`` for the settings, which raises where they cannot be used."""
        self._exchange.reread = reread

    async def _show(self, shown: Certificates) -> None:
        assert self._credentials is not None
        await self._http.take(shown.context)
        self._credentials.take(shown)

    async def run(self, stop: "Stop", grace_s: float) -> None:
        """Serves until ``stop``, then drains for at most ``grace_s`` seconds."""
        await self._health.show(not self._hub.ready())
        await self._grpc.start()
        http = asyncio.create_task(self._http.run_on_socket())
        health = asyncio.create_task(lasting("the watch over health", self._watch_health))
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
            await asyncio.gather(self._grpc.stop(LAST_WRITES_S), http, health, return_exceptions=True)

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


def _allow_descriptors() -> None:
    """The doors bound their connections themselves, at more than the usual soft limit, which idle ones of callers
    without a key would use up: no worker could start then, and no program.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
