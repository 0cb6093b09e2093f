"""What the doors count, in Prometheus text beside the hub's own."""

import prometheus_client as prometheus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from rewardhub.media.store import MediaStore

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class DoorMetrics:
    """One registry per server. Labels are routes and codes, never ids, tenants or texts."""

    def __init__(self) -> None:
        self._registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "rewardhub_door_requests", "Requests answered", ["door", "route", "code"], registry=self._registry
        )
        self._seconds = prometheus.Histogram(
            "rewardhub_door_request_seconds",
            "From receipt to the end of the answer",
            ["door", "route"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self.streams = prometheus.Gauge("rewardhub_door_streams", "Streams open now", registry=self._registry)

    def request(self, door: str, route: str, code: str, seconds: float) -> None:
        self._requests.labels(door, route, code).inc()
        self._seconds.labels(door, route).observe(seconds)

    def text(self, media: MediaStore) -> bytes:
        """The exposition text."""
        return prometheus.generate_latest(self._registry) + prometheus.generate_latest(_Media(media))


class _Media(Collector):
    """What the store holds at the time of the scrape."""

    def __init__(self, media: MediaStore) -> None:
        self._stats = media.stats()

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        stats = self._stats
        return [
            GaugeMetricFamily("rewardhub_media_bytes", "Bytes of the media store", stats["bytes"]),
            GaugeMetricFamily("rewardhub_media_items", "Media in the store", stats["items"]),
            CounterMetricFamily("rewardhub_media_evictions", "Media that left the store", stats["evictions"]),
        ]
