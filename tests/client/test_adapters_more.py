"""The other adapters, with arguments in the shapes that their trainers use."""

import asyncio
import base64
import inspect
import io
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from rewardhub.client.adapters import areal, easyr1, ms_swift, nemo_rl, openrlhf, rllm, skyrl, slime, verifiers
from rewardhub.errors import InvalidInput, ScoringFailed
from rewardhub.types import Response, Status


@pytest.fixture(autouse=True)
def hub_of_the_environment(monkeypatch, url):
    """These trainers load adapters by path, so the environment names hub and recipe."""
    monkeypatch.setenv("REWARDHUB_URL", url)
    monkeypatch.setenv("REWARDHUB_RECIPE", "math")


@pytest.fixture
def broken(fake):
    """The hub fails every group it meets for the first time."""

    class Always(dict):
        def get(self, key, default=None):
            return [Status.INTERNAL_ERROR]

        def __getitem__(self, key):
            return [Status.INTERNAL_ERROR]

    fake.script = Always()
    return fake


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def test_openrlhf_returns_tensors_of_one_sample(fake):
    """The response is the query without its prompt."""
    found = openrlhf.reward_func(["<|user|>2+3?<|assistant|>5"], ["<|user|>2+3?<|assistant|>"], ["5"], extra=1)
    expected = torch.tensor([fake.value("<|user|>2+3?<|assistant|>", Response("5"))])
    assert found["rewards"].shape == (1,) and torch.equal(found["scores"], expected)
    assert all(torch.is_tensor(value) for value in found["extra_logs"].values())


@pytest.mark.parametrize(
    "end", ["<|im_end|>", "</s></s>", "<|eot_id|>\n", "<end_of_turn>", "<|im_end|>\n<|endoftext|>", ""]
)
def test_openrlhf_scores_what_was_said(fake, end):
    """The end and padding tokens that were decoded with a response are none of it."""
    text = "<think>x</think><answer>5</answer>"
    found = openrlhf.reward_func([f"p{text}{end}"], ["p"], ["5"])
    assert found["rewards"].tolist() == pytest.approx([fake.value("p", Response(text))])


def test_openrlhf_scores_no_prompt(fake):
    """White space of the prompt may have changed in decoding; a query with another beginning is no response to it."""
    found = openrlhf.reward_func(["<s> [INST] 2+3? [/INST] 5"], ["<s>[INST] 2+3?\n[/INST]"], ["5"])
    assert found["rewards"].tolist() == pytest.approx([fake.value("<s>[INST] 2+3?\n[/INST]", Response(" 5"))])
    for query in ("+3? [/INST] 5", "<s>[INST] 2+", ""):
        with pytest.raises(InvalidInput, match="does not begin with its prompt"):
            openrlhf.reward_func([query], ["<s>[INST] 2+3? [/INST]"], ["5"])


@pytest.mark.parametrize(
    ("prompt", "query"),
    [
        ("<|vision_start|><|image_pad|><|vision_end|>What?", "<|vision_start|>{}<|vision_end|>What?".format("<|image_pad|>" * 99)),
        ("<start_of_image>What?", "\n\n<start_of_image>{}<end_of_image>\n\nWhat?".format("<image_soft_token>" * 99)),
        ("a<|image_pad|>b<|image_pad|>What?", "a{0}b{0}What?".format("<|image_pad|>" * 99)),
    ],
)  # fmt: skip
def test_openrlhf_shows_images_in_its_queries(fake, prompt, query):
    """The prompt's placeholder comes once per patch; what was said is left as it is, images in it too."""
    text = "<|image_pad|><|image_pad|>5 < 6"
    found = openrlhf.reward_func([query + "x" + text], [prompt + "x"], ["5"])
    assert found["rewards"].tolist() == pytest.approx([fake.value(prompt + "x", Response(text))])
    with pytest.raises(InvalidInput, match="does not begin with its prompt"):
        openrlhf.reward_func([query.replace("What", "Who")], [prompt], ["5"])


def test_openrlhf_answers_an_empty_batch(fake):
    """No queries give empty tensors."""
    assert openrlhf.reward_func([], [], [])["rewards"].shape == (0,)


def test_ms_swift_is_called_in_a_new_loop_each_time(fake):
    """``asyncio.run(gather(...))`` per step with one instance, as ms-swift does it."""
    instance = ms_swift.orms["rewardhub"]()
    assert inspect.iscoroutinefunction(type(instance).__call__)
    columns = {
        "messages": [[user("2+3?"), {"role": "assistant", "content": "5"}], [user("2+3?")]],
        "solution": ["5", "5"],
        "trainer_state": SimpleNamespace(global_step=3),
    }

    async def step():
        return await asyncio.gather(instance(["5", "6"], **columns))

    for _ in range(3):
        (values,) = asyncio.run(step())
        assert values == [fake.value([user("2+3?")], Response(text)) for text in "56"]
    assert len(fake.seen) == 1 and fake.calls[-1].step == 3


def test_easyr1_takes_a_batch_of_dicts(fake, url):
    """Prompt and images may ride in the ground truth object."""
    rows = [
        {"response": "5", "response_length": 1, "ground_truth": "5"},
        {"response": "6", "response_length": 2, "ground_truth": {"answer": "5", "prompt": "2+3?"}},
    ]
    values = [row["overall"] for row in easyr1.compute_score(rows, url=url, recipe="math")]
    assert values == [fake.value("", Response("5")), fake.value("2+3?", Response("6"))]


def test_areal_runs_in_a_process_pool(fake):
    """The function travels by name to a fresh process and scores there."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        value = pool.submit(areal.reward_fn, "2+3?", "5", [1], [2, 3], answer="5", other=None).result(60)
    assert value == fake.value("2+3?", Response("5")) and fake.calls[0].deadline_ms <= 12_000


def test_areal_may_name_its_arguments(fake):
    """The names of AReaL's contract."""
    value = areal.reward_fn(prompt="2+3?", completions="5", prompt_ids=[1], completion_ids=[2], answer="5")
    assert value == fake.value("2+3?", Response("5"))


async def test_an_image_in_the_words_of_openai(fake):
    """A part of type image_url with a data: URL is an image of the group."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, format="PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "q"}]
    await verifiers.reward("math")(completion="5", answer="5", prompt=[{"role": "user", "content": content}])
    (group,) = fake.groups.values()
    assert group.prompt[0]["content"][0] == {"type": "image", "media": 0} and len(group.media) == 1


async def test_slime_scores_a_sample_or_a_group(fake):
    """One sample gives a number, a list of samples a list from one group."""

    def sample(text):
        return SimpleNamespace(prompt="2+3?", response=text, label="5", metadata={}, multimodal_inputs=None)

    assert await slime.reward(None, sample("5")) == fake.value("2+3?", Response("5"))
    found = await slime.reward(None, [sample("5"), sample("6")], evaluation=False)
    assert found == [fake.value("2+3?", Response(text)) for text in "56"]
    assert len(fake.seen) == 1


async def test_verifiers_calls_by_name(fake):
    """A rubric passes what the function names, and everything where it takes everything."""
    function = verifiers.reward("math")
    assert function.__name__ == "math" and inspect.iscoroutinefunction(function)
    given = {"prompt": [user("2+3?")], "completion": [{"role": "assistant", "content": "5"}], "answer": "5"}
    assert await function(**given, state={}, info={}, task="t", parser=None) == fake.value(
        [user("2+3?")], Response("5")
    )
    group = verifiers.group_reward("math")
    values = await group(completions=["5", "6"], answers=["5", "5"], prompts=["p", "p"], states=[{}, {}])
    assert values == [fake.value("p", Response(text)) for text in "56"]


class Model:
    """A message of the package as it is today: a pydantic model with some ways of a dict."""

    def __init__(self, **fields):
        self.fields = fields

    def get(self, key, default=None):
        return self.fields.get(key, default)

    def model_dump(self, exclude_none=False):
        plain = {
            key: [each.fields for each in value] if isinstance(value, list) else value
            for key, value in self.fields.items()
        }
        return {key: value for key, value in plain.items() if value is not None or not exclude_none}


async def test_verifiers_messages_are_models(fake):
    """They are scored as the dicts that they were."""
    told = Model(role="user", content=[Model(type="text", text=text) for text in ("2+", "3?")])
    said = Model(role="assistant", content="5", reasoning_content=None, tool_calls=None)
    value = await verifiers.reward("math")(prompt=[told], completion=[said], answer="5", info="")
    assert value == fake.value([user([{"type": "text", "text": text} for text in ("2+", "3?")])], Response("5"))


async def test_a_rubric_learns_of_a_failure(broken):
    """It makes 0 of what a function raises: the error in the state says that this is no reward."""
    state, states = {"error": None}, [{}, {"error": "an earlier one"}]
    with pytest.raises(ScoringFailed):
        await verifiers.reward("math")(completion="5", answer="5", prompt="p", state=state)
    with pytest.raises(ScoringFailed):
        await verifiers.group_reward("math")(completions="56", answers="55", prompts="pp", states=states)
    assert isinstance(state["error"], Exception)
    assert "scripted" in str(state["error"])
    assert isinstance(states[0]["error"], Exception)
    assert states[1]["error"] == "an earlier one"


def test_rllm_returns_a_reward_output(fake):
    """The action may be a string or an object that holds one."""
    output = rllm.reward_fn({"question": "2+3?", "ground_truth": "5"}, SimpleNamespace(action="5"))
    assert output.reward == fake.value("2+3?", Response("5")) == rllm.reward_fn({"question": "2+3?"}, "5").reward
    assert output.is_correct is False and output.metadata["status"] == "ok"


def test_nemo_rl_steps_a_batch_of_logs(fake):
    """Rewards come as a tensor on the CPU, one per log, and every episode ends."""
    env = nemo_rl.RewardHubEnvironment({"recipe": "math", "num_workers": 8})
    logs = [[user("2+3?") | {"token_ids": [1]}, {"role": "assistant", "content": text}] for text in "56"]
    found = env.step(logs, [{"ground_truth": "5"}, {"ground_truth": "5"}])
    expected = torch.tensor([fake.value([user("2+3?")], Response(text)) for text in "56"])
    assert torch.equal(found.rewards, expected) and found.terminateds.tolist() == [1.0, 1.0]
    assert len(fake.seen) == 1


def test_skyrl_scores_one_action(fake):
    """One step with the reward, done."""
    env = skyrl.RewardHubEnv({}, {"prompt": [user("2+3?")], "reward_spec": {"ground_truth": "5"}})
    assert env.step("5") == {
        "observations": [],
        "reward": fake.value([user("2+3?")], Response("5")),
        "done": True,
        "metadata": {"status": "ok", "fingerprint": "t1"},
    }


def test_every_adapter_raises_on_a_failed_score(broken):
    """No adapter turns a failure into a number unless it is told to."""
    sample = SimpleNamespace(prompt="p", response="r", label="l", metadata={}, multimodal_inputs={})
    asks = [
        lambda: openrlhf.reward_func(["pq"], ["p"], ["l"]),
        lambda: asyncio.run(ms_swift.RewardHubORM()(["r"], solution=["l"])),
        lambda: easyr1.compute_score([{"response": "r", "response_length": 1, "ground_truth": "l"}]),
        lambda: areal.reward_fn("p", "r", None, None, answer="l"),
        lambda: asyncio.run(slime.reward(None, sample)),
        lambda: asyncio.run(slime.reward(None, [sample])),
        lambda: asyncio.run(verifiers.reward()(completion="r", answer="l")),
        lambda: rllm.reward_fn({"question": "p"}, "r"),
        lambda: nemo_rl.RewardHubEnvironment().step([[user("p"), user("r")]], [{}]),
        lambda: skyrl.RewardHubEnv().step("r"),
    ]
    for ask in asks:
        with pytest.raises(ScoringFailed, match="internal_error: scripted"):
            ask()
