"""What judges have cost and how their endpoints are, read when metrics are scraped."""

from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from rewardhub.judges.judge import JudgeScorer

_COUNTED = {
    "questions": "Questions put to a judge",
    "calls": "Upstream calls, retries and hedges included",
    "retries": "Upstream calls for a question asked before",
    "hedges": "Second calls for a slow one",
    "unparseable": "Replies without a readable verdict",
    "prompt_tokens": "Prompt tokens as the endpoints count them",
    "completion_tokens": "Completion tokens as the endpoints count them",
    "cost": "Price of the tokens by the judge's prices",
}


class JudgeFigures(Collector):
    """Counters by judge, tenant and recipe, all three named by the operator; gauges by judge and endpoint."""

    def __init__(self, judges: Sequence[JudgeScorer]) -> None:
        self._judges = judges

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        labels = ("judge", "tenant", "recipe")
        counters = {
            name: CounterMetricFamily(f"rewardhub_judge_{name}", text, labels=labels) for name, text in _COUNTED.items()
        }
        up = GaugeMetricFamily("rewardhub_judge_up", "Whether an endpoint may be called", labels=("judge", "endpoint"))
        busy = GaugeMetricFamily("rewardhub_judge_in_flight", "Calls under way", labels=("judge", "endpoint"))
        for judge in self._judges:
            name, stats = judge.settings.name, judge.lane.stats()
            for used in stats["usage"]:
                for key, counter in counters.items():
                    counter.add_metric([name, used["tenant"], used["recipe"]], used[key])
            for endpoint in stats["endpoints"]:
                up.add_metric([name, endpoint["url"]], float(endpoint["closed"]))
                busy.add_metric([name, endpoint["url"]], endpoint["in_flight"])
        return [*counters.values(), up, busy]
