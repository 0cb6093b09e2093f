"""Routes that other systems' sandbox clients call, on threads of their own so that the event loop never waits."""

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rewardhub.errors import DeadlineExceeded, InvalidInput, RewardHubError
from rewardhub.sandbox.runner import isolation
from rewardhub.server.body import decoded
from rewardhub.server.compat import online_judge, sandbox_fusion
from rewardhub.server.quota import Quotas
from rewardhub.types import Response

Request = Mapping[str, Any]
_QUEUE_PER_SLOT = 512
_ONE = (Response(),)


class Programs:
    """Runs programs for the doors, at most ``slots`` at once (0: one per core) and a bounded queue of others.

    Each program counts as a request and a response of its tenant's quotas.
    """

    def __init__(self, quotas: Quotas, slots: int = 0) -> None:
        self._quotas = quotas
        self._slots = slots or len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(self._slots, thread_name_prefix="programs")
        self._waiting = 0

    async def isolation_level(self) -> str:
        """How strongly programs are isolated here; found by trying, the first time."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, isolation)
        except RewardHubError:
            return "unknown"

    async def run_code(self, body: bytes, tenant: str) -> Any:
        """SandboxFusion's ``/run_code``."""
        return await self._alone(sandbox_fusion.run_code, body, tenant)

    async def submit(self, body: bytes, tenant: str) -> Any:
        """SandboxFusion's ``/submit``."""
        return await self._alone(online_judge.submit, body, tenant)

    async def submit_batch(self, body: bytes, tenant: str) -> Any:
        """Many submissions; the answers in their order, each an answer of ``/submit`` or an error."""
        submissions = online_judge.batch(_parsed(body))
        self._quotas.charge(tenant, _ONE * len(submissions))
        self._admit(len(submissions))
        with self._quotas.programs.hold(tenant, len(submissions)):
            return {"results": await asyncio.gather(*(self._one(each) for each in submissions))}

    async def _alone(self, work: Callable[[Request], Any], body: bytes, tenant: str) -> Any:
        self._quotas.charge(tenant, _ONE)
        with self._quotas.programs.hold(tenant, 1):
            return await self._run(work, _parsed(body))

    async def _one(self, submission: Request) -> Any:
        try:
            return await self._run(online_judge.submit, submission)
        except RewardHubError as error:
            return {"id": submission.get("id", 0), "error": {"message": error.message, "field": error.field}}

    async def _run(self, work: Callable[[Request], Any], request: Request) -> Any:
        self._admit(1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, request)
        finally:
            self._waiting -= 1

    def _admit(self, count: int) -> None:
        """Raises what is HTTP 504, after which their clients try again."""
        if self._waiting + count > _QUEUE_PER_SLOT * self._slots:
            raise DeadlineExceeded("the queue of programs is full", retry_after_s=1.0)


def _parsed(body: bytes) -> Request:
    request = decoded(body)
    if not isinstance(request, dict):
        raise InvalidInput("the body must be an object", field="body")
    return request
