"""A judge's endpoints behind one retry loop with a budget, breakers and a deadline.

One question is one ``ask``. It takes the least loaded healthy endpoint, fails over, waits as long as an
endpoint asks for, re-asks unreadable verdicts, and stops when the budget, the attempts or the deadline
end. A failure is always an error, never a verdict.
"""

import asyncio
import math
import os
import random
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from rewardhub.errors import ConfigError, DeadlineExceeded, JudgeUnparseable, RewardHubError, Unavailable
from rewardhub.judges.chat import EndpointFailure, Misconfigured, NotACompletion, PushedBack, Reply, complete
from rewardhub.judges.endpoint import FIRST_COOLDOWN_S, EndpointState, RetryBudget
from rewardhub.judges.pool import JudgePool
from rewardhub.judges.prompt import Question
from rewardhub.judges.settings import Endpoint, JudgeSettings
from rewardhub.judges.verdict import read_structured, read_verdict, structured_schema
from rewardhub.scorer import Context

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 8.0
SHORTEST_CALL_S = 0.005


@dataclass(slots=True)
class Usage:
    """What a tenant's questions have cost: upstream calls, retries among them, tokens as counted upstream."""

    questions: int = 0
    calls: int = 0
    retries: int = 0
    unparseable: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed verdict with the reasoning before it and the number of calls it took."""

    verdict: Any
    reasoning: str
    model: str
    calls: int


@dataclass(slots=True)
class _Asking:
    """A question under way."""

    question: Question
    deadline: float
    usage: Usage
    calls: int = 0
    last: EndpointState | None = None
    failure: RewardHubError | None = None


class JudgeLane:
    """The endpoints of one judge, with their shared concurrency, queue and retry budget.

    Questions of bulk priority take at most half of the concurrency.
    """

    def __init__(self, settings: JudgeSettings, pool: JudgePool) -> None:
        self.settings = settings
        self.pool = pool
        self.endpoints = [_state(endpoint) for endpoint in settings.endpoints]
        self.usage: dict[str, Usage] = defaultdict(Usage)
        self._budget = RetryBudget(settings.retry_ratio, settings.retry_burst)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._bulk = asyncio.Semaphore(max(1, settings.concurrency // 2))
        self._waiting = 0
        self._turn = 0

    @property
    def models(self) -> list[str]:
        """The models that may answer, as the endpoints name them."""
        return sorted({endpoint.names_model for endpoint in self.endpoints})

    @property
    def healthy(self) -> bool:
        """Whether an endpoint may be called now."""
        now = time.monotonic()
        return any(endpoint.closed(now) for endpoint in self.endpoints)

    def stats(self) -> dict[str, Any]:
        """A snapshot for metrics: usage by tenant, and load and health by endpoint."""
        now = time.monotonic()
        keys = ("url", "names_model", "in_flight", "calls", "failures", "mean_s")
        endpoints = [
            {key: getattr(each, key) for key in keys} | {"closed": each.closed(now)} for each in self.endpoints
        ]
        return {"usage": {tenant: asdict(usage) for tenant, usage in self.usage.items()}, "endpoints": endpoints}

    async def ask(self, question: Question, context: Context) -> Answer:
        """The verdict on ``question``.

        Raises ``DeadlineExceeded`` at the context's deadline, ``Unavailable`` with ``retry_after_s``
        when no endpoint can answer, ``JudgeUnparseable`` when no reply could be read, and
        ``InternalError`` when an endpoint refuses the request itself.
        """
        asking = _Asking(question, context.deadline, self.usage[context.tenant])
        asking.usage.questions += 1
        remaining = context.deadline - time.monotonic()
        if remaining <= SHORTEST_CALL_S:
            raise DeadlineExceeded("the deadline passed before the judge was asked")
        self._refuse_if_down()
        self._budget.deposit()
        try:
            async with asyncio.timeout(None if math.isinf(remaining) else remaining):
                async with self._bulk if context.priority == "bulk" else nullcontext():
                    return await self._attempts(asking)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the judge was asked") from None
        except EndpointFailure as error:
            retry_after_s = max(error.retry_after_s, self._reopens_in_s(), FIRST_COOLDOWN_S)
            raise Unavailable(error.message, retry_after_s=retry_after_s) from None

    async def _attempts(self, asking: _Asking) -> Answer:
        while True:
            try:
                async with self._slot():
                    asking.last = await self._choose(asking)
                    return await self._once(asking, asking.last)
            except (EndpointFailure, JudgeUnparseable) as error:
                asking.failure = error
            await self._before_retry(asking, asking.failure)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked() and self._waiting >= self.settings.queue:
            raise Unavailable("the judge's queue is full", retry_after_s=FIRST_COOLDOWN_S)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _once(self, asking: _Asking, endpoint: EndpointState) -> Answer:
        # A fresh nonce for each call: an earlier reply cannot be replayed as this one's verdict.
        nonce = secrets.token_hex(8)
        asking.calls += 1
        asking.usage.calls += 1
        asking.usage.retries += asking.calls > 1
        try:
            reply = await self._call(endpoint, self._body(asking, endpoint, nonce), asking.deadline)
            asking.usage.prompt_tokens += reply.prompt_tokens
            asking.usage.completion_tokens += reply.completion_tokens
            verdict, reasoning = self._read(reply, nonce, asking.question)
        except JudgeUnparseable:
            asking.usage.unparseable += 1
            raise
        return Answer(verdict, reasoning, reply.model or endpoint.model, asking.calls)

    def _read(self, reply: Reply, nonce: str, question: Question) -> tuple[Any, str]:
        read = read_structured if self.settings.structured else read_verdict
        try:
            return read(reply.text, nonce, question.form)
        except JudgeUnparseable as error:
            cut = f", cut at {self.settings.max_tokens} tokens" if reply.truncated else ""
            raise JudgeUnparseable(error.message + cut) from None

    def _body(self, asking: _Asking, endpoint: EndpointState, nonce: str) -> dict[str, Any]:
        structured = self.settings.structured
        again = isinstance(asking.failure, JudgeUnparseable)
        body: dict[str, Any] = {
            "messages": asking.question.messages(nonce, again=again, structured=structured),
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens,
        }
        if endpoint.model:
            body["model"] = endpoint.model
        if structured:
            body["response_format"] = structured_schema()
        return body

    async def _call(self, endpoint: EndpointState, body: dict[str, Any], deadline: float) -> Reply:
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
        except asyncio.CancelledError:
            if time.monotonic() >= deadline and endpoint.too_slow_for(time.monotonic() - started):
                endpoint.failed(probe)
            raise
        finally:
            endpoint.end(probe)

    async def _before_retry(self, asking: _Asking, failure: RewardHubError) -> None:
        """Pays for a retry and waits before it; raises ``failure`` where no attempt, budget or time is left."""
        pause = 0.0
        if isinstance(failure, EndpointFailure) and not self._another(asking.last):
            pause = random.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**asking.calls))
        late = time.monotonic() + pause + SHORTEST_CALL_S >= asking.deadline
        if late or asking.calls >= self.settings.attempts or not self._budget.withdraw():
            raise failure
        await asyncio.sleep(pause)

    def _another(self, failed: EndpointState | None) -> bool:
        now = time.monotonic()
        return any(e is not failed and e.closed(now) and e.not_before <= now for e in self.endpoints)

    async def _choose(self, asking: _Asking) -> EndpointState:
        """The least loaded endpoint that may be called; waits out a push-back.

        Raises ``Unavailable`` at once when every circuit is open, or when all want to be left alone
        beyond the deadline or for longer than a call may take.
        """
        while True:
            self._refuse_if_down()
            now = time.monotonic()
            closed = [each for each in self.endpoints if each.closed(now)]
            ready = [each for each in closed if each.not_before <= now]
            if ready:
                return self._least_loaded(ready, asking.last, asking.deadline - now)
            wait = min(each.not_before for each in closed) - now
            if wait > min(self.settings.timeout_s, asking.deadline - now - SHORTEST_CALL_S):
                raise Unavailable("the judge endpoints ask for fewer calls", retry_after_s=wait)
            await asyncio.sleep(wait + random.uniform(0.0, 0.1 * wait))

    def _least_loaded(
        self, ready: Sequence[EndpointState], failed: EndpointState | None, remaining: float
    ) -> EndpointState:
        able = [each for each in ready if math.isinf(each.fastest_s) or each.fastest_s <= remaining]
        if not able:
            raise DeadlineExceeded("no judge endpoint has ever answered as fast as the deadline asks")
        self._turn += 1
        start = self._turn % len(able)
        turned = able[start:] + able[:start]
        return min(turned, key=lambda each: (each is failed, each.in_flight, each.failures))

    def _refuse_if_down(self) -> None:
        if not self.healthy:
            raise Unavailable("no judge endpoint is up", retry_after_s=self._reopens_in_s())

    def _reopens_in_s(self) -> float:
        """Seconds until the first open circuit may be probed; 0 where one is closed."""
        now = time.monotonic()
        if self.healthy:
            return 0.0
        return max(0.05, min(each.open_until - now for each in self.endpoints))


def _state(endpoint: Endpoint) -> EndpointState:
    headers: dict[str, str] = {}
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"the environment variable {endpoint.api_key_env} is not set", field="api_key_env")
        headers["authorization"] = f"Bearer {key}"
    return EndpointState(url=endpoint.url, model=endpoint.model, headers=headers)
