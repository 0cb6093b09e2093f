"""The hub's figures are exactly what was answered, under names that the operator gave."""

from prometheus_client.parser import text_string_to_metric_families

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.types import Call, Group, Response

INLINE = "name: secret\nterms: {a: {scorer: oracle}}\nvalue: a"


def scores_of(hub) -> dict[tuple[str, str], float]:
    """Scores by recipe and status."""
    return {
        (sample.labels["recipe"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(hub.metrics_text().decode())
        for sample in family.samples
        if sample.name == "rewardhub_scores_total"
    }


async def test_every_score_is_counted_under_a_known_name(hub):
    """Refused groups too; recipes that callers name or write come under one name each."""
    two = (Response("a"), Response("b"))
    groups = [
        Group("a", responses=two, recipe="match", reference={"answer": "a"}),
        Group("b", responses=two, recipe="match"),
        Group("c", responses=two, recipe="a secret"),
        Group("d", responses=two, recipe="crash"),
    ]
    await hub.score(groups, Call())
    await hub.score([Group("e", responses=two)], Call(recipe_text=INLINE))
    await hub.score([Group("f", responses=two)], Call(recipe_text="a secret"))
    await hub.score([Group("g", responses=two)], Call())
    await hub.score([Group("h", responses=two, recipe="match", expected=100_000)], Call())
    assert scores_of(hub) == {
        ("match", "ok"): 2.0,
        ("match", "reference_unparseable"): 2.0,
        ("unknown", "invalid_input"): 4.0,
        ("crash", "ok"): 2.0,
        ("inline", "ok"): 2.0,
        ("inline", "invalid_input"): 2.0,
        ("match", "invalid_input"): 2.0,
    }
    assert "secret" not in hub.metrics_text().decode()


async def test_a_group_that_finds_no_room_is_counted(tmp_path):
    """Overload is seen in the figures, not only by the callers."""
    hub = make_hub(HubConfig(workers=1, pool_queue=1, plugins=(_pooled(tmp_path),)))
    await hub.start()
    try:
        (scores,) = await hub.score([Group("g", responses=(Response("a"), Response("b")), recipe="pooled")], Call())
    finally:
        await hub.aclose()
    assert [str(status) for status in scores.total.statuses] == ["unavailable"] * 2
    assert scores_of(hub) == {("pooled", "unavailable"): 2.0}


async def test_what_a_lane_computed_is_counted_once(hub):
    """A scorer's figures leave out what the cache knew, whether it knew all of a group or a part."""

    def computed() -> float:
        families = text_string_to_metric_families(hub.metrics_text().decode())
        found = [each for family in families for each in family.samples if each.name == "rewardhub_scorer_scores_total"]
        return sum(each.value for each in found if each.labels["scorer"] == "dear")

    for texts, expected in (("ab", 2.0), ("ab", 2.0), ("abc", 3.0)):
        await hub.score([Group("g", responses=tuple(map(Response, texts)), recipe="dear")], Call())
        assert computed() == expected


async def test_what_the_reward_log_lacks_is_counted(tmp_path):
    """A counter of its own where there is a log."""
    hub = make_hub(HubConfig(workers=1, reward_log=str(tmp_path / "log.jsonl")))
    hub._log.dropped = 3
    assert "rewardhub_reward_log_dropped_total 3.0" in hub.metrics_text().decode()


def _pooled(folder):
    path = folder / "pooled.py"
    path.write_text(
        "from rewardhub.registry import verifier\n\n\n"
        '@verifier("pooled", lane="pool")\ndef pooled(response, reference) -> float:\n    return 1.0\n'
    )
    return path
