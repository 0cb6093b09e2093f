"""The endpoints of one judge: which one a call goes to, and what each call teaches about it."""

import asyncio
import math
import os
import random
import time
from collections.abc import Sequence
from typing import Any

from rewardhub.errors import ConfigError, DeadlineExceeded, Unavailable
from rewardhub.judges.chat import EndpointFailure, Misconfigured, NotACompletion, PushedBack, Reply, complete
from rewardhub.judges.endpoint import FIRST_COOLDOWN_S, EndpointState
from rewardhub.judges.hedging import OVERTAKEN
from rewardhub.judges.pool import JudgePool
from rewardhub.judges.settings import Endpoint, JudgeSettings

SHORTEST_CALL_S = 0.005


class Balancer:
    """Chooses the least loaded healthy endpoint and makes single calls, without any retry."""

    def __init__(self, settings: JudgeSettings, pool: JudgePool) -> None:
        self.settings = settings
        self.pool = pool
        self.endpoints = [_state(endpoint) for endpoint in settings.endpoints]
        self._turn = 0

    @property
    def healthy(self) -> bool:
        """Whether an endpoint may be called now."""
        now = time.monotonic()
        return any(endpoint.closed(now) for endpoint in self.endpoints)

    async def call(self, endpoint: EndpointState, body: dict[str, Any], deadline: float) -> Reply:
        """One upstream call, entered in the endpoint's record whatever becomes of it."""
        limit = self.settings.timeout_s
        started = time.monotonic()
        probe = endpoint.begin()
        try:
            with self.pool.client() as client:
                async with asyncio.timeout(limit):
                    reply = await complete(
                        client, endpoint.url, endpoint.headers, body, max_bytes=self.settings.max_reply_bytes
                    )
            endpoint.succeeded(time.monotonic() - started, reply.model)
            return reply
        except TimeoutError:
            endpoint.failed(probe)
            raise EndpointFailure(f"the judge endpoint did not answer within {limit:g} s") from None
        except PushedBack as error:
            endpoint.push_back(error.retry_after_s)
            raise
        except (EndpointFailure, Misconfigured, NotACompletion) as error:
            endpoint.failed(probe)
            endpoint.push_back(error.retry_after_s)
            raise
        except asyncio.CancelledError as error:
            late = time.monotonic() >= deadline and endpoint.too_slow_for(time.monotonic() - started)
            if late or error.args == (OVERTAKEN,):
                endpoint.failed(probe)
            raise
        finally:
            endpoint.end(probe)

    def another(self, failed: EndpointState | None) -> bool:
        """Whether an endpoint other than the one that failed may be called now."""
        now = time.monotonic()
        return any(e is not failed and e.closed(now) and e.not_before <= now for e in self.endpoints)

    def spare(self, busy: EndpointState) -> EndpointState | None:
        """The least loaded endpoint beside ``busy`` that may be called at once and has no circuit to probe."""
        now = time.monotonic()
        ready = [e for e in self.endpoints if e is not busy and not e.open_until and e.not_before <= now]
        return min(ready, key=lambda each: (each.ailing(now), each.in_flight, each.failures), default=None)

    async def choose(self, avoid: EndpointState | None, deadline: float) -> EndpointState:
        """The least loaded endpoint that may be called, ``avoid`` and those that ail last; waits out a push-back.

        Raises ``DeadlineExceeded`` where no endpoint has ever been fast enough, and ``Unavailable`` at once
        when every circuit is open, or when all want to be left alone beyond the deadline or for longer
        than a call may take.
        """
        while True:
            self.refuse_if_down()
            now = time.monotonic()
            closed = [each for each in self.endpoints if each.closed(now)]
            ready = [each for each in closed if each.not_before <= now]
            if ready:
                return self._least_loaded(ready, avoid, deadline - now)
            wait = min(each.not_before for each in closed) - now
            if wait > min(self.settings.timeout_s, deadline - now - SHORTEST_CALL_S):
                raise Unavailable("the judge endpoints ask for fewer calls", retry_after_s=wait)
            await asyncio.sleep(wait + random.uniform(0.0, 0.1 * wait))

    def _least_loaded(
        self, ready: Sequence[EndpointState], avoid: EndpointState | None, remaining: float
    ) -> EndpointState:
        able = [each for each in ready if math.isinf(each.fastest_s) or each.fastest_s <= remaining]
        if not able:
            raise DeadlineExceeded("no judge endpoint has ever answered as fast as the deadline asks")
        self._turn += 1
        start = self._turn % len(able)
        turned = able[start:] + able[:start]
        now = time.monotonic()
        return min(turned, key=lambda each: (each.ailing(now), each is avoid, each.in_flight, each.failures))

    def refuse_if_down(self) -> None:
        """Raises ``Unavailable`` with the time to wait where every circuit is open."""
        if not self.healthy:
            raise Unavailable("no judge endpoint is up", retry_after_s=self.reopens_in_s())

    def reopens_in_s(self) -> float:
        """Seconds until the first open circuit may be probed; 0 where one is closed."""
        now = time.monotonic()
        if self.healthy:
            return 0.0
        waits = [each.open_until - now for each in self.endpoints if not each.probing]
        return max(0.05, min(waits, default=FIRST_COOLDOWN_S))


def _state(endpoint: Endpoint) -> EndpointState:
    headers: dict[str, str] = {}
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"the environment variable {endpoint.api_key_env} is not set", field="api_key_env")
        headers["authorization"] = f"Bearer {key}"
    return EndpointState(url=endpoint.url, model=endpoint.model, headers=headers)
