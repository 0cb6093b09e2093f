"""The client for asyncio; safe to share between event loops and threads."""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from rewardhub.client.core import Core, Home
from rewardhub.client.failure import OnFailure, Stats
from rewardhub.client.loop import LoopThread, SourceFailed
from rewardhub.client.opened import Opened
from rewardhub.client.parts import make_group
from rewardhub.client.session import Session
from rewardhub.client.settings import Settings
from rewardhub.client.sync import feed
from rewardhub.errors import Cancelled
from rewardhub.types import Call, Group, GroupScores, Json, Media, Message, Response, Score

_CALL = Call()


class AsyncClient:
    """A hub, for asyncio: the twin of :class:`rewardhub.client.Client`, with the same promises.

    Implements :class:`rewardhub.types.AsyncRewards`. Its connection lives on an event loop of its own,
    so one client serves any number of loops, one after another or at once.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        on_failure: OnFailure = "raise",
        retries: int = 6,
        in_flight: int = 256,
    ) -> None:
        self._home = Home(Settings(url, api_key, timeout_s, on_failure, retries, in_flight))

    @property
    def stats(self) -> Stats:
        return self._home.stats

    async def score(self, groups: Sequence[Group], call: Call = _CALL) -> list[GroupScores]:
        """See :meth:`rewardhub.client.Client.score`."""
        thread, core = self._home.get()
        return await thread.call(core.score(groups, call))

    async def score_responses(
        self,
        recipe: str,
        responses: Iterable[str | Response],
        *,
        prompt: str | Sequence[Message] = "",
        reference: Any = None,
        images: Iterable[Any] = (),
    ) -> list[Score]:
        """See :meth:`rewardhub.client.Client.score_responses`."""
        group = make_group(responses, prompt=prompt, reference=reference, images=images)
        return (await self.score([group], Call(recipe=recipe)))[0].scores

    async def stream(
        self, groups: Iterable[Group] | AsyncIterable[Group], call: Call = _CALL
    ) -> AsyncIterator[GroupScores]:
        """See :meth:`rewardhub.client.Client.stream`; an async iterable is read on the caller's loop."""
        thread, core = self._home.get()
        session = await thread.acquire(core.session(call))
        reader = _reading(thread, session, groups)
        try:
            while (scores := await thread.call(core.next(session))) is not None:
                yield scores
        except SourceFailed as failed:
            raise failed.error from None
        finally:
            if reader:
                reader.cancel()
            await thread.release(session)

    async def open(self, group: Group, call: Call = _CALL) -> "AsyncOpenGroup":
        """Opens a group whose responses come later; over gRPC only."""
        thread, core = self._home.get()
        return AsyncOpenGroup(thread, core, await thread.acquire(core.open(group, call)))

    async def put_media(self, data: bytes) -> Media:
        """See :meth:`rewardhub.client.Client.put_media`."""
        thread, core = self._home.get()
        return await thread.call(core.put_media(data))

    async def scorers(self) -> list[Json]:
        """See :meth:`rewardhub.client.Client.scorers`."""
        thread, core = self._home.get()
        return await thread.call(core.scorers())

    async def close(self) -> None:
        """Ends the connection; calls under way raise ``rewardhub.errors.Cancelled``."""
        await asyncio.to_thread(self._home.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _revived, (self._home.settings,)


class AsyncOpenGroup:
    """The twin of :class:`rewardhub.client.OpenGroup`."""

    def __init__(self, thread: LoopThread, core: Core, opened: Opened) -> None:
        self._thread, self._core, self._opened = thread, core, opened

    async def add(self, *responses: str | Response) -> None:
        """Adds responses under the next free indices."""
        added = [Response(each) if isinstance(each, str) else each for each in responses]
        await self._thread.call(self._opened.add(added))

    async def end(self) -> None:
        """No response follows."""
        await self._thread.call(self._opened.end())

    async def result(self) -> GroupScores:
        """Ends the group and waits for all of its scores; the policy is applied."""
        return await self._thread.call(self._core.result(self._opened))

    async def __aiter__(self) -> AsyncIterator[GroupScores]:
        while (scores := await self._thread.call(self._opened.next())) is not None:
            yield scores

    async def close(self) -> None:
        """Gives the group up."""
        await self._thread.release(self._opened)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _reading(
    thread: LoopThread, session: Session, groups: Iterable[Group] | AsyncIterable[Group]
) -> asyncio.Task[None] | None:
    if isinstance(groups, AsyncIterable):
        return asyncio.create_task(_feed(thread, session, groups))
    threading.Thread(target=feed, args=(thread, session, groups), daemon=True).start()
    return None


async def _feed(thread: LoopThread, session: Session, groups: AsyncIterable[Group]) -> None:
    try:
        async for group in groups:
            await thread.call(session.admit(group))
        await thread.call(session.admit(None))
    except BaseException as error:
        task = asyncio.current_task()
        if task and task.cancelling():  # of the stream, which is over
            raise
        stopped = isinstance(error, asyncio.CancelledError)
        await thread.call(session.abort(Cancelled("the source of the groups was cancelled") if stopped else error))


def _revived(settings: Settings) -> AsyncClient:
    client = AsyncClient.__new__(AsyncClient)
    client._home = Home(settings)
    return client
