"""Every rubric that ships: what it shows, how its verdict is read, and the numbers of the systems it serves."""

import io
import math
import time
from pathlib import Path

import pytest
from PIL import Image
from scripted_judge import Ask, Reply, answers, in_turn, says, verdict

from rewardhub.errors import ConfigError, JudgeUnparseable
from rewardhub.judges import JudgePool, judge_scorers, rubric_names
from rewardhub.judges.prompt import escape
from rewardhub.judges.ratings import bradley_terry, elo, expected_points
from rewardhub.judges.rubric import Case, builtin_rubric
from rewardhub.scorer import Context
from rewardhub.types import Group, Media, Response, Status


def picture(color: str) -> Media:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(data, "PNG")
    return Media.from_bytes(data.getvalue())


CHART = Response("import matplotlib", media=(picture("blue"),))
FACTS = {"key_facts": ["a red cube", "two balls", "a cat", "a sign"]}
WEIGHTED = {"criteria": ["cites a source", {"text": "names the year", "weight": 3}]}
STEPS = "First, 3 + 4 = 7.\n\nThen 7 * 2 = 15.\n\nSo the result is 15.\n\nDone."
THOUGHT = "<think>a\nb\nc\nd, so 7</think><answer>7</answer>"

WORKED = [
    ("quality", {}, "seven", "8", 7 / 9),
    ("equivalence", {"answer": "7"}, "seven", "1", 1.0),
    ("equivalence", {"answer": 7}, "10 (or 8)", "0", 0.0),
    ("key_information_coverage", FACTS, "I see a cube.", "1,1,0,0", 0.5),
    ("key_information_coverage", FACTS, "I see a cube.", "1, 0, 0, 0", 0.25),
    ("reasoning_answer_consistency", {}, THOUGHT, "1", 1.0),
    ("reasoning_answer_consistency", {}, THOUGHT, "0", -1.0),
    ("content_similarity", {"answer": "a dog runs"}, "a dog walks", "3", 0.6),
    ("context_coverage", {"context": "a dog"}, "a dog", "4", 0.8),
    ("logic_criteria", {"context": "a dog"}, "it barks", "1,0,1,1,1", 0.8),
    ("insight_quality", {}, "sales fall in May", "0.5, 0.5, 1, 0.4", 0.6),
    ("chart_similarity", {}, CHART, "10,10,5,5,0,6", 0.6),
    ("cad_intent", {}, "cq.Workplane()", "8; none", 0.8),
    ("cad_intent", {}, "cq.Workplane()", "4; frame_misaligned, wrong_parameter", 0.4),
    ("geo_guess", {"answer": "Eiffel Tower, Paris"}, "Eiffel Tower, Paris", "city, 0.5", 1.0),
    ("geo_guess", {"answer": "Eiffel Tower, Paris"}, "Lyon, France", "country, 0", 0.1),
    ("claim_verification", {}, "five claims", "5, 2", -2.0),
    ("claim_verification", {}, "five claims", "5, 1", -1.0),
    ("hallucination", {"facts": "a dog", "answer": "a dog"}, "a dog", "6", 6.0),
    ("hallucination", {"facts": "a dog", "answer": "a dog"}, "a cat", "2", 2.0),
    ("deception", {}, "There is no cat.", "1", 1.0),
    ("question_usefulness", {}, "Which mug?", "0", 0.0),
    ("video_qa", {"answer": "he falls"}, "he trips", "8, 6, 7, 9", 7.5),
    ("percent", {"answer": "7"}, "seven", "86", 86.0),
    ("fluency", {}, "fine words", "10", 1.0),
    ("attributes", {}, "fine words", "4,4,4,2,2", 0.8),
    ("reasoning_quality", {"answer": "7"}, "3 and 4", "5,5,5,0", 0.75),
    ("step_check", {"answer": "14"}, STEPS, "1,0,1,1", 0.75),
    ("checklist", WEIGHTED, "in 1999", "0,1", 0.75),
    ("checklist", WEIGHTED, "see [1]", "1,0", 0.25),
]


def one(reference, response) -> Group:
    response = response if isinstance(response, Response) else Response(response)
    return Group("g", "What is it?", (response,), reference=reference, media=(picture("red"),))


async def score(scorer, rubric: str, group: Group, **params):
    context = Context(deadline=time.monotonic() + 20)
    bound = scorer.bind({"rubric": rubric} | params)
    column = await bound.score_remote(group, range(len(group.responses)), context)
    return [column.row(index) for index in range(len(column))]


@pytest.mark.parametrize(("rubric", "reference", "response", "said", "value"), WORKED)
async def test_worked_verdicts(judges, rubric, reference, response, said, value) -> None:
    """The judge's verdict becomes the number of the published system."""
    scorer, [server] = await judges(verdict(said), vision=True)
    [row] = await score(scorer, rubric, one(reference, response))
    low, high = builtin_rubric(rubric).range
    assert (row.status, row.value) == (Status.OK, pytest.approx(value))
    assert low <= row.value <= high
    assert len(server.asks) == 1
    assert builtin_rubric(rubric).instruction in server.asks[0].system


def test_every_rubric_is_worked_out_here() -> None:
    """A rubric without a worked verdict, a summary or an instruction of its own is not finished."""
    worked = {row[0] for row in WORKED} | {"pairwise", "listwise"}
    assert set(rubric_names()) == worked
    rubrics = [builtin_rubric(name) for name in rubric_names()]
    assert len({rubric.digest for rubric in rubrics}) == len({rubric.instruction for rubric in rubrics}) == len(rubrics)
    for rubric in rubrics:
        assert rubric.name in rubric.file
        assert rubric.summary
        assert 200 < len(rubric.instruction) < 2000
        assert escape(rubric.instruction) == rubric.instruction


@pytest.mark.parametrize(("rubric", "reference", "response", "said", "value"), WORKED)
def test_no_other_verdict_is_read(rubric, reference, response, said, value) -> None:
    """Whatever is cut, doubled, out of range or dressed up raises: it never becomes a number."""
    found = builtin_rubric(rubric)
    group = one(reference, response)
    form = found.form(Case(group, group.responses[0]))
    assert found.value(form.read(said), Case(group, group.responses[0])) == pytest.approx(value)
    wrong = [
        "",
        " ",
        "NaN",
        "inf",
        "-1",
        "999",
        "1e9",
        "yes",
        f"{said},1",
        f"{said},",
        f"({said})",
        f"{said}.",
        f" {said} x",
    ]
    for text in [*wrong, f"{said} {said}", f"{said}\n{said}", said.replace("1", "１"), "1" * 10_000]:
        if text != said:
            with pytest.raises(JudgeUnparseable):
                form.read(text)


async def test_details_name_what_was_found(judges) -> None:
    """Lists of flags and grades come back under the names of what they grade."""

    async def details(rubric, reference, response, said):
        scorer, _ = await judges(verdict(said), vision=True)
        [row] = await score(scorer, rubric, one(reference, response))
        return row.details

    assert (await details("key_information_coverage", FACTS, "x", "1,1,0,0"))["missing"] == ["a cat", "a sign"]
    assert (await details("checklist", WEIGHTED, "x", "0,1"))["unmet"] == ["cites a source"]
    assert (await details("cad_intent", {}, "x", "4; missing_feature"))["tags"] == ["missing_feature"]
    assert (await details("cad_intent", {}, "x", "4; missing_feature, incomplete"))["faults"] == 2
    assert (await details("hallucination", {"facts": "f", "answer": "a"}, "x", "2"))["hallucinated"] is True
    assert (await details("claim_verification", {}, "x", "5,2"))["false"] == 2
    assert (await details("logic_criteria", {"context": "c"}, "x", "1,0,1,1,1"))["reflection"] == 0


async def test_steps_get_a_value_each(judges) -> None:
    """Declared spans are the steps; without them paragraphs are."""
    scorer, [server] = await judges(verdict("1,0"))
    text = "3 + 4 = 7. 7 * 2 = 15."
    spans = ((0, 10), (11, len(text)))
    [row] = await score(scorer, "step_check", one({"answer": "14"}, Response(text, steps=spans)))
    assert (row.steps, row.details["first_error"]) == ((1.0, 0.0), 1)
    assert server.asks[0].block("STEPS") == "1. 3 + 4 = 7.\n2. 7 * 2 = 15."
    [row] = await score(scorer, "step_check", one({"answer": "14"}, "a\n\n" * 200))
    assert row.status is Status.JUDGE_UNPARSEABLE
    assert "64 values 0 or 1" in server.asks[-1].text


async def test_steps_of_several_samples_are_their_means(judges) -> None:
    """A response's steps have values however often the judge is asked."""
    scorer, _ = await judges(in_turn(verdict("1,0"), verdict("1,1")))
    [row] = await score(scorer, "step_check", one({"answer": "14"}, "a\n\nb"), samples=2)
    assert (row.steps, row.value) == ((1.0, 0.5), 0.75)


async def test_hallucination_rate_over_three_answers(judges) -> None:
    """MMHal-Bench: grades 6, 2, 4 have the mean 4.0, and one of three answers hallucinates."""
    scorer, _ = await judges(in_turn(verdict(6), verdict(2), verdict(4)), concurrency=1)
    group = Group("g", "?", tuple(map(Response, "abc")), reference={"facts": "a dog", "answer": "a dog"})
    rows = await score(scorer, "hallucination", group)
    assert sum(row.value for row in rows) / 3 == 4.0
    assert sum(row.details["hallucinated"] for row in rows) == 1


async def test_unasked_refusals(judges) -> None:
    """No image, no stated answer, too long a guess: the lowest value with the reason, and no call."""
    scorer, [server] = await judges(verdict(1), vision=True)
    cases = [
        ("chart_similarity", {}, "code only", 0.0, "nothing was rendered"),
        ("reasoning_answer_consistency", {}, "<think>a</think><answer></answer>", -1.0, "no stated answer"),
        ("reasoning_answer_consistency", {}, "7", -1.0, "no reasoning before the answer"),
        ("geo_guess", {"answer": "Paris"}, "Paris, " * 20, 0.0, "a guess has at most 50 characters"),
    ]
    for rubric, reference, response, value, reason in cases:
        [row] = await score(scorer, rubric, one(reference, response))
        assert (row.status, row.value, row.details["reason"]) == (Status.OK, value, reason)
    assert not server.asks


async def test_only_the_end_of_the_reasoning_is_shown(judges) -> None:
    """R1-Reward: the last three lines and the answer, and nothing that would tell whether it is right."""
    scorer, [server] = await judges(verdict(1))
    await score(scorer, "reasoning_answer_consistency", one({"answer": "7"}, THOUGHT))
    assert server.asks[0].block("END OF THE REASONING") == "b\nc\nd, so 7"
    assert server.asks[0].block("STATED ANSWER") == "7"
    assert "What is it?" not in server.asks[0].text


@pytest.mark.parametrize(
    ("rubric", "references"),
    [
        ("key_information_coverage", [{}, {"key_facts": []}, {"key_facts": [1]}, {"key_facts": "a"}, {"key_facts": ["a"] * 65}]),
        ("checklist", [{}, {"criteria": []}, {"criteria": [{"weight": 1}]}, {"criteria": [{"text": "a", "weight": 0}]},
                       {"criteria": [{"text": "a", "weight": float("nan")}]}, {"criteria": [None]}]),
        ("context_coverage", [{}, {"context": ""}, {"context": 3}]),
        ("hallucination", [{"facts": "a"}, {"answer": "a"}]),
        ("content_similarity", [{}, {"answer": True}]),
    ],
)  # fmt: skip
async def test_an_unusable_reference_blames_the_caller(judges, rubric, references) -> None:
    """What the rubric needs of the reference is checked before any call."""
    scorer, [server] = await judges(verdict(1))
    for reference in references:
        [row] = await score(scorer, rubric, one(reference, "fine"))
        assert (row.value, row.status) == (None, Status.REFERENCE_UNPARSEABLE), reference
    assert not server.asks


def prefers(word: str):
    """A judge that prefers the response that holds ``word``, and A where neither or both do."""

    def act(ask: Ask) -> Reply:
        first, second = (word in ask.block(name) for name in ("RESPONSE A", "RESPONSE B"))
        return verdict("B" if second and not first else "A")(ask)

    return act


async def test_pairs_are_asked_in_both_orders(judges) -> None:
    """A preference that holds in both orders wins; one that follows the position is a tie and is named."""
    scorer, [server] = await judges(prefers("right"))
    rows = await score(scorer, "pairwise", Group("g", "?", (Response("wrong"), Response("right"))))
    assert [row.value for row in rows] == [0.0, 1.0]
    assert not rows[0].details["position_bias"]
    assert len(server.asks) == 2
    rows = await score(scorer, "pairwise", Group("g", "?", (Response("wrong"), Response("false"))))
    assert [row.value for row in rows] == [0.5, 0.5]
    assert rows[0].details["position_bias"]


async def test_ties_count_half(judges) -> None:
    """TIE in one order and a win in the other is three quarters."""
    scorer, _ = await judges(lambda ask: verdict("A" if ask.block("RESPONSE A") == "one" else "TIE")(ask))
    rows = await score(scorer, "pairwise", Group("g", "?", (Response("one"), Response("two"))))
    assert [row.value for row in rows] == [0.75, 0.25]


async def test_a_round_robin_of_four(judges) -> None:
    """Each pair in both orders: the best takes all points, the others theirs; sums stay those of the pairs."""
    scorer, [server] = await judges(
        lambda ask: verdict("A" if ask.block("RESPONSE A") > ask.block("RESPONSE B") else "B")(ask)
    )
    rows = await score(scorer, "pairwise", Group("g", "?", tuple(map(Response, ["b", "d", "a", "c"]))))
    assert [row.value for row in rows] == pytest.approx([1 / 3, 1.0, 0.0, 2 / 3])
    assert len(server.asks) == 12
    for rating in ("elo", "bradley_terry"):
        ranked = sorted(rows, key=lambda row: row.details[rating])
        assert [row.value for row in ranked] == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])


def better(ask: Ask) -> Reply:
    return verdict("A" if ask.block("RESPONSE A") > ask.block("RESPONSE B") else "B")(ask)


async def test_a_tournament_orders_many_with_few_questions(judges) -> None:
    """Swiss rounds: the best of twenty wins, the worst loses, nobody meets twice, at most n questions a round."""
    scorer, [server] = await judges(better)
    texts = [f"answer {chr(97 + 7 * n % 20)}" for n in range(20)]
    rows = await score(scorer, "pairwise", Group("g", "?", tuple(map(Response, texts))), rounds=5)
    assert len(server.asks) == 5 * 20
    asked = [frozenset({ask.block("RESPONSE A"), ask.block("RESPONSE B")}) for ask in server.asks]
    assert max(asked.count(pair) for pair in asked) == 2
    found = {text: row.value for text, row in zip(texts, rows, strict=True)}
    assert max(found, key=found.__getitem__) == "answer t"
    assert min(found, key=found.__getitem__) == "answer a"
    assert sum(found[f"answer {c}"] for c in "klmnopqrst") > sum(found[f"answer {c}"] for c in "abcdefghij") + 3
    assert all(0.0 < value < 1.0 for value in found.values())


async def test_a_tournament_of_few_and_of_unequal_numbers(judges) -> None:
    """Three meet in three rounds as in a round robin; a gated one loses, one alone with content wins unasked."""
    scorer, [server] = await judges(better)
    rows = await score(scorer, "pairwise", Group("g", "?", tuple(map(Response, ["b", "c", "a", ":"]))), rounds=8)
    assert [row.details.get("points") for row in rows] == [1.0, 2.0, 0.0, None]
    assert rows[0].value == pytest.approx(0.5)
    assert rows[1].value > 0.5 > rows[2].value > rows[3].value == 0.0
    assert len(server.asks) == 6
    rows = await score(scorer, "pairwise", Group("g", "?", (Response(":"), Response("x"))), rounds=3)
    assert [row.value for row in rows] == [0.0, 1.0]


async def test_a_failed_match_leaves_the_others_in_the_tournament(judges) -> None:
    """Who could not be compared has no value and plays no more; too many responses are refused."""
    scorer, _ = await judges(lambda ask: (says("?") if "?" in ask.block("RESPONSE A") else better)(ask), attempts=1)
    rows = await score(
        scorer, "pairwise", Group("g", "?", tuple(map(Response, ["a?", "b", "c", "d", "e", "f"]))), rounds=2
    )
    assert [row.status for row in rows[:2]] == [Status.JUDGE_UNPARSEABLE] * 2
    assert all(row.value is not None for row in rows[2:])
    rows = await score(scorer, "pairwise", Group("g", "?", (Response("a"),) * 129), rounds=2)
    assert {row.status for row in rows} == {Status.INVALID_INPUT}
    with pytest.raises(ConfigError, match="rounds are for rubrics of pairs, rubric 'quality' is not"):
        scorer.bind({"rounds": 2})


async def test_empty_answers_lose_pairs_unasked(judges) -> None:
    """A content-free answer gets 0 and the reason, its opponent wins; two of them both get 0."""
    scorer, [server] = await judges(prefers(":"))
    rows = await score(scorer, "pairwise", Group("g", "?", (Response(":"), Response("seven"))))
    assert [row.value for row in rows] == [0.0, 1.0]
    assert rows[0].details["gate"]
    rows = await score(scorer, "pairwise", Group("g", "?", (Response(":"), Response("Solution"))))
    assert [row.value for row in rows] == [0.0, 0.0]
    rows = await score(scorer, "listwise", Group("g", "?", (Response(":"), Response("seven"))))
    assert [row.value for row in rows] == [0.0, 1.0]
    assert not server.asks


async def test_a_failed_comparison_leaves_no_value(judges) -> None:
    """Half of a comparison is none, and who lacks one comparison of its own has no total."""
    scorer, _ = await judges(
        lambda ask: (says("?") if ask.block("RESPONSE B") == "x" else verdict("A"))(ask), attempts=1
    )
    rows = await score(scorer, "pairwise", Group("g", "?", (Response("x"), Response("y"))))
    assert [(row.value, row.status) for row in rows] == [(None, Status.JUDGE_UNPARSEABLE)] * 2
    rows = await score(scorer, "pairwise", Group("g", "?", (Response("x"), Response("y"), Response("z"))))
    assert [row.value for row in rows] == [None] * 3


def ranks_by_text(ask: Ask) -> Reply:
    found = {n: ask.block(f"RESPONSE {n}") for n in range(1, 9)}
    shown = [n for n, text in found.items() if text]
    return verdict(",".join(str(n) for n in sorted(shown, key=found.__getitem__, reverse=True)))(ask)


async def test_a_ranking_of_the_group(judges) -> None:
    """Evenly spaced from 1 for the best to 0 for the last; samples start elsewhere in the list."""
    scorer, [server] = await judges(ranks_by_text)
    group = Group("g", "?", tuple(map(Response, ["b", "d", "a", "c", "e"])))
    rows = await score(scorer, "listwise", group)
    assert [row.value for row in rows] == [0.25, 0.75, 0.0, 0.5, 1.0]
    rows = await score(scorer, "listwise", group, samples=3)
    assert [row.value for row in rows] == [0.25, 0.75, 0.0, 0.5, 1.0]
    assert len({ask.block("RESPONSE 1") for ask in server.asks}) == 3


@pytest.mark.parametrize("said", ["1,2", "1,2,2", "1,2,4", "0,1,2", "1,2,3,4", "1 2 3", "3,2,1,"])
async def test_a_wrong_ranking_is_none(judges, said) -> None:
    """A ranking that misses, doubles or invents a response is unreadable."""
    scorer, _ = await judges(verdict(said), attempts=1)
    rows = await score(scorer, "listwise", Group("g", "?", tuple(map(Response, "abc"))))
    assert [(row.value, row.status) for row in rows] == [(None, Status.JUDGE_UNPARSEABLE)] * 3


@pytest.mark.parametrize("rubric", ["pairwise", "listwise"])
async def test_who_cannot_be_compared(judges, rubric) -> None:
    """A lone response is an incomplete group; too many are the caller's fault; an outage is a status for all."""
    scorer, [server] = await judges(answers(400))
    [row] = await score(scorer, rubric, Group("g", "?", (Response("a"),)))
    assert (row.value, row.status) == (None, Status.INCOMPLETE_GROUP)
    rows = await score(scorer, rubric, Group("g", "?", (Response("a"),) * 17))
    assert {(row.value, row.status) for row in rows} == {(None, Status.INVALID_INPUT)}
    assert not server.asks
    rows = await score(scorer, rubric, Group("g", "?", (Response("a"), Response("b"))))
    assert {(row.value, row.status) for row in rows} == {(None, Status.INTERNAL_ERROR)}


async def test_an_operators_own_rubric(judges, tmp_path) -> None:
    """A rubric is a text file and a Python file; its text is part of the fingerprint."""
    source = Path(builtin_rubric("deception").file).read_text()
    (tmp_path / "polite.py").write_text(source.replace('"deception"', '"polite"'))
    text = tmp_path / "polite.txt"
    text.write_text("Is it polite?")
    scorer, [server] = await judges(verdict(1), rubric=str(tmp_path / "polite.py"))
    [row] = await score(scorer, "", one({}, "please"))
    assert row.value == 1.0
    assert server.asks[0].system.endswith("Is it polite?")
    before = scorer.bind({}).fingerprint
    text.write_text("Is it rude?")
    assert scorer.bind({}).fingerprint != before
    text.unlink()
    with pytest.raises(ConfigError, match="no text file"):
        judge_scorers([scorer.settings], JudgePool())


async def test_a_rubric_that_needs_images_needs_vision(judges) -> None:
    """A blind judge refuses it when the recipe is bound, not in the middle of a run."""
    scorer, _ = await judges(verdict(1))
    with pytest.raises(ConfigError, match="needs a judge with vision"):
        scorer.bind({"rubric": "chart_similarity"})
    with pytest.raises(ConfigError, match="needs a judge with vision"):
        judge_scorers([scorer.settings.model_copy(update={"rubric": "chart_similarity"})], JudgePool())


def test_elo_by_hand() -> None:
    """Both at 1000 with K = 32: a win gives 1016 and 984; 1200 against 1000 expects 0.760."""
    assert elo([(0, 1, 1.0)], 2) == [1016.0, 984.0]
    assert elo([(0, 1, 0.5)], 2) == [1000.0, 1000.0]
    assert expected_points(1200, 1000) == pytest.approx(0.760, abs=5e-4)


def test_bradley_terry_by_hand() -> None:
    """300 to 100 points tend to log 3; unbeaten players stay finite; the order of the matches is nothing."""
    many = [(0, 1, 1.0)] * 300 + [(0, 1, 0.0)] * 100
    first, second = bradley_terry(many, 2)
    assert first - second == pytest.approx(math.log(3), abs=0.01)
    assert bradley_terry(many[::-1], 2) == pytest.approx([first, second])
    assert bradley_terry([(0, 1, 1.0), (1, 2, 1.0), (0, 2, 1.0)], 3)[0] < 5
    assert bradley_terry([(0, 1, 0.5)], 2) == pytest.approx([0.0, 0.0])
