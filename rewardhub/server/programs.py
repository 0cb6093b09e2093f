"""Routes that other systems' sandbox clients call."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rewardhub.errors import InvalidInput, RewardHubError
from rewardhub.sandbox.runner import isolation
from rewardhub.scheduler.program_lane import ProgramLane
from rewardhub.server.body import decoded
from rewardhub.server.compat import online_judge, sandbox_fusion
from rewardhub.server.quota import Quotas
from rewardhub.types import Response

Request = Mapping[str, Any]
_ONE = (Response(),)


class Programs:
    """Runs programs for the doors on the hub's lane, among those of recipes.

    Each program counts as a request and a response of its tenant's quotas.
    """

    def __init__(self, lane: ProgramLane, quotas: Quotas) -> None:
        self._lane = lane
        self._quotas = quotas

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
        return {"results": await self._run([partial(_one, each) for each in submissions], tenant)}

    async def finish(self) -> None:
        """Waits until no program is in hand; the callers see to it that no more come."""
        await self._lane.finish()

    async def _alone(self, work: Callable[[Request], Any], body: bytes, tenant: str) -> Any:
        self._quotas.charge(tenant, _ONE)
        return (await self._run([partial(work, _parsed(body))], tenant))[0]

    async def _run(self, works: Sequence[Callable[[], Any]], tenant: str) -> list[Any]:
        return await self._lane.run(works, "route", tenant)


def _one(submission: Request) -> Any:
    try:
        return online_judge.submit(submission)
    except RewardHubError as error:
        return {"id": submission.get("id", 0), "error": {"message": error.message, "field": error.field}}


def _parsed(body: bytes) -> Request:
    request = decoded(body)
    if not isinstance(request, dict):
        raise InvalidInput("the body must be an object", field="body")
    return request
