"""The line of a run: asking, resuming, failures."""

import json

import pytest

from rewardhub.bench import control, run
from rewardhub.errors import HubUnreachable, InternalError, InvalidInput, UnknownName
from rewardhub.types import Call, Column, Group, GroupScores, Response, Status

CALL = Call(recipe="hash")


def bench(pairs, rewards, out, **options):
    return run("pairs", pairs, rewards, CALL, out=out, **options)


def manifest_lines(out):
    return (out / "pairs.hash.scores.jsonl").read_text().splitlines()


def test_scores_reach_the_right_pair(pairs, hash_rewards, hashed, tmp_path):
    """Answers in reverse order with reversed rows give the share that the hash itself gives."""
    report = bench(pairs, hash_rewards(), tmp_path / "out")
    lines = [json.loads(line) for line in pairs.read_text().splitlines()]
    right = sum(hashed(line["chosen"]) > hashed(line["rejected"]) for line in lines)
    assert 0 < right < 40
    assert report.official == {"": right / 40}
    assert report.splits[0].statuses == {"ok": 80}
    assert report.fingerprints == ("hash-1",)


def test_the_call_and_the_group_are_passed_on(pairs, hash_rewards, tmp_path):
    """The scorer sees the caller's call, one group of two per pair, and nothing of the label."""
    rewards = hash_rewards()
    bench(pairs, rewards, tmp_path / "out")
    assert rewards.calls == [CALL]
    assert len(rewards.asked) == 40
    group = next(group for group in rewards.asked if group.id == "0")
    assert group == Group("0", "p0", (Response("good 0"), Response("bad 0")))


def test_pair_scope_asks_both_orders(pairs, hash_rewards, tmp_path):
    """A scorer that compares is asked in both orders; a strong position bias shows and earns half."""
    rewards = hash_rewards(first_bonus=10.0)
    report = bench(pairs, rewards, tmp_path / "out", scope="pair")
    shown = {group.id: [response.text for response in group.responses] for group in rewards.asked}
    assert len(shown) == 80
    assert shown["3.0.0"] == shown["3.0.1"][::-1] == ["good 3", "bad 3"]
    assert report.official == {"": 0.5}
    position = report.splits[0].position
    assert (position.first_wins.value, position.consistent.value) == (1.0, 0.0)
    page = (tmp_path / "out/pairs.hash.html").read_text()
    assert "asked in both orders" in page
    assert "the first shown wins" in page
    both = next(each for each in report.splits[0].figures if each.policy.name == "invalid dropped")
    assert both.scorer.value == 0.5


def test_pair_scope_without_bias_equals_response_scope(pairs, hash_rewards, tmp_path):
    """Without a position bias both ways of asking give the same figure, and the orders agree."""
    alone = bench(pairs, hash_rewards(), tmp_path / "a")
    paired = bench(pairs, hash_rewards(), tmp_path / "b", scope="pair")
    assert alone.official == paired.official
    assert alone.splits[0].position is None
    assert paired.splits[0].position.consistent.value == 1.0


def test_judgebench_net_of_two_games(write_lines, hash_rewards, tmp_path):
    """Under the official JudgeBench metric a judge that always names the first response gets nothing."""
    row = {
        "pair_id": "1",
        "source": "mmlu-pro-law",
        "question": "q",
        "response_A": "a",
        "response_B": "b",
        "label": "B>A",
    }
    path = write_lines([row | {"pair_id": str(n), "label": ("A>B", "B>A")[n % 2]} for n in range(10)], "gpt.jsonl")
    report = run("judgebench", path, hash_rewards(first_bonus=9.0), CALL, out=tmp_path / "o", scope="pair")
    figures = {each.policy.name: each.scorer.value for each in report.splits[0].figures}
    assert figures["accuracy"] == 0.0
    assert figures["order as stored"] == 0.5
    assert figures["right in both orders"] == 0.0


def test_failures_are_counted_and_never_numbers(pairs, hash_rewards, hashed, tmp_path):
    """A pair with a failed score is wrong in the official figure, dropped in another, and listed."""
    rewards = hash_rewards(fails={"good 0": [Status.INTERNAL_ERROR] * 9, "bad 1": [Status.NO_ANSWER] * 9})
    report = bench(pairs, rewards, tmp_path / "out")
    split = report.splits[0]
    lines = [json.loads(line) for line in pairs.read_text().splitlines()]
    right = [hashed(line["chosen"]) > hashed(line["rejected"]) for line in lines]
    figures = {each.policy.name: each.scorer for each in split.figures}
    assert figures["accuracy"].value == sum(right[2:]) / 40
    assert (figures["invalid dropped"].value, figures["invalid dropped"].count) == (sum(right[2:]) / 38, 38)
    assert figures["stated values count"].value == (sum(right[2:]) + 1) / 40
    assert split.statuses == {"ok": 78, "no_answer": 1, "internal_error": 1}
    assert split.invalid_pairs == 2
    assert {(failure.statuses, failure.reason) for failure in split.failures} == {
        (("internal_error", "ok"), "because internal_error"),
        (("ok", "no_answer"), "because no_answer"),
    }


@pytest.mark.parametrize("scope", ["response", "pair"])
def test_a_scorer_that_only_fails_gets_no_figure(pairs, scope, tmp_path):
    """If nothing is ok no figure of the scorer is a number, the controls' are, and the text says why."""

    class Down:
        def stream(self, groups, call):
            for group in groups:
                yield GroupScores(group.id, Column.failed(2, Status.UNAVAILABLE, "no worker"), indices=[0, 1])

    report = bench(pairs, Down(), tmp_path / "out", scope=scope)
    split = report.splits[0]
    assert {each.scorer.value for each in (*split.figures, *split.categories)} == {None}
    assert {each.above_length.value for each in split.figures} == {None}
    assert split.figures[0].controls["length"].count == 40
    assert [each.name for each in split.categories] == ["a", "b"]
    assert "no score is ok" in report.text()
    assert f"unavailable {80 if scope == 'response' else 160}" in report.text()
    page = (tmp_path / "out/pairs.hash.html").read_text()
    assert "– %" in page
    assert "no worker" in page


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_a_failure(pairs, value, tmp_path):
    """NaN and infinity are counted as failures, not compared."""

    class Odd:
        def stream(self, groups, call):
            for group in groups:
                yield GroupScores(group.id, Column([value, 1.0], [Status.OK] * 2), indices=[0, 1])

    report = bench(pairs, Odd(), tmp_path / "out")
    assert report.splits[0].statuses == {"ok": 40, "internal_error": 40}
    assert report.splits[0].invalid_pairs == 40


def test_retryable_groups_are_asked_once_more(pairs, hash_rewards, tmp_path):
    """A group that timed out is asked again in the same run; one that is wrong input is not."""
    rewards = hash_rewards(fails={"good 0": [Status.TIMEOUT], "good 3": [Status.INVALID_INPUT]})
    report = bench(pairs, rewards, tmp_path / "out")
    asked = [group.id for group in rewards.asked]
    assert (asked.count("0"), asked.count("3"), len(asked)) == (2, 1, 41)
    assert report.splits[0].statuses == {"ok": 79, "invalid_input": 1}


def test_resume_asks_only_what_is_missing(pairs, hash_rewards, tmp_path):
    """After a break only unanswered groups are asked, and one answered one as a probe."""

    class Breaks(hash_rewards):
        def stream(self, groups, call):
            for number, scores in enumerate(super().stream(groups, call)):
                if number == 25:
                    raise HubUnreachable("gone")
                yield scores

    with pytest.raises(HubUnreachable):
        bench(pairs, Breaks(), tmp_path / "out")
    assert len(manifest_lines(tmp_path / "out")) == 25
    rewards = hash_rewards()
    report = bench(pairs, rewards, tmp_path / "out")
    assert len(rewards.asked) == 15 + 1
    assert report.official == bench(pairs, hash_rewards(), tmp_path / "fresh").official


def test_resume_survives_half_a_line(pairs, hash_rewards, tmp_path):
    """A manifest cut in the middle of a line loses that line only."""
    first = bench(pairs, hash_rewards(), tmp_path / "out")
    path = tmp_path / "out/pairs.hash.scores.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    rewards = hash_rewards()
    assert bench(pairs, rewards, tmp_path / "out").official == first.official
    assert len(rewards.asked) == 2
    assert all(json.loads(line) for line in manifest_lines(tmp_path / "out"))


def test_a_changed_scorer_is_asked_for_everything_again(pairs, hash_rewards, tmp_path):
    """A new fingerprint makes the old answers stale."""
    bench(pairs, hash_rewards(), tmp_path / "out")
    rewards = hash_rewards(fingerprint="hash-2")
    report = bench(pairs, rewards, tmp_path / "out")
    assert len(rewards.asked) == 40
    assert report.fingerprints == ("hash-2",)


def test_changed_data_or_recipe_is_asked_again(write_lines, hash_rewards, tmp_path):
    """Answers are kept by row and content and recipe: an edited pair, an equal id or another recipe is asked."""
    line = {"id": "same", "prompt": "p", "chosen": "c", "rejected": "r"}
    bench(write_lines([line, line]), first := hash_rewards(), tmp_path / "out")
    assert len(first.asked) == 2
    bench(write_lines([line, line | {"chosen": "other"}]), rewards := hash_rewards(), tmp_path / "out")
    assert {group.id for group in rewards.asked} == {"0", "1"}
    run("pairs", write_lines([line]), again := hash_rewards(), Call(recipe="else"), out=tmp_path / "out")
    assert len(again.asked) == 1


def test_a_limited_run_is_a_beginning(tmp_path, write_lines, hash_rewards):
    """What a run with a limit asked is not asked again without it, in any split."""
    row = {"source": "mmlu-pro-law", "question": "q", "response_A": "a", "response_B": "b", "label": "B>A"}
    for name in ("one.jsonl", "two.jsonl"):
        write_lines([row | {"pair_id": str(n)} for n in range(5)], name)
    run("judgebench", tmp_path, hash_rewards(), CALL, out=tmp_path / "out", limit=3)
    rewards = hash_rewards()
    run("judgebench", tmp_path, rewards, CALL, out=tmp_path / "out")
    assert len(rewards.asked) == 2 * 2 + 1


def test_failed_answers_are_not_final(pairs, hash_rewards, tmp_path):
    """A failure that was kept is asked again by the next run, and its good answer replaces it."""
    bench(pairs, hash_rewards(fails={"good 0": [Status.TIMEOUT] * 2}), tmp_path / "out")
    rewards = hash_rewards()
    report = bench(pairs, rewards, tmp_path / "out")
    assert "0" in {group.id for group in rewards.asked}
    assert report.splits[0].statuses == {"ok": 80}


@pytest.mark.parametrize("ids", [["0", "0"], ["0", "7"], ["0"]])
def test_wrong_answers_are_refused(write_lines, ids, tmp_path):
    """A doubled, an unknown or a missing answer stops the run."""
    line = {"prompt": "p", "chosen": "c", "rejected": "r"}

    class Confused:
        def stream(self, groups, call):
            list(groups)
            for name in ids:
                yield GroupScores(name, Column([1.0, 0.0], [Status.OK] * 2), indices=[0, 1])

    with pytest.raises(InternalError, match="group"):
        bench(write_lines([line, line]), Confused(), tmp_path / "out")


@pytest.mark.parametrize("indices", [[0], [0, 0], [0, 2]])
def test_wrong_rows_are_refused(pairs, indices, tmp_path):
    """An answer without exactly one row per response stops the run."""

    class Short:
        def stream(self, groups, call):
            for group in groups:
                column = Column([1.0] * len(indices), [Status.OK] * len(indices))
                yield GroupScores(group.id, column, indices=indices)

    with pytest.raises(InternalError, match="for 2 responses"):
        bench(pairs, Short(), tmp_path / "out")


def test_foreign_manifest_is_refused(pairs, hash_rewards, tmp_path):
    """A manifest that holds something else is an error that names its line."""
    (tmp_path / "pairs.hash.scores.jsonl").write_text('{"key": "x"}\n')
    with pytest.raises(InvalidInput, match="scores.jsonl:1"):
        bench(pairs, hash_rewards(), tmp_path)


def test_progress_and_limit(pairs, hash_rewards, tmp_path):
    """Progress counts up to the number of groups; a limit is said in the report."""
    seen = []
    report = bench(pairs, hash_rewards(), tmp_path / "out", limit=5, progress=lambda *state: seen.append(state))
    assert seen == [(n, 5) for n in range(6)]
    assert report.splits[0].items == 5
    assert "first 5 items" in report.warnings[0]


def test_progress_counts_what_a_resumed_run_has(pairs, hash_rewards, tmp_path):
    """A run that finds everything answered says so at once."""
    bench(pairs, hash_rewards(), tmp_path / "out")
    seen = []
    bench(pairs, hash_rewards(), tmp_path / "out", progress=lambda *state: seen.append(state))
    assert seen == [(40, 40)]


def test_incomplete_sets_are_said(write_lines, hash_rewards, tmp_path):
    """A set with fewer items than the official one gets a warning, unless a limit says so already."""
    row = {
        "pair_id": "1",
        "source": "mmlu-pro-law",
        "question": "q",
        "response_A": "a",
        "response_B": "b",
        "label": "B>A",
    }
    path = write_lines([row] * 3, "gpt-4o.jsonl")
    report = run("judgebench", path, hash_rewards(), CALL, out=tmp_path / "a")
    assert report.warnings == ("not the whole official set: split gpt-4o has 3 items instead of 350",)
    limited = run("judgebench", path, hash_rewards(), CALL, out=tmp_path / "b", limit=2)
    assert len(limited.warnings) == 1
    assert "first 2 items" in limited.warnings[0]


BEST = {"idx": 5, "question": "q", "response": ["a", "b", "c"], "score": [True, False, True]}


@pytest.mark.parametrize(
    ("values", "best", "shared"),
    [([1.0, 2.0, 3.0], 1, 1), ([1.0, 3.0, 2.0], 0, 0), ([2.0, 2.0, 1.0], 1, 0.5), ([0.0, 2.0, 2.0], 0, 0.5)],
)
def test_best_of_n_takes_the_highest(write_lines, values, best, shared, tmp_path):
    """The highest score decides, the first of equals, or their mean; all responses travel as one group."""

    class Stated:
        def stream(self, groups, call):
            for group in groups:
                yield GroupScores(group.id, Column(list(values), [Status.OK] * 3), indices=[0, 1, 2])

    report = run("best_of_n", write_lines([BEST]), Stated(), CALL, out=tmp_path / "o", scope="group")
    figures = {each.policy.name: each.scorer.value for each in report.splits[0].figures}
    assert (figures["best of n"], figures["equal scores share"]) == (best, shared)
    assert set(report.splits[0].figures[0].controls) == {"length", "shortest", "random", "oracle"}


def test_best_of_n_without_a_wrong_response(write_lines, hash_rewards, tmp_path):
    """A problem whose responses are all right has no pair and is still scored."""
    report = run("best_of_n", write_lines([BEST | {"score": [True] * 3}]), hash_rewards(), CALL, out=tmp_path)
    split = report.splits[0]
    assert (split.pairs, split.figures[0].scorer.value) == (0, 1.0)


def test_best_of_n_with_a_failed_score(write_lines, hash_rewards, tmp_path):
    """A problem with a failed score is wrong, or dropped: the rest of its scores decide nothing."""
    report = run(
        "best_of_n", write_lines([BEST]), hash_rewards(fails={"b": [Status.INTERNAL_ERROR] * 3}), CALL, out=tmp_path
    )
    figures = {each.policy.name: each.scorer.value for each in report.splits[0].figures}
    assert (figures["best of n"], figures["invalid dropped"]) == (0.0, None)


def test_partial_answers_are_passed_over(pairs, hash_rewards, tmp_path):
    """An answer marked incomplete is not taken for the group's."""

    class Partial(hash_rewards):
        def stream(self, groups, call):
            for scores in super().stream(groups, call):
                yield GroupScores(scores.id, Column([9.0], [Status.OK]), indices=[1], complete=False)
                yield scores

    assert bench(pairs, Partial(), tmp_path / "a").official == bench(pairs, hash_rewards(), tmp_path / "b").official


def test_controls_are_scorers(pairs, tmp_path):
    """Length, shortest and random run as scorers; an unknown control names the nearest."""
    for name in ("length", "shortest", "random"):
        report = run("pairs", pairs, control(name), Call(recipe=name), out=tmp_path)
        figure = report.splits[0].figures[0]
        assert figure.scorer == figure.controls[name]
        assert figure.above_length.value == pytest.approx(figure.scorer.value - figure.controls["length"].value)
    with pytest.raises(UnknownName, match="length"):
        control("lenght")


def test_random_control_depends_on_its_seed(pairs, tmp_path):
    """Two seeds differ, the same seed agrees, and response order has no influence."""
    one, same, other = (
        [scores.values for scores in control("random", seed=seed).score([GROUP], Call())] for seed in (1, 1, 2)
    )
    assert one == same != other
    swapped = Group("g", "p", GROUP.responses[::-1])
    assert control("random", seed=1).score([swapped], Call())[0].values == one[0][::-1]


GROUP = Group("g", "p", (Response("a"), Response("b")))
