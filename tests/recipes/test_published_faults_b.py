"""What published reward code pays by mistake is never paid here: one test for each row of a known fault.

Each response is scored by a hub in this process, with the recipe of the system or the verifier in question;
judges are asked over a socket and answer as the fault needs it.
"""

import io
from dataclasses import replace

import pytest
from PIL import Image
from scripted_judge import answers, says, verdict

from rewardhub.types import Call, Group, Media, Response, Status

TYPED = """\
name: typed
terms:
  accuracy: {route: {cases: {multiple choice: {scorer: mcq}, regression: {scorer: regression}}}}
value: accuracy
"""
GLM = "glm_4_1v_thinking"
NO_JUDGE = {"judge": 0}


def group(reference, *texts, **rest) -> Group:
    """A group whose bare reference is the answer."""
    reference = reference if isinstance(reference, dict) else {"answer": reference}
    return Group(rest.pop("id", "g"), "What is it?", tuple(map(Response, texts)), reference, **rest)


def boxed(answer: str) -> str:
    """A response in GLM's format."""
    return f"<think>x</think><answer><|begin_of_box|>{answer}<|end_of_box|></answer>"


@pytest.fixture
def values(score):
    """Gives the values of all responses of these groups."""

    async def run(*given, **rest) -> list[float | None]:
        return [value for scores in await score(*given, **rest) for value in scores.values]

    return run


@pytest.fixture
def judged(judging):
    """Gives the only score of this group under a scripted judge, and what the judge was asked."""

    async def run(script, recipe: str, given: Group):
        async with judging(script) as (hub, server):
            (scores,) = await hub.score([given], Call(recipe=recipe))
            return scores[0], server.asks

    return run


async def test_curr_reft_math_pays_no_other_number(score):
    """Curr_REFT stage-3 math: 7 against 9 was 1.0, because neither has a letter."""
    (scores,) = await score("curr_reft", group("9", "<answer>7</answer>", problem_type="math"))
    assert scores.parts["accuracy"].values == [0.0]
    assert scores.values == [0.0]


async def test_curr_reft_math_pays_no_empty_answer(score):
    """Curr_REFT stage-3 math: an empty answer was 1.0, as the empty text stands in every text."""
    (scores,) = await score("curr_reft", group("9", "<answer></answer>", problem_type="math"))
    assert scores.values == [0.0]
    assert scores.parts["accuracy"].statuses == [Status.NO_ANSWER]


async def test_curr_reft_choices_are_a_set(score):
    """Curr_REFT stage-2: "C, A" against "A, C" was 0, since the letters were joined in order."""
    (scores,) = await score("curr_reft", group("A, C", "<answer>C, A</answer>", problem_type="choice"))
    assert scores.parts["accuracy"].values == [1.0]


async def test_seed_bench_options_are_whole_words(values):
    """SEED-Bench-R1 accuracy: "Banana" was B and "A or B or C" was A, by the first letter."""
    assert await values("seed_bench_r1", group("B", "Banana"), group("A", "A or B or C")) == [0.0, 0.0]


async def test_seed_bench_format_is_the_whole_response(score):
    """SEED-Bench-R1 format: a valid block and then junk with a second answer was 1.0, by a prefix match."""
    text = "<think>a</think><answer>A</answer> junk <answer>B</answer>"
    (scores,) = await score("seed_bench_r1", group("A", text, "<think>a</think><answer>A</answer>"))
    assert scores.parts["format"].values == [0.0, 1.0]


async def test_view_r1_pays_nothing_for_a_gold_it_cannot_parse(score):
    """View-R1 accuracy: "banana" against "a red car" was 1.0; a broken gold is the caller's fault, flagged."""
    plain, broken = await score("view_r1", group("a red car", "banana"), group("\\frac{1", "banana", id="h"))
    assert plain.values == [0.0]
    assert (broken[0].value, broken[0].status) == (None, Status.REFERENCE_UNPARSEABLE)


@pytest.mark.parametrize(("said", "gold"), [("42", "42.0"), ("1/2", "0.5"), ("3/2", "1.5"), ("x+1", "1+x")])
async def test_glm_math_knows_equal_numbers(values, said, gold):
    """glmv_reward math, judge off: 42 against 42.0, 1/2 and 0.5, 3/2 and 1.5, x+1 and 1+x were 0.0 each."""
    one, other = group(gold, boxed(said), problem_type="math"), group(said, boxed(gold), id="h", problem_type="math")
    assert await values(GLM, one, other, inputs=NO_JUDGE) == [1.0, 1.0]


async def test_glm_chart_has_its_tolerance(values):
    """glmv_reward chart, 2.5 %: 102 against 100 was 0.0; years have to be equal."""
    near, year = group("100", boxed("102"), boxed("103")), group("2020", boxed("2019"), id="h")
    charts = [replace(each, problem_type="chart") for each in (near, year)]
    assert await values(GLM, *charts, inputs=NO_JUDGE) == [1.0, 0.0, 0.0]


async def test_glm_judge_is_not_read_by_substring(judged):
    """glmv_reward math judge: "It is not 1.0" for 7 against 9 was 1.0; it is no verdict at all."""
    asked = group("9", boxed("7"), problem_type="math")
    found, asks = await judged(says("It is not 1.0"), GLM, asked)
    assert (found.value, found.status) == (None, Status.JUDGE_UNPARSEABLE)
    assert len(asks) == 2


async def test_glm_judge_is_read_in_the_form_it_is_asked_for(judged):
    """glmv_reward general: a judge that answered "1.0", as its prompt demands, counted 0.0 for want of a box."""
    asked = group("a bus", boxed("a red bus"), problem_type="general")
    found, asks = await judged(verdict(1), GLM, asked)
    assert (found.value, found.status) == (1.0, Status.OK)
    assert f"VERDICT[{asks[0].nonce}]: <a whole number from 0 to 1>" in asks[0].text


async def test_glm_geoquest_is_judged(judged):
    """glmv_reward geoquest: every answer was 0.0, because the shipped prompt has other placeholders."""
    asked = group("Eiffel Tower, Paris", boxed("Louvre, Paris"), problem_type="geoquest")
    found, asks = await judged(verdict("city, 0.25"), GLM, asked)
    assert found.value == 0.75
    assert asks[0].block("QUESTION").endswith("What is it?")
    assert asks[0].block("REFERENCE ANSWER") == "Eiffel Tower, Paris"


async def test_glm_ocr_of_nothing(values):
    """glmv_reward OCR: two empty texts divided by zero."""
    empty, full = group("", boxed(""), boxed("x")), group("x", boxed(""), id="h")
    assert await values(GLM, *(replace(each, problem_type="ocr") for each in (empty, full))) == [1.0, 0.0, 0.0]


async def test_glm_judge_sees_the_image_and_its_failure_is_no_wrong_answer(judged):
    """glmv_reward's judge client dropped the image, and its failures were 0.0 like wrong answers."""
    data = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(data, "PNG")
    asked = group("red", boxed("the red one"), media=(Media.from_bytes(data.getvalue()),), problem_type="vqa")
    found, asks = await judged(verdict(1), GLM, asked)
    assert found.value == 1.0
    assert [part["type"] for part in asks[0].parts] == ["image_url", "text"]
    failed, _ = await judged(answers(500), GLM, asked)
    assert (failed.value, failed.status, failed.retryable) == (None, Status.UNAVAILABLE, True)


async def test_vgrp_sudoku_has_its_digits(score):
    """VGRP-Bench sudoku: a 4x4 board of 5, 6, 7 and 8 met every constraint."""
    high = "Answer: [[5,6,7,8],[7,8,5,6],[6,5,8,7],[8,7,6,5]]"
    (scores,) = await score("vgrp_bench", group({"puzzle": "sudoku", "size": 4}, high))
    assert scores.values == [0.0]
    assert scores.parts["answer"].row(0).details["broken"] == ["domain"]


async def test_vgrp_fieldexplore_counts_mines(values):
    """VGRP-Bench fieldexplore: any board that keeps the givens was accepted before a constraint ran."""
    reference = {"puzzle": "fieldexplore", "givens": [["1", "*"], ["*", "*"]]}
    boards = ["Answer: [[1,s],[e,e]]", "Answer: [[1,s],[s,e]]", "Answer: [[1,e],[e,e]]"]
    assert await values("vgrp_bench", group(reference, *boards)) == [1.0, 0.0, 0.0]


async def test_videorft_numbers_are_compared_as_numbers(values):
    """VideoRFT numerical: "3" against "3.0" was 0.0."""
    assert await values("numeric", group("3.0", "3", "3.5")) == [1.0, 0.0]


async def test_videorft_routes_each_item(values):
    """VideoRFT typed batch: the second item of [multiple choice, regression] was scored as the first's type."""
    choice = group("B", "B", problem_type="multiple choice")
    number = group("10", "12", problem_type="regression", id="h")
    assert await values("", choice, number, inline=TYPED) == [1.0, 0.8]
    assert await values("", number, choice, inline=TYPED) == [0.8, 1.0]


async def test_light_if_unset_constraints_neither_fail_nor_pay(values):
    """Light-IF Chinese strict: without ``sentence_num`` nothing could pass, yet three unset ones paid 0.06."""
    reference = {"language": "zh", "constraints": [{"type": "end_with", "text": "。"}]}
    assert await values("light_if", group(reference, "<think>x</think>好。", "<think>x</think>好")) == [1.02, 0.0]


async def test_light_if_runs_no_code_of_the_data(score, tmp_path):
    """Light-IF custom check: ``check_code`` of the data set was executed in the trainer."""
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()\ndef check(text): return True"
    reference = {"language": "en", "constraints": [{"type": "check_code", "text": code}]}
    (scores,) = await score("light_if", group(reference, "<think>x</think>hi"))
    assert (scores[0].value, scores[0].status) == (None, Status.REFERENCE_UNPARSEABLE)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("thinklite_vl_search", "The answer is not true."),
        ("vlm_r3", "It was 0.0 at first, but it is 1.0"),
        ("vlm_r3", "VERDICT[{nonce}]: 0 or 1"),
    ],
)
async def test_thinklite_and_vlm_r3_judges_are_read_strictly(judged, recipe, said):
    """ThinkLite's judge took "not true" for true; VLM-R3's "0.0 … 1.0" fell back to comparing texts."""
    asked = group("a dog", "a hound", problem_type="open")
    found, _ = await judged(says(said), recipe, asked)
    assert (found.value, found.status) == (None, Status.JUDGE_UNPARSEABLE)


async def test_reft_letters_do_not_pay_for_guessing(values):
    """ReFT MathQA: any legal letter earned 0.1; here a wrong letter earns what the call's input says, else 0."""
    asked = group("B", "(B)", "(C)", problem_type="mathqa")
    assert await values("reft", asked) == [1.0, 0.0]
    assert await values("reft", asked, inputs={"mcq_partial": 0.1}) == [1.0, 0.1]
