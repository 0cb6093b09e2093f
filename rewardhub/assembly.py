"""Makes a hub from its configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import RedisStore
from rewardhub.cache.store import Cache
from rewardhub.config import HubConfig, first_fault
from rewardhub.hub import Hub, Limits
from rewardhub.judges.figures import JudgeFigures
from rewardhub.judges.judge import judge_scorers
from rewardhub.judges.panel import PanelSettings, panel_scorers
from rewardhub.judges.pool import JudgePool
from rewardhub.judges.settings import JudgeSettings
from rewardhub.media.addresses import Policy
from rewardhub.media.fetch import Fetcher
from rewardhub.media.remote import Remote
from rewardhub.media.store import MediaLimits, MediaStore
from rewardhub.models.card import load_card
from rewardhub.recipe_book import RecipeBook
from rewardhub.registry import Registry, default_registry
from rewardhub.reward_log import RewardLog
from rewardhub.sandbox import runner as sandbox
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.model_lane import ModelLane
from rewardhub.scheduler.model_scorer import ModelScorer
from rewardhub.scheduler.pool import Pool, default_workers
from rewardhub.scheduler.quarantine import Quarantine
from rewardhub.scheduler.scheduler import Scheduler
from rewardhub.scorer import Scorer

MB = 1024 * 1024
Settings = TypeVar("Settings", bound=BaseModel)


def make_hub(config: HubConfig, registry: Registry | None = None) -> Hub:
    """The hub of a configuration, not yet started; raises ``ConfigError`` naming what is wrong."""
    registry = default_registry(config.plugins) if registry is None else registry
    redis = RedisStore(config.redis, ttl_s=config.redis_ttl_s) if config.redis else None
    sandbox.settings.allow_weak, sandbox.settings.remote_url = config.allow_weak_sandbox, config.sandbox_url
    figures = Figures()
    quarantine = Quarantine(figures)
    workers = config.workers or default_workers()
    pool = Pool(workers, config.pool_queue, config.worker_memory_mb, config.plugins, figures, quarantine)
    cache = Cache(MemoryStore(config.cache_mb * MB), redis)
    scheduler = Scheduler(pool, cache, quarantine, sandbox_slots=config.sandbox_slots, figures=figures)
    for path in config.cards:
        lane = ModelLane(
            load_card(path), queue_limit=config.model_queue, figures=figures, quarantine=quarantine,
            devices=scheduler.devices,
        )  # fmt: skip
        scheduler.models.append(lane)
        registry.add(ModelScorer(lane, lane.info))
    judges = JudgePool()
    scheduler.services.append(judges)
    asked = judge_scorers(_tables(JudgeSettings, "judges", config.judges), judges)
    panels = panel_scorers(_tables(PanelSettings, "panels", config.panels), asked)
    scorers: list[Scorer] = [*asked, *panels]
    for scorer in scorers:
        registry.add(scorer)
    total = config.media_mb * MB
    share = min(total, config.media_tenant_mb * MB or total)
    item = min(share, MediaLimits().item_bytes)
    limits = MediaLimits(item_bytes=item, tenant_bytes=share, total_bytes=total, ttl_s=config.media_ttl_s)
    log = RewardLog(Path(config.reward_log), texts=config.reward_log_texts) if config.reward_log else None
    book = RecipeBook(registry, config.recipes)
    media, bounds = _media_store(limits, config), Limits(config.deadline_ms, config.open_group_s, config.in_hand)
    hub = Hub(book, scheduler, media, limits=bounds, log=log)
    hub.metrics.add(JudgeFigures(asked))
    if log:
        hub.metrics.add(log)
    return hub


def _media_store(limits: MediaLimits, config: HubConfig) -> MediaStore:
    store = MediaStore(limits)
    policy = Policy(config.media_fetch, config.media_fetch_networks)
    if config.media_fetch:
        fetcher = Fetcher(policy, max_bytes=limits.item_bytes, within_s=config.media_fetch_s)
        store.remote = Remote(fetcher, store)
    return store


def _tables(model: type[Settings], key: str, tables: Sequence[dict[str, Any]]) -> list[Settings]:
    """The settings in the tables of a configuration; raises ``ConfigError`` naming the place."""
    settings = []
    for index, table in enumerate(tables):
        try:
            settings.append(model.model_validate(table))
        except ValidationError as error:
            raise first_fault(model, error, key, index) from None
    return settings
