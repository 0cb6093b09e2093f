"""A judge's endpoints behind one retry loop with a budget, breakers and a deadline.

One question is one ``ask``. It takes the least loaded healthy endpoint, fails over, waits as long as an
endpoint asks for, re-asks unreadable verdicts, and stops when the budget, the attempts or the deadline
end. A failure is always an error, never a verdict.
"""

import asyncio
import math
import random
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rewardhub.errors import DeadlineExceeded, JudgeUnparseable, RewardHubError, Unavailable
from rewardhub.judges.balancer import SHORTEST_CALL_S, Balancer
from rewardhub.judges.budget import Allowance, RetryBudget
from rewardhub.judges.chat import EndpointFailure, Reply
from rewardhub.judges.endpoint import FIRST_COOLDOWN_S, EndpointState
from rewardhub.judges.hedging import Work, hedged
from rewardhub.judges.pool import JudgePool
from rewardhub.judges.prompt import Question
from rewardhub.judges.settings import JudgeSettings
from rewardhub.judges.verdict import read_structured, read_verdict, structured_schema
from rewardhub.scorer import Context

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 8.0


@dataclass(slots=True)
class Usage:
    """What the questions of a tenant's recipe have cost: upstream calls, retries and hedges among them, tokens as
    counted upstream, and their price.
    """

    questions: int = 0
    calls: int = 0
    retries: int = 0
    hedges: int = 0
    unparseable: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


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
    bulk: bool
    calls: int = 0
    last: EndpointState | None = None
    failure: RewardHubError | None = None


class JudgeLane:
    """The endpoints of one judge, with their shared concurrency, queue and retry budget.

    Questions of bulk priority take at most half of the concurrency.
    """

    def __init__(self, settings: JudgeSettings, pool: JudgePool) -> None:
        self.settings = settings
        self.balancer = Balancer(settings, pool)
        self.usage: dict[tuple[str, str], Usage] = defaultdict(Usage)
        self._budget = RetryBudget(settings.retry_ratio, settings.retry_burst)
        self._requests = Allowance(settings.requests_per_minute)
        self._tokens = Allowance(settings.tokens_per_minute)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._bulk = asyncio.Semaphore(max(1, settings.concurrency // 2))
        self._waiting = 0

    @property
    def models(self) -> list[str]:
        """The models that answered, as the endpoints name them; before any did, the configured ones."""
        endpoints = self.balancer.endpoints
        return sorted({each.answering_model for each in [e for e in endpoints if e.answered] or endpoints})

    @property
    def exchanges(self) -> list[str]:
        """What tells that a model was exchanged: what is configured, and the names that took the place of others."""
        return [name for each in self.balancer.endpoints for name in (each.url, each.model, each.exchanged)]

    def stats(self) -> dict[str, Any]:
        """A snapshot: usage by tenant and recipe, and load and health by endpoint."""
        now = time.monotonic()
        keys = ("url", "answering_model", "in_flight", "calls", "failures", "mean_s")
        endpoints = [
            {key: getattr(each, key) for key in keys} | {"closed": each.closed(now)} for each in self.balancer.endpoints
        ]
        used = [{"tenant": tenant, "recipe": recipe, **asdict(each)} for (tenant, recipe), each in self.usage.items()]
        return {"usage": used, "endpoints": endpoints}

    async def ask(self, question: Question, context: Context) -> Answer:
        """The verdict on ``question``.

        Raises ``DeadlineExceeded`` at the context's deadline, ``Unavailable`` with ``retry_after_s``
        when no endpoint can answer, ``JudgeUnparseable`` when no reply could be read, and
        ``InternalError`` when an endpoint refuses the request itself.
        """
        usage = self.usage[context.tenant, context.recipe]
        asking = _Asking(question, context.deadline, usage, context.priority == "bulk")
        asking.usage.questions += 1
        remaining = context.deadline - time.monotonic()
        if remaining <= SHORTEST_CALL_S:
            raise DeadlineExceeded("the deadline passed before the judge was asked")
        try:
            async with asyncio.timeout(None if math.isinf(remaining) else remaining):
                return await self._attempts(asking)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the judge was asked") from None
        except EndpointFailure as error:
            retry_after_s = max(error.retry_after_s, self.balancer.reopens_in_s(), FIRST_COOLDOWN_S)
            raise Unavailable(error.message, retry_after_s=retry_after_s) from None

    async def _attempts(self, asking: _Asking) -> Answer:
        while True:
            self.balancer.refuse_if_down()
            try:
                async with self._slot(asking.bulk):
                    asking.last = await self._admitted(asking)
                    return await self._once(asking, asking.last)
            except (EndpointFailure, JudgeUnparseable) as error:
                asking.failure = error
            await self._before_retry(asking, asking.failure)

    @asynccontextmanager
    async def _slot(self, bulk: bool) -> AsyncIterator[None]:
        slots = [self._bulk, self._slots] if bulk else [self._slots]
        if self._waiting >= self.settings.queue and any(each.locked() for each in slots):
            raise Unavailable("the judge's queue is full", retry_after_s=FIRST_COOLDOWN_S)
        async with AsyncExitStack() as stack:
            self._waiting += 1
            try:
                for each in slots:
                    await stack.enter_async_context(each)
            finally:
                self._waiting -= 1
            yield

    async def _admitted(self, asking: _Asking) -> EndpointState:
        """Pays for a call out of requests and tokens per minute and chooses its endpoint.

        Raises ``Unavailable`` where either takes too long; what no call is made for is given back.
        """
        tokens = asking.question.tokens + self.settings.max_tokens
        wait = max(self._requests.take(1), self._tokens.take(tokens))
        try:
            if wait > min(self.settings.timeout_s, asking.deadline - time.monotonic() - SHORTEST_CALL_S):
                raise Unavailable("the judge's rate is used up", retry_after_s=wait)
            await asyncio.sleep(wait)
            return await self.balancer.choose(asking.last, asking.deadline)
        except BaseException:
            self._requests.give_back(1)
            self._tokens.give_back(tokens)
            raise

    async def _once(self, asking: _Asking, endpoint: EndpointState) -> Answer:
        # A fresh nonce for each call: an earlier reply cannot be replayed as this one's verdict.
        nonce = secrets.token_hex(8)
        if not asking.calls:
            self._budget.deposit()
        asking.calls += 1
        asking.usage.calls += 1
        asking.usage.retries += asking.calls > 1
        try:
            if self.settings.hedge_after_s and not asking.bulk:
                call = self._call(asking, endpoint, nonce)
                reply = await hedged(call, lambda: self._hedge(asking, endpoint, nonce), self.settings.hedge_after_s)
            else:
                reply = await self._call(asking, endpoint, nonce)
            verdict, reasoning = self._read(reply, nonce, asking.question)
        except JudgeUnparseable:
            asking.usage.unparseable += 1
            raise
        return Answer(verdict, reasoning, reply.model or endpoint.model, asking.calls)

    async def _call(self, asking: _Asking, endpoint: EndpointState, nonce: str) -> Reply:
        reply = await self.balancer.call(endpoint, self._body(asking, endpoint, nonce), asking.deadline)
        usage, settings = asking.usage, self.settings
        usage.prompt_tokens += reply.prompt_tokens
        usage.completion_tokens += reply.completion_tokens
        price = reply.prompt_tokens * settings.prompt_price + reply.completion_tokens * settings.completion_price
        usage.cost += price / 1e6
        if spent := reply.prompt_tokens + reply.completion_tokens:
            self._tokens.give_back(asking.question.tokens + settings.max_tokens - spent)
        return reply

    def _hedge(self, asking: _Asking, slow: EndpointState, nonce: str) -> Work[Reply] | None:
        """A second call at another endpoint, paid like a retry; None where it would have to wait for anything."""
        other = self.balancer.spare(slow)
        if other is None or asking.calls >= self.settings.attempts or self._slots.locked():
            return None
        tokens = asking.question.tokens + self.settings.max_tokens
        if max(self._requests.take(1), self._tokens.take(tokens)) > 0 or not self._budget.withdraw():
            self._requests.give_back(1)
            self._tokens.give_back(tokens)
            return None
        asking.calls += 1
        asking.usage.calls += 1
        asking.usage.hedges += 1
        return self._in_slot(self._call(asking, other, nonce))

    async def _in_slot(self, call: Work[Reply]) -> Reply:
        async with self._slots:
            return await call

    def _read(self, reply: Reply, nonce: str, question: Question) -> tuple[Any, str]:
        read = read_structured if self.settings.structured else read_verdict
        limit = f", cut at {self.settings.max_tokens} tokens"
        cut = limit if reply.broken_off == "length" else reply.broken_off and f", broken off: {reply.broken_off}"
        try:
            found = read(reply.text, nonce, question.form)
        except JudgeUnparseable as error:
            raise JudgeUnparseable(error.message + cut) from None
        if cut and not self.settings.structured:  # The 1 of a 10 is a verdict of its own.
            raise JudgeUnparseable("the verdict may lack its end" + cut)
        return found

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
            body["response_format"] = structured_schema(nonce, asking.question.form, self.settings.reasoning_chars)
        return body

    async def _before_retry(self, asking: _Asking, failure: RewardHubError) -> None:
        """Pays for a retry and waits before it; raises ``failure`` where no attempt, budget or time is left."""
        pause = 0.0
        if isinstance(failure, EndpointFailure) and not self.balancer.another(asking.last):
            pause = random.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**asking.calls))
        late = time.monotonic() + pause + SHORTEST_CALL_S >= asking.deadline
        if late or asking.calls >= self.settings.attempts or not self._budget.withdraw():
            raise failure
        await asyncio.sleep(pause)
