"""A judge as a scorer: values, statuses, fingerprints and what is sent."""

import base64
import io
import json
import math
import time

import pytest
from PIL import Image
from pydantic import ValidationError
from scripted_judge import Ask, answers, completion, in_turn, late, raw, says, verdict

from rewardhub.errors import ConfigError, PinMismatch, UnknownName
from rewardhub.judges import JudgePool, JudgeSettings, judge_scorers
from rewardhub.recipe_book import RecipeBook
from rewardhub.registry import Registry
from rewardhub.scorer import Context, Scorer
from rewardhub.types import Call, Group, Media, Response, Status


def group(*texts: str, **fields) -> Group:
    return Group("g", prompt="What is 3 + 4?", responses=tuple(map(Response, texts)), **fields)


async def scores(scorer, a_group, context=Context(), **params):
    column = await scorer.bind(params).score_remote(a_group, range(len(a_group.responses)), context)
    return [column.row(index) for index in range(len(column))]


def png(color: str) -> Media:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(data, "PNG")
    return Media.from_bytes(data.getvalue())


async def test_a_group_gets_one_value_per_response_in_order(judges) -> None:
    """Responses are asked at once and answered by index, whichever reply comes first."""

    def script(ask: Ask):
        number = int(ask.block())
        return late((9 - number) / 100, verdict(number))(ask)

    scorer, [server] = await judges(script)
    rows = await scores(scorer, group(*"123456789"))
    assert [row.value for row in rows] == [(n - 1) / 9 for n in range(1, 10)]
    assert {row.status for row in rows} == {Status.OK}
    assert server.most_at_once == 9
    assert rows[0].details["reason"] == "It was checked."
    assert rows[0].details["model"] == "judge-model-1"


async def test_only_the_asked_indices_are_scored(judges) -> None:
    """A column has a row per index, not per response."""
    scorer, [server] = await judges(verdict(10))
    column = await scorer.bind({}).score_remote(group("a", "b", "c"), [2, 0], Context())
    assert column.values == [1.0, 1.0]
    assert sorted(ask.block() for ask in server.asks) == ["a", "c"]


async def test_the_scorer_keeps_the_contract(judges) -> None:
    """What a judge declares of itself is what the hub plans by."""
    scorer, _ = await judges(verdict(1), name="gpt")
    kept: Scorer = scorer
    info = kept.info
    assert (info.name, info.family, info.lane, info.cost, info.scope) == ("gpt", "judge", "judge", "dear", "response")
    assert scorer.bind({"rubric": "pairwise"}).info.scope == "pair"
    with pytest.raises(ConfigError, match="did you mean 'samples'"):
        scorer.bind({"sample": 3})
    with pytest.raises(UnknownName, match="did you mean 'equivalence'"):
        scorer.bind({"rubric": "equivalance"})
    with pytest.raises(UnknownName):
        scorer.bind({"rubric": "/etc/passwd.py"})


async def test_equivalence_reads_the_reference(judges) -> None:
    """The reference is shown, 0 and 1 come back, and a group without one blames the caller."""
    scorer, [server] = await judges(lambda ask: verdict(int(ask.block() == ask.block("REFERENCE ANSWER")))(ask))
    rows = await scores(scorer, group("7", "8", reference={"answer": "7"}), rubric="equivalence")
    assert [row.value for row in rows] == [1.0, 0.0]
    for reference in ({}, {"answer": " "}, {"answer": None}, {"answer": ["7"]}):
        rows = await scores(scorer, group("7", "8", reference=reference), rubric="equivalence")
        assert [(row.value, row.status) for row in rows] == [(None, Status.REFERENCE_UNPARSEABLE)] * 2
    assert len(server.asks) == 2


async def test_the_shared_prefix_comes_first_and_is_byte_equal(judges) -> None:
    """All that a group shares stands before anything that differs, also in a later call."""
    scorer, [server] = await judges(verdict(1))
    a_group = group("first answer", "second answer", reference={"answer": "7"})
    await scores(scorer, a_group, rubric="equivalence")
    await scores(scorer, a_group, rubric="equivalence")
    systems = {ask.system for ask in server.asks}
    prefixes = {ask.text.partition("<<<RESPONSE")[0] for ask in server.asks}
    assert len(systems) == len(prefixes) == 1
    assert "What is 3 + 4?" in prefixes.pop()
    assert len({ask.nonce for ask in server.asks}) == 4


async def test_the_fingerprint_follows_model_rubric_and_parameters(judges) -> None:
    """The model is the one the endpoint names; until its first reply the configured one."""
    scorer, _ = await judges(in_turn(verdict(5), verdict(5, model="judge-model-2")))
    bound = scorer.bind({})
    before = bound.fingerprint
    first = await bound.score_remote(group("a"), [0], Context())
    second = await bound.score_remote(group("a"), [0], Context())
    others = [scorer.bind({"rubric": "equivalence"}).fingerprint, scorer.bind({"samples": 2}).fingerprint]
    assert len({before, first.fingerprint, second.fingerprint, *others}) == 5
    assert second.fingerprint == bound.fingerprint == scorer.bind({}).fingerprint


async def test_a_run_keeps_a_judge_until_its_model_is_exchanged(judges) -> None:
    """First names of the endpoints are no change of a run's recipe; another model at one of them is."""
    first = in_turn(*[verdict(5, model="m-1")] * 2, verdict(5, model="m-2"))
    second = in_turn(*[verdict(5, model="n-1")] * 3)
    scorer, _ = await judges(first, second, name="grader")
    registry = Registry()
    registry.add(scorer)
    book, call, bound = RecipeBook(registry), Call(recipe="grader", run="r1"), scorer.bind({})
    labels = []
    for _ in range(5):
        book.resolve("", call, "")
        labels.append((await bound.score_remote(group("a"), [0], Context())).fingerprint)
    assert labels[1] == labels[2] == labels[3] != labels[0]
    await bound.score_remote(group("a"), [0], Context())
    with pytest.raises(PinMismatch):
        book.resolve("", call, "")


async def test_settings_that_answer_differently_have_other_fingerprints(judges) -> None:
    """Temperature and length limits can change a verdict; timeouts and concurrency cannot."""
    plain, _ = await judges(verdict(5))
    url = plain.settings.endpoints[0].url
    pool = JudgePool()

    def fingerprint(**fields) -> str:
        settings = JudgeSettings.model_validate({"endpoints": [{"url": url, "model": "m"}]} | fields)
        return judge_scorers([settings], pool)[0].bind({}).fingerprint

    assert len({fingerprint(), fingerprint(temperature=0.5), fingerprint(max_tokens=100)}) == 3
    assert fingerprint() == fingerprint(timeout_s=3, concurrency=2, retry_burst=1)


async def test_samples_are_averaged_and_their_agreement_is_the_confidence(judges) -> None:
    """Self-consistency: three samples, two of them agree."""
    scorer, _ = await judges(in_turn(verdict(10), verdict(10), verdict(1)))
    [row] = await scores(scorer, group("a"), samples=3)
    assert row.value == pytest.approx(2 / 3)
    assert row.confidence == pytest.approx(2 / 3)
    assert sorted(row.details["verdicts"]) == [1, 10, 10]


async def test_one_failed_sample_leaves_no_value(judges) -> None:
    """A mean over fewer samples than asked for would be another estimate: it is a failure."""
    scorer, _ = await judges(in_turn(verdict(10), answers(400), verdict(10)))
    [row] = await scores(scorer, group("a"), samples=3)
    assert (row.value, row.status) == (None, Status.INTERNAL_ERROR)


async def test_images_travel_as_data_urls_before_the_text(judges) -> None:
    """A judge with vision sees the group's images and the response's own."""
    scorer, [server] = await judges(verdict(3), vision=True)
    red, blue = png("red"), png("blue")
    shown = Group("g", prompt="Which color?", media=(red,), responses=(Response("red", media=(blue,)),))
    [row] = await scores(scorer, shown)
    assert row.status is Status.OK
    *images, text = server.asks[0].parts
    urls = [image["image_url"]["url"] for image in images]
    assert urls == ["data:image/png;base64," + base64.b64encode(each.data).decode() for each in (red, blue)]
    assert text["type"] == "text"


async def test_images_of_one_question_are_bounded_together(judges) -> None:
    """R17: an image that is named a hundred times is no request of a hundred times its size; nobody is asked."""
    red, blue = png("red"), png("blue")
    scorer, [server] = await judges(verdict(3), vision=True, max_image_bytes=3 * len(red.data))
    shows = (Response("a", media=(red,)), Response("b", media=(blue,) * 100))
    rows = await scores(scorer, Group("g", "?", shows, media=(red,)))
    assert [row.status for row in rows] == [Status.OK, Status.OVER_LIMIT]
    [row] = await scores(scorer, Group("g", "?", (Response("a"),), media=(red,) * 100))
    assert (row.status, row.details["field"]) == (Status.INVALID_INPUT, "media")
    assert len(server.asks) == 1


async def test_media_without_bytes_or_of_another_kind_are_refused(judges) -> None:
    """What cannot be shown is not judged blind; a judge without vision reads text only."""
    seeing, [server] = await judges(verdict(3), vision=True)
    for media in (Media(sha256="0" * 64), Media.from_bytes(b"%PDF-1.4"), Media(kind="video", frames=("0" * 64,))):
        [row] = await scores(seeing, Group("g", "?", (Response("red"),), media=(media,)))
        assert (row.value, row.status) == (None, Status.INVALID_INPUT)
    assert not server.asks
    blind, [server] = await judges(verdict(3))
    [row] = await scores(blind, Group("g", "?", (Response("red"),), media=(png("red"),)))
    assert row.status is Status.OK
    assert [part["type"] for part in server.asks[0].parts] == ["text"]


def damaged(media: Media) -> Media:
    """The image with another byte among its pixels: its header is good."""
    at = media.data.index(b"IDAT") + 8
    return Media.from_bytes(media.data[:at] + bytes([media.data[at] ^ 255]) + media.data[at + 1 :])


async def test_damaged_images_are_the_inputs_fault(judges) -> None:
    """An image whose header is good and whose pixels are not is named, and no endpoint is asked, which would refuse it;
    other images are looked at behind it as before it."""
    scorer, [server] = await judges(answers(400), vision=True)
    bad = damaged(png("red"))
    shown = Group("g", "?", tuple(map(Response, "ab")), media=(bad,))
    for row in [*await scores(scorer, shown), *await scores(scorer, shown, rubric="pairwise")]:
        assert (row.value, row.status, row.details["field"]) == (None, Status.INVALID_INPUT, "media")
        assert bad.sha256[:12] in row.details["reason"]
    assert not server.asks
    server.script = verdict(3)
    own = (Response("a", media=(bad,)), Response("b", media=(png("blue"),)))
    assert [row.status for row in await scores(scorer, Group("g", "?", own))] == [Status.INVALID_INPUT, Status.OK]
    late = Group("g", "?", (Response("a"),), media=(png("green"),))
    [row] = await scores(scorer, late, Context(deadline=time.monotonic() + 0.001))
    assert row.status is Status.TIMEOUT


async def test_chat_prompts_and_trajectories_are_shown_with_their_roles(judges) -> None:
    """Messages of prompt and response become text; images keep their index."""
    scorer, [server] = await judges(verdict(3))
    prompt = ({"role": "user", "content": [{"type": "image", "media": 0}, {"type": "text", "text": "Which color?"}]},)
    turns = ({"role": "assistant", "content": "I look."}, {"role": "tool", "content": "red"})
    await scores(scorer, Group("g", prompt=prompt, responses=(Response(messages=turns),)))
    assert server.asks[0].block("QUESTION") == "user: [image 0]\nWhich color?"
    assert server.asks[0].block() == "assistant: I look.\n\ntool: red"


async def test_too_long_a_response_is_over_limit_and_too_long_a_prompt_the_callers_fault(judges) -> None:
    """Both are said before any call, and the neighbours are scored."""
    scorer, [server] = await judges(verdict(10), max_chars=1000)
    rows = await scores(scorer, group("x" * 1001, "fine"))
    assert [row.status for row in rows] == [Status.OVER_LIMIT, Status.OK]
    [row] = await scores(scorer, Group("g", "p" * 1001, (Response("fine"),)))
    assert row.status is Status.INVALID_INPUT
    assert len(server.asks) == 1


async def test_structured_output_is_asked_for_and_read_strictly(judges) -> None:
    """With ``structured`` the schema travels, reasoning precedes the verdict, and other shapes are refused."""
    good = '{"reasoning": "checked", "nonce": "{nonce}", "verdict": "10"}'
    scorer, [server] = await judges(says(good), structured=True)
    [row] = await scores(scorer, group("a"))
    assert (row.value, row.details["reason"]) == (1.0, "checked")
    schema = server.asks[0].body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["reasoning", "nonce", "verdict"]
    assert schema["properties"]["nonce"]["enum"] == [server.asks[0].nonce]
    assert schema["properties"]["verdict"]["enum"] == [str(number) for number in range(1, 11)]
    assert schema["properties"]["reasoning"] == {"type": "string"}
    bounded, [server] = await judges(says(good), structured=True, reasoning_chars=500)
    await scores(bounded, group("a"))
    schema = server.asks[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["reasoning"] == {"type": "string", "maxLength": 500}
    for bad in (
        '{"verdict": "10", "reasoning": ""}', good.replace("{nonce}", "0" * 16), good.replace('"10"', "10"),
        good.replace("10", "11"), good + good, f"Here: {good}", "10", "null", "[" * 100_000,
        good[:-1] + ', "verdict": "1"}', '[["reasoning", "x"], ["nonce", "{nonce}"], ["verdict", "10"]]',
    ):  # fmt: skip
        scorer, _ = await judges(says(bad), structured=True, attempts=1)
        [row] = await scores(scorer, group("a"))
        assert (row.value, row.status) == (None, Status.JUDGE_UNPARSEABLE), bad


async def test_lone_surrogates_and_controls_do_not_break_the_call(judges) -> None:
    """Any text a trainer can hold in a str can be judged."""
    scorer, [server] = await judges(verdict(1))
    [row] = await scores(scorer, group("a\ud800b\x00c"))
    assert row.status is Status.OK
    assert server.asks[0].block() == "a?b c"


async def test_an_api_key_is_named_never_stated(judges, monkeypatch) -> None:
    """The key comes from the environment, travels in the header, and shows nowhere else."""
    monkeypatch.setenv("JUDGE_KEY", "sk-canary-1234")
    scorer, [server] = await judges(answers(401))
    endpoint = {"url": server.url, "api_key_env": "JUDGE_KEY"}
    pool = scorer.lane.balancer.pool
    [keyed] = judge_scorers([JudgeSettings.model_validate({"endpoints": [endpoint]})], pool)
    [row] = await scores(keyed, group("a"))
    assert server.asks[0].headers["authorization"] == "bearer sk-canary-1234".lower()
    assert row.status is Status.INTERNAL_ERROR
    assert "canary" not in repr(
        [row, keyed, keyed.lane.balancer.endpoints, keyed.lane.stats(), keyed.bind({}).fingerprint]
    )
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
        judge_scorers([keyed.settings], pool)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "file:///etc/passwd"}, {"url": "http://user:key@host/v1"}, {"url": "http://host/v1?key=1"},
        {"url": "host:8000"}, {"url": "http://host", "api_key": "sk-1"}, {"url": "http://host", "api_key_env": "sk-1"},
    ],
)  # fmt: skip
def test_settings_refuse_unknown_keys_and_keys_in_urls(wrong) -> None:
    """A misspelt or unsafe setting is an error, not a default."""
    with pytest.raises(ValidationError):
        JudgeSettings.model_validate({"endpoints": [wrong]})
    with pytest.raises(ValidationError):
        JudgeSettings.model_validate({"endpoints": [{"url": "http://host"}], "temprature": 0})


async def test_a_judge_before_start_and_after_close_is_unavailable(judges) -> None:
    """A pool that is not running answers with a status at once."""
    scorer, [server] = await judges(verdict(10))
    pool = JudgePool()
    [idle] = judge_scorers([scorer.settings], pool)
    for _ in range(2):
        [row] = await scores(idle, group("a"))
        assert (row.value, row.status) == (None, Status.UNAVAILABLE)
        await pool.start()
        await pool.aclose()
    assert not server.asks


async def test_usage_is_counted_per_tenant_and_recipe(judges) -> None:
    """Questions, calls, retries, the tokens the endpoint counted and what they cost."""
    prices = {"prompt_price": 1.5, "completion_price": 10}
    scorer, _ = await judges(in_turn(verdict(1), says("no idea"), verdict(1)), **prices)
    await scores(scorer, group("a"), Context(tenant="one", recipe="r"))
    await scores(scorer, group("a"), Context(tenant="two", recipe="r"))
    await scores(scorer, group("a"), Context(tenant="two", recipe="s"))
    once = {"questions": 1, "calls": 1, "retries": 0, "hedges": 0, "unparseable": 0, "prompt_tokens": 100,
            "completion_tokens": 20, "cost": pytest.approx(350e-6)}  # fmt: skip
    twice = once | {"calls": 2, "retries": 1, "unparseable": 1, "prompt_tokens": 200, "completion_tokens": 40}
    assert scorer.lane.stats()["usage"] == [
        {"tenant": "one", "recipe": "r"} | once,
        {"tenant": "two", "recipe": "r"} | twice | {"cost": pytest.approx(700e-6)},
        {"tenant": "two", "recipe": "s"} | once,
    ]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": -(10**9), "completion_tokens": 20}, (0, 20)),
        ({"prompt_tokens": 10**15, "completion_tokens": 20}, (0, 20)),
        ({"prompt_tokens": 12.5, "completion_tokens": "20"}, (0, 0)),
        ({"prompt_tokens": 100}, (100, 0)),
        (["nothing"], (0, 0)),
        (None, (0, 0)),
    ],
)
async def test_what_cannot_have_been_used_is_not_counted(judges, usage, counted) -> None:
    """A verdict stands whatever its endpoint says of tokens and model; impossible counts are none."""

    def script(ask: Ask):
        said = {"choices": [{"message": {"content": f"Fine.\nVERDICT[{ask.nonce}]: 10"}}], "usage": usage, "model": 7}
        return raw(json.dumps(said).encode())(ask)

    scorer, _ = await judges(script, prompt_price=1)
    [row] = await scores(scorer, group("a"))
    assert row.value == 1.0
    [used] = scorer.lane.stats()["usage"]
    assert (used["prompt_tokens"], used["completion_tokens"]) == counted
    assert used["cost"] == pytest.approx(counted[0] / 1e6)


async def test_content_in_parts_is_its_text(judges) -> None:
    """The parts that are text, in order, without what the model thought."""

    def script(ask: Ask):
        marker = f"VERDICT[{ask.nonce}]: "
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": marker + "1"}]}
        parts = [thought, {"type": "text", "text": "Fine.\n" + marker}, {"type": "text", "text": "10"}]
        return raw(json.dumps({"choices": [{"message": {"content": parts}}]}).encode())(ask)

    scorer, _ = await judges(script)
    [row] = await scores(scorer, group("a"))
    assert (row.value, row.details["reason"]) == (1.0, "Fine.")


async def test_a_deadline_cuts_the_call_and_keeps_finished_rows(judges) -> None:
    """Rows that are ready in time keep their value; the others are timeouts, within 50 ms of the deadline."""
    scorer, [server] = await judges(lambda ask: late(5.0 * (ask.block() == "slow"), verdict(10))(ask))
    started = time.monotonic()
    rows = await scores(scorer, group("slow", "quick"), Context(deadline=started + 0.3))
    assert time.monotonic() - started < 0.45
    assert [(row.value, row.status) for row in rows] == [(None, Status.TIMEOUT), (1.0, Status.OK)]
    assert len(server.asks) == 2


async def test_an_expired_or_hopeless_call_is_never_made(judges) -> None:
    """Nothing is asked after the deadline, nor when no endpoint has ever been as fast as needed."""
    scorer, [server] = await judges(late(0.2, verdict(10)))
    [row] = await scores(scorer, group("a"), Context(deadline=time.monotonic()))
    assert (row.status, len(server.asks)) == (Status.TIMEOUT, 0)
    [row] = await scores(scorer, group("a"), Context(deadline=math.inf))
    assert (row.status, len(server.asks)) == (Status.OK, 1)
    [row] = await scores(scorer, group("a"), Context(deadline=time.monotonic() + 0.1))
    assert (row.status, len(server.asks)) == (Status.TIMEOUT, 1)


async def test_reply_without_text_is_no_verdict(judges) -> None:
    """A refusal without content, an empty list of choices or another schema is never a number."""
    for body in (completion(None), b'{"choices": []}', b"{}", b'{"choices": [{"message": {"content": 7}}]}'):
        scorer, _ = await judges(raw(body), attempts=1)
        [row] = await scores(scorer, group("a"))
        assert (row.value, row.status) == (None, Status.JUDGE_UNPARSEABLE)
