"""Exchanging scorers under load: the operator's plugins, cards and recipes are read again.

What comes anew is made ready beside what serves, then takes over at once: calls that began before finish
on what they began with, and no score is labelled with a version that did not compute it. Runs keep their
pins, so a run that pinned another fingerprint is refused until it says ``repin``. What was in quarantine may
be tried again. Other fields of the configuration hold after a restart, judges and their endpoints among them, and are
named where they changed; a plugin is one file: modules that it imports are not read again. A file that cannot be
read, or a model that cannot be loaded, changes nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError, Unavailable
from rewardhub.hub import Hub
from rewardhub.models.card import Card, load_card
from rewardhub.models.digest import card_stamp
from rewardhub.recipe_book import RecipeBook
from rewardhub.registry import Registry, default_registry
from rewardhub.scheduler.model_info import info_of
from rewardhub.scheduler.model_lane import ModelLane
from rewardhub.scheduler.model_scorer import ModelScorer
from rewardhub.scheduler.pool import Pool, default_workers

T = TypeVar("T")
LAST_WORK_S, WARM_S, POLL_S = 660.0, 30.0, 0.05
"""What an exchanged lane gets to finish what began on it, which an open group does for ten minutes, and a new pool to
start.
"""


_FIXED = sorted(
    HubConfig.model_fields.keys()
    - {"plugins", "cards", "recipes", "workers", "pool_queue", "worker_memory_mb"}
    - {"server"}  # of which the doors read what they can exchange
)


class Reload:
    """Reloads ``hub``, which was made of ``config``; ``reread`` gives it as the operator's files now state it."""

    def __init__(self, hub: Hub, config: HubConfig, reread: Callable[[], HubConfig]) -> None:
        self._hub = hub
        self._config = config
        self._reread = reread
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __call__(self) -> dict[str, list[str]]:
        """The names of scorers and recipes that were added, removed and changed, and as ``restart`` those of changed
        fields that hold after a restart only.

        Raises ``ConfigError``, and leaves everything as it was, for what cannot be loaded; ``Unavailable`` where the
        hub ends meanwhile.
        """
        if self._closed:
            raise Unavailable("the hub is shutting down")
        try:
            return await self._begun(self._reload())
        except asyncio.CancelledError:
            if self._closed:
                raise Unavailable("the hub is shutting down") from None
            raise

    async def aclose(self) -> None:
        """Ends the reload that is under way, with what it had started; there is no other one afterwards."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begun(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reload(self) -> dict[str, list[str]]:
        async with self._turn:
            config = await asyncio.to_thread(self._reread)
            registry = await asyncio.to_thread(default_registry, config.plugins)
            served = await self._lanes(config)
            lanes = [lane for lane, _ in served]
            scheduler, size = self._hub.scheduler, config.workers or default_workers()
            shared = scheduler.figures, scheduler.quarantine
            pool = Pool(size, config.pool_queue, config.worker_memory_mb, config.plugins, *shared, registry)
            try:
                book = await asyncio.to_thread(self._book, config, registry, served)
                before, after = await asyncio.to_thread(_fingerprints, self._hub.book, book)
                await pool.start()
                await _warm(pool)
            except BaseException:
                await pool.aclose()
                await self._stop(lane for lane in lanes if lane not in scheduler.models)
                raise
            for lane, card in served:
                lane.describe(card)
            self._exchange(book, lanes, pool)
            common = before.keys() & after.keys()
            return {
                "added": sorted(after.keys() - before.keys()),
                "removed": sorted(before.keys() - after.keys()),
                "changed": sorted(name for name in common if before[name] != after[name]),
                "restart": [name for name in _FIXED if getattr(config, name) != getattr(self._config, name)],
            }

    def _book(self, config: HubConfig, registry: Registry, served: list[tuple[ModelLane, Card]]) -> RecipeBook:
        for lane, card in served:
            registry.add(ModelScorer(lane, info_of(card)))
        for scorer in self._hub.book.registry:
            if scorer.info.family == "judge":
                registry.add(scorer)
        book = RecipeBook(registry, config.recipes)
        book.keep_pins_of(self._hub.book)
        book.compile_own()
        return book

    async def _lanes(self, config: HubConfig) -> list[tuple[ModelLane, Card]]:
        """The lane of each card: the present one where card and checkpoint are the same, else a new one, loaded.

        What is only told of a model makes no other card of it: a second copy of its weights may find no room.
        """
        unchanged = await asyncio.to_thread(_unchanged, self._hub.scheduler.models)
        present = {lane.card.as_loaded: lane for lane in unchanged}
        cards = [await asyncio.to_thread(load_card, path) for path in config.cards]
        scheduler = self._hub.scheduler
        figures, quarantine = scheduler.figures, scheduler.quarantine
        new = partial(
            ModelLane, queue_limit=config.model_queue, figures=figures, quarantine=quarantine,
            devices=self._hub.scheduler.devices,
        )  # fmt: skip
        lanes = [present.get(card.as_loaded) or new(card) for card in cards]
        fresh = [lane for lane in lanes if lane not in present.values()]
        for lane in fresh:
            lane.start()
        try:
            await asyncio.gather(*(lane.settled() for lane in fresh))
            failed = next((lane for lane in fresh if lane.failure), None)
            if failed is not None:
                raise ConfigError(f"{failed.card.name} cannot be loaded: {failed.failure}", field="cards")
        except BaseException:
            await self._stop(fresh)
            raise
        return [*zip(lanes, cards, strict=True)]

    def _exchange(self, book: RecipeBook, lanes: list[ModelLane], pool: Pool) -> None:
        hub, scheduler = self._hub, self._hub.scheduler
        gone = [lane for lane in scheduler.models if lane not in lanes]
        old, scheduler.pool = scheduler.pool, pool
        before, hub.book = hub.book, book
        scheduler.models = lanes
        scheduler.quarantine.clear()
        leaving: list[Pool | ModelLane] = [old, *gone]
        scheduler.leaving = [*leaving, *scheduler.leaving]
        for each in leaving:
            self._begun(self._finish(each, before))

    async def _finish(self, lane: Pool | ModelLane, book: RecipeBook) -> None:
        """Closes a lane once it has answered what it has taken and nothing of its book may ask it again."""
        for _ in range(int(LAST_WORK_S / POLL_S)):
            if not (lane.queued or book.users):
                break
            await asyncio.sleep(POLL_S)
        await lane.aclose()
        self._hub.scheduler.leaving.remove(lane)

    @staticmethod
    async def _stop(lanes: Iterable[ModelLane]) -> None:
        for lane in lanes:
            await lane.aclose()


def _unchanged(lanes: Iterable[ModelLane]) -> list[ModelLane]:
    """Those whose files are still the ones that were loaded."""
    return [lane for lane in lanes if lane.stamp == card_stamp(lane.card)]


async def _warm(pool: Pool) -> None:
    """Waits for the pool's first worker, so that the exchange is no pause."""
    for _ in range(int(WARM_S / POLL_S)):
        if pool.pids:
            return
        await asyncio.sleep(POLL_S)


def _fingerprints(*books: RecipeBook) -> list[Mapping[str, str]]:
    """By name, of each book; compiles the whole catalogue the first time, which is no work for the event loop."""
    return [{row["name"]: row["fingerprint"] for row in book.listing()} for book in books]
