"""The client for threads; safe to share between them."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rewardhub.client.core import Core, Home
from rewardhub.client.failure import OnFailure, Stats
from rewardhub.client.loop import LoopThread, SourceFailed
from rewardhub.client.opened import Opened
from rewardhub.client.parts import make_group
from rewardhub.client.session import Session
from rewardhub.client.settings import Settings
from rewardhub.types import Call, Group, GroupScores, Json, Media, Message, Response, Score

_CALL = Call()


class Client:
    """A hub, from any thread. Implements :class:`rewardhub.types.Rewards`.

    ``url`` is ``http://host:port`` (REST) or ``grpc://host:port``, with an ``s`` for TLS. ``timeout_s``
    bounds each call (each group of a stream) end to end, retries included. ``on_failure`` says what
    becomes of scores without a value, see :data:`OnFailure`. ``retries`` bounds how often a group is sent
    again after a retryable error or status; a hub that has answered before and cannot be reached is waited
    for until the deadline. ``in_flight`` bounds the groups under way in a stream.
    One connection serves all threads; a forked child makes its own; a pickled client connects anew.
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

    def score(self, groups: Sequence[Group], call: Call = _CALL) -> list[GroupScores]:
        """Scores groups; the answers are in request order. Members of one open group may be named one by one.

        Raises ``ScoringFailed`` where ``on_failure`` is ``raise`` and a score has no value,
        ``HubUnreachable`` when no hub answers, and the hub's own error when it refuses the whole call.
        What is not answered by the deadline has the status ``timeout``.
        """
        thread, core = self._home.get()
        return thread.run(core.score(groups, call))

    def score_responses(
        self,
        recipe: str,
        responses: Iterable[str | Response],
        *,
        prompt: str | Sequence[Message] = "",
        reference: Any = None,
        images: Iterable[Any] = (),
    ) -> list[Score]:
        """One score per response to one prompt. ``reference`` is the answer, or an object with whatever
        the recipe reads; ``images`` are bytes, paths or PIL images. Raises like :meth:`score`.
        """
        group = make_group(responses, prompt=prompt, reference=reference, images=images)
        return self.score([group], Call(recipe=recipe))[0].scores

    def stream(self, groups: Iterable[Group], call: Call = _CALL) -> Iterator[GroupScores]:
        """Scores groups as ``groups`` yields them, on a thread of its own, and yields each answer as it
        is ready, in any order; each has an id of its own. Members of one open group share theirs, and the
        ``indices`` of their answers count its responses in the order in which they came here; what waits for
        members takes a place of ``in_flight``. An error of ``groups`` itself is raised here.
        """
        thread, core = self._home.get()
        session = thread.run(core.session(call))
        threading.Thread(target=feed, args=(thread, session, groups), daemon=True).start()
        try:
            while (scores := thread.run(core.next(session))) is not None:
                yield scores
        except SourceFailed as failed:
            raise failed.error from None
        finally:
            thread.run_unless_stopped(session.close())

    def open(self, group: Group, call: Call = _CALL) -> "OpenGroup":
        """Opens a group whose responses come later; over gRPC only."""
        thread, core = self._home.get()
        return OpenGroup(thread, core, thread.run(core.open(group, call)))

    def put_media(self, data: bytes) -> Media:
        """Uploads an image (PNG, JPEG or WebP bytes); refer to it by the media that this returns."""
        thread, core = self._home.get()
        return thread.run(core.put_media(data))

    def scorers(self) -> list[Json]:
        """What the hub offers: name, family, scope, fingerprint, cost, deterministic, ready, summary."""
        thread, core = self._home.get()
        return thread.run(core.scorers())

    def close(self) -> None:
        """Ends the connection; calls under way raise ``Cancelled``."""
        self._home.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _revived, (self._home.settings,)


class OpenGroup:
    """A group that responses are added to. Iterate for rows as they are ready, or ask for the result."""

    def __init__(self, thread: LoopThread, core: Core, opened: Opened) -> None:
        self._thread, self._core, self._opened = thread, core, opened

    def add(self, *responses: str | Response) -> None:
        """Adds responses under the next free indices."""
        self._thread.run(self._opened.add([Response(each) if isinstance(each, str) else each for each in responses]))

    def end(self) -> None:
        """No response follows."""
        self._thread.run(self._opened.end())

    def result(self) -> GroupScores:
        """Ends the group and waits for all of its scores; the policy is applied."""
        return self._thread.run(self._core.result(self._opened))

    def __iter__(self) -> Iterator[GroupScores]:
        while (scores := self._thread.run(self._opened.next())) is not None:
            yield scores

    def close(self) -> None:
        """Gives the group up."""
        self._thread.run_unless_stopped(self._opened.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def feed(thread: LoopThread, session: Session, groups: Iterable[Group]) -> None:
    """Puts every group into the session, waiting while too many are under way."""
    try:
        for group in groups:
            thread.run(session.admit(group))
        thread.run(session.admit(None))
    except BaseException as error:  # whatever the iterable raises belongs to the one who reads the scores
        thread.run_unless_stopped(session.abort(error))


def _revived(settings: Settings) -> Client:
    client = Client.__new__(Client)
    client._home = Home(settings)
    return client
