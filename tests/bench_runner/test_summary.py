"""What a report counts and says, on small sets where every number is known."""

import pytest

from rewardhub.bench import control, run
from rewardhub.types import Call, Column, GroupScores, Status

CALL = Call(recipe="stated")
MATRIX = {"id": "chat-1", "domain": "chat", "prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]}


class Stated:
    """Scores by text from a table; a text that is missing times out; the fingerprint is the prompt's."""

    def __init__(self, values):
        self.values = values

    def stream(self, groups, call):
        for group in groups:
            texts = [response.text for response in group.responses]
            values = [self.values.get(text) for text in texts]
            statuses = [Status.OK if value is not None else Status.INTERNAL_ERROR for value in values]
            yield GroupScores(
                group.id, Column(values, statuses, f"print-{group.prompt}"), indices=list(range(len(texts)))
            )


def pair(chosen, rejected, **fields):
    return {"prompt": "p", "chosen": chosen, "rejected": rejected, **fields}


@pytest.mark.parametrize("scope", ["response", "pair"])
def test_counts_of_pairs(write_lines, scope, tmp_path):
    """Equal, invalid and tied pairs are counted apart, whichever way the scorer is asked."""
    lines = [
        pair("one", "zero"), pair("zero", "one"), pair("one", "uno"), pair("one", "lost"), pair("lost", "lost too"),
        pair("one", "uno", tie=True), pair("one", "zero", tie=True), pair("one", "lost", tie=True),
    ]  # fmt: skip
    scorer = Stated({"one": 1.0, "uno": 1.0, "zero": 0.0})
    split = run("pairs", write_lines(lines), scorer, CALL, out=tmp_path / "o", scope=scope).splits[0]
    assert (split.items, split.pairs, split.invalid_pairs, split.equal_pairs) == (8, 5, 2, 1)
    assert (split.label_ties, split.equal_label_ties) == (3, 1)
    figures = {each.policy.name: (each.scorer.value, each.scorer.count) for each in split.figures}
    assert figures["accuracy"] == (1 / 5, 5)
    assert figures["ties count half"] == (1.5 / 5, 5)
    assert figures["labelled ties count"] == (2 / 8, 8)
    assert figures["invalid dropped"] == (1 / 3, 3)
    orders = 1 if scope == "response" else 2
    assert split.statuses == {"ok": 12 * orders, "internal_error": 4 * orders}


def test_official_figures_come_first(write_lines, hash_rewards, tmp_path):
    """The official figures are marked and first, and ``official`` of the report is the first of them."""
    line = {"id": "RLHF-1", "prompt": "p", "chosen": "c", "rejected": "r"}
    report = run("vl_rewardbench", write_lines([line]), hash_rewards(), CALL, out=tmp_path)
    figures = report.splits[0].figures
    assert [figure.policy.name for figure in figures if figure.official] == ["overall", "mean of groups"]
    assert all(figure.official for figure in figures[:2])
    assert report.official == {"": figures[0].scorer.value}


def test_rm_bench_matrix_and_levels(write_lines, tmp_path):
    """The cell in row i and column j is right style i against wrong style j; levels are means of three cells."""
    scorer = Stated({"a": 1.0, "b": 2.0, "c": 5.0, "d": 0.0, "e": 3.0, "f": 4.0})
    split = run("rm_bench", write_lines([MATRIX]), scorer, CALL, out=tmp_path).splits[0]
    assert split.matrix == ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert {each.name: each.scorer.value for each in split.levels} == {
        "easy": pytest.approx(1.0), "normal": pytest.approx(2 / 3), "hard": pytest.approx(0.0),
    }  # fmt: skip
    assert [each.name for each in split.cells] == ["chat easy", "chat normal", "chat hard"]
    assert split.figures[0].scorer.value == pytest.approx(5 / 9)
    assert split.figures[0].controls["shortest"].value == 0.0


def test_rm_bench_weighs_domains_alike(write_lines, tmp_path):
    """One item of a domain weighs like three of another in the official mean, not in the mean over items."""
    good = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0, "e": 0.0, "f": 0.0}
    bad = MATRIX | {"domain": "code", "chosen": ["d", "e", "f"], "rejected": ["a", "b", "c"]}
    split = run("rm_bench", write_lines([MATRIX] * 3 + [bad]), Stated(good), CALL, out=tmp_path).splits[0]
    figures = {each.policy.name: each.scorer.value for each in split.figures}
    assert (figures["accuracy"], figures["mean over items"]) == (0.5, 0.75)
    assert split.mistakes[0].id == "chat-1"


def test_pair_benchmarks_have_no_levels(pairs, hash_rewards, tmp_path):
    """Without levels there is no matrix and no cell; with one category there is no table of categories."""
    split = run("pairs", pairs, hash_rewards(), CALL, out=tmp_path).splits[0]
    assert (split.levels, split.cells, split.matrix) == ((), (), ())
    assert [each.name for each in split.categories] == ["a", "b"]


def test_several_fingerprints_are_a_warning(write_lines, tmp_path):
    """Scores of more than one version of a scorer are said to be so; one version is no warning."""
    lines = [pair("one", "zero"), pair("one", "zero") | {"prompt": "q"}]
    scorer = Stated({"one": 1.0, "zero": 0.0})
    report = run("pairs", write_lines(lines), scorer, CALL, out=tmp_path / "a")
    assert report.fingerprints == ("print-p", "print-q")
    assert report.warnings == ("the scores come from 2 fingerprints of the scorer",)
    assert run("pairs", write_lines(lines[:1]), scorer, CALL, out=tmp_path / "b").warnings == ()


def test_failures_are_listed_up_to_ten(write_lines, tmp_path):
    """The report lists ten failed groups with their statuses and counts all of them."""
    lines = [pair("lost", "zero", id=f"id {n}") for n in range(12)]
    split = run("pairs", write_lines(lines), Stated({"zero": 0.0}), CALL, out=tmp_path).splits[0]
    assert [failure.id for failure in split.failures] == [f"id {n}" for n in range(10)]
    assert split.failures[0].statuses == ("internal_error", "ok")
    assert split.statuses == {"ok": 12, "internal_error": 12}


def test_controls_have_a_fingerprint(pairs, tmp_path):
    """The fingerprint of a control names it, and the seed where there is one."""
    prints = {
        name: run("pairs", pairs, control(name, seed=3), Call(recipe=name), out=tmp_path).fingerprints
        for name in ("length", "shortest", "random")
    }
    assert prints == {
        "length": ("control:length:1",), "shortest": ("control:shortest:1",), "random": ("control:random:3:1",),
    }  # fmt: skip


def test_random_draws_are_uniform(write_lines):
    """Draws of the random control spread evenly over [0, 1)."""
    from rewardhub.types import Group, Response

    group = Group("g", "p", tuple(Response(str(n)) for n in range(4000)))
    (scores,) = control("random").score([group], Call())
    assert all(0 <= value < 1 for value in scores.values)
    assert sum(scores.values) / 4000 == pytest.approx(0.5, abs=0.02)
    assert sum(value < 0.1 for value in scores.values) / 4000 == pytest.approx(0.1, abs=0.02)


def test_seed_reaches_the_bootstrap_and_the_control(pairs, hash_rewards, tmp_path):
    """Another seed draws another bootstrap and another random control; the scorer's share stays."""
    one, two = (run("pairs", pairs, hash_rewards(), CALL, out=tmp_path / str(s), seed=s).splits[0] for s in (1, 2))
    macro = next(n for n, each in enumerate(one.figures) if each.policy.grouping == "macro")
    assert one.figures[macro].scorer.value == two.figures[macro].scorer.value
    assert one.figures[macro].scorer != two.figures[macro].scorer
    assert one.figures[0].controls["random"] != two.figures[0].controls["random"]
