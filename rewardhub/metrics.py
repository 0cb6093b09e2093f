"""The hub's own figures, in a Prometheus registry of their own."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from rewardhub.scheduler.scheduler import Scheduler
from rewardhub.types import GroupScores, Status

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts scores by recipe and status; reads queues and caches when scraped."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Lanes(scheduler))
        self._registry.register(scheduler.figures)
        labels = ("recipe", "status")
        self._scores = Counter("rewardhub_scores", "Scores by recipe and status", labels, registry=self._registry)
        self._seconds = Histogram(
            "rewardhub_group_seconds", "Receipt to answer, per group", ("recipe",), buckets=BUCKETS,
            registry=self._registry,
        )  # fmt: skip

        self._counters: dict[tuple[str, Status], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def count(self, recipe: str, scores: GroupScores) -> None:
        """A group that was scored."""
        self.count_statuses(recipe, scores.total.statuses)
        histogram = self._histograms.get(recipe)
        if histogram is None:
            histogram = self._histograms[recipe] = self._seconds.labels(recipe)
        histogram.observe(scores.timings.total_ms / 1000)

    def count_statuses(self, recipe: str, statuses: list[Status]) -> None:
        """The rows of a group, also of one that was refused, which took no time."""
        for status in set(statuses):
            counter = self._counters.get((recipe, status))
            if counter is None:
                counter = self._counters[recipe, status] = self._scores.labels(recipe, str(status))
            counter.inc(statuses.count(status))

    def add(self, figures: Collector) -> None:
        """Shows another lane's figures too."""
        self._registry.register(figures)

    def text(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)


class _Lanes(Collector):
    """Queue depths, lane health and cache figures at the time of the scrape."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        scheduler, memory = self._scheduler, self._scheduler.cache.memory
        queued = GaugeMetricFamily("rewardhub_queued_responses", "Responses waiting or running", labels=["lane"])
        queued.add_metric(["pool"], scheduler.pool.queued)
        queued.add_metric(["sandbox"], scheduler.programs.count)
        up = GaugeMetricFamily("rewardhub_model_up", "Whether a reward model is loaded", labels=["model"])
        drift = GaugeMetricFamily(
            "rewardhub_model_drift",
            "Largest difference of a state from that of full rows when the model was loaded, as a share of its length",
            labels=["model", "attention"],
        )
        for lane in scheduler.models:
            if lane.attention:
                drift.add_metric([lane.card.name, lane.attention], lane.drift)
            queued.add_metric([lane.card.name], lane.queued)
            up.add_metric([lane.card.name], float(lane.loaded.is_set()))
        workers = GaugeMetricFamily("rewardhub_pool_workers", "Live verifier workers", len(scheduler.pool.pids))
        refused = GaugeMetricFamily(
            "rewardhub_quarantined", "Inputs refused for workers lost on them", scheduler.quarantine.refused
        )
        cached = CounterMetricFamily("rewardhub_cache_lookups", "Cache lookups", labels=["result"])
        cached.add_metric(["hit"], scheduler.cache.hits)
        cached.add_metric(["miss"], scheduler.cache.misses)
        size = GaugeMetricFamily("rewardhub_cache_bytes", "Bytes of the memory cache, estimated", memory.bytes)
        evicted = CounterMetricFamily("rewardhub_cache_evictions", "Rows that left the memory cache", memory.evictions)
        redis = scheduler.cache.redis
        faults = CounterMetricFamily("rewardhub_redis_errors", "Calls that failed", redis.errors if redis else 0)
        usable = GaugeMetricFamily(
            "rewardhub_redis_up", "Whether Redis answered when it was last asked", float(bool(redis and redis.up))
        )
        shown: list[GaugeMetricFamily | CounterMetricFamily] = [
            queued,
            up,
            drift,
            workers,
            refused,
            cached,
            size,
            evicted,
        ]
        return [*shown, faults, usable] if redis else shown
