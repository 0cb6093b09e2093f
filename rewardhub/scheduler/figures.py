"""What the lanes measure: how long work waits and runs, what batches hold, how scorers fare.

Verifiers that answer inline are not here: they wait for nothing, and the recipes' own figures count them.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rewardhub.types import Status

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKENS = tuple(2**power for power in range(6, 19))


class Figures(Collector):
    """Shared by all lanes of a hub; names of lanes and scorers are the operator's."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._waited = Histogram(
            "rewardhub_queue_wait_seconds", "From the queue to a worker", ["lane"], buckets=SECONDS, registry=registry
        )
        self._ran = Histogram(
            "rewardhub_run_seconds", "One task or batch on a worker", ["lane"], buckets=SECONDS, registry=registry
        )
        self._batch = Histogram(
            "rewardhub_batch_tokens",
            "Tokens through the layers per batch",
            ["model"],
            buckets=TOKENS,
            registry=registry,
        )
        self._padding = Counter(
            "rewardhub_padding_tokens", "Tokens of batches that are padding", ["model"], registry=registry
        )
        self._truncated = Counter(
            "rewardhub_truncated_responses", "Responses whose prompt a model read in part", ["model"], registry=registry
        )
        self._scores = Counter(
            "rewardhub_scorer_scores",
            "Computed scores by scorer and status",
            ["scorer", "status"],
            registry=registry,
        )
        self._refused = Counter(
            "rewardhub_quarantine_refusals", "Responses refused for workers lost on them", ["scorer"], registry=registry
        )
        self._seconds = Histogram(
            "rewardhub_scorer_seconds", "One group on a scorer's lane, its wait included", ["scorer"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()

    def waited(self, lane: str, seconds: float) -> None:
        self._waited.labels(lane).observe(seconds)

    def ran(self, lane: str, seconds: float) -> None:
        self._ran.labels(lane).observe(seconds)

    def batch(self, model: str, tokens: int, padding: int) -> None:
        """A batch of ``tokens`` in all, ``padding`` of them none of any row."""
        self._batch.labels(model).observe(tokens)
        self._padding.labels(model).inc(padding)

    def truncated(self, model: str, responses: int) -> None:
        """Responses of a batch whose prompt was too long for the model, which read its end."""
        self._truncated.labels(model).inc(responses)

    def refused(self, scorer: str, count: int) -> None:
        """Responses that were answered at once because they cost workers before."""
        if count:
            self._refused.labels(scorer).inc(count)

    def scored(self, scorer: str, statuses: list[Status], seconds: float) -> None:
        for status in set(statuses):
            self._scores.labels(scorer, str(status)).inc(statuses.count(status))
        self._seconds.labels(scorer).observe(seconds)
