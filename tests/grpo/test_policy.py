"""The shared prefill against plain forward passes, in value and in gradient."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rewardhub.grpo.config import config_of
from rewardhub.grpo.policy import Policy, load_policy
from rewardhub.grpo.rollout import generate, join
from rewardhub.grpo.sampling import chosen, draw, log_distribution
from rewardhub.grpo.supervised import Evaluation, supervise
from rewardhub.grpo.task import ColourTask
from rewardhub.models.chat import CONTROLS
from rewardhub.models.inputs import Encoded
from rewardhub.models.style import END


def prompts_of(policy: Policy, task: ColourTask) -> list[Encoded]:
    """Two pictures and a text without any: lengths differ, so the batch is padded."""
    pictures = [policy.encode(each) for each in itertools.islice(task.examples(1), 2)]
    return [*pictures, policy.encoder.encode("What colour is the square?")]


def plainly(policy: Policy, prompt: Encoded, tokens: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of one response by one unpadded pass over prompt and response, without any cache."""
    inputs = policy.encoder.collate([prompt])
    count = len(tokens)
    behind = prompt.next_position + torch.arange(count).expand(3, 1, -1)
    embeds = torch.cat(
        [policy.backbone.embed(inputs), policy.backbone.base.get_input_embeddings()(tokens).unsqueeze(0)], dim=1
    )
    states = policy.backbone.base.language_model(
        inputs_embeds=embeds, position_ids=torch.cat([inputs.position_ids, behind], dim=-1), use_cache=False
    ).last_hidden_state[0]
    logits = policy.backbone.logits(states[len(prompt) - 1 : -1])
    return chosen(log_distribution(logits, temperature, policy.forbidden), tokens)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_shared_prefill_equals_plain_passes(policy: Policy, task: ColourTask, temperature: float):
    """Values and every weight's gradient agree with one pass per response, images encoded anew each time."""
    prompts = prompts_of(policy, task)
    tokens = torch.randint(0, 300, (6, 5), generator=torch.Generator().manual_seed(1))
    shared = policy.logprobs(prompts, tokens, temperature)
    plain = torch.stack([plainly(policy, prompts[row // 2], tokens[row], temperature) for row in range(6)])
    torch.testing.assert_close(shared, plain, atol=2e-5, rtol=1e-5)
    weights = [each for each in policy.backbone.parameters() if each.requires_grad]
    ours = torch.autograd.grad(shared.sum(), weights, allow_unused=True)
    theirs = torch.autograd.grad(plain.sum(), weights, allow_unused=True)
    assert sum(each is not None and bool(each.abs().sum() > 0) for each in ours) > 30
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=1e-3)


def test_an_image_is_encoded_once_per_prompt(policy: Policy, task: ColourTask, monkeypatch: pytest.MonkeyPatch):
    """Eight responses to two prompts show the vision tower two images."""
    seen = []
    reader = policy.encoder.reader
    original = reader.features
    monkeypatch.setattr(
        reader, "features", lambda base, images, *more: seen.append(len(images)) or original(base, images, *more)
    )
    pictures = prompts_of(policy, task)[:2]
    policy.logprobs(pictures, torch.zeros(16, 3, dtype=torch.long), 1.0)
    generate(policy, pictures, group_size=8, max_tokens=3, temperature=1.0, generator=torch.Generator())
    assert seen == [2, 2]


def test_sampled_log_probabilities_are_those_of_training(policy: Policy, task: ColourTask):
    """On-policy the ratio is 1: what generation recorded is what the training pass computes."""
    wave = generate(
        policy,
        prompts_of(policy, task),
        group_size=4,
        max_tokens=8,
        temperature=0.8,
        generator=torch.Generator().manual_seed(3),
    )
    again = policy.logprobs(wave.prompts, wave.tokens.flatten(0, 1), 0.8).view_as(wave.old)
    torch.testing.assert_close(again * wave.mask, wave.old * wave.mask, atol=3e-5, rtol=1e-5)


def test_greedy_generation_does_not_depend_on_its_company(policy: Policy, task: ColourTask):
    """Groups that leave the batch early leave the others' caches intact."""
    prompts = [policy.encode(each) for each in itertools.islice(task.examples(1), 6)]
    for index, begun in enumerate(("<answer>", "<answer>red", "<answer>red</answer>")):
        prompts[2 * index] += policy.encoder.pieces([begun], ())
    together = generate(policy, prompts, group_size=1, max_tokens=12, temperature=1.0, generator=None)
    alone = join(
        [generate(policy, [each], group_size=1, max_tokens=12, temperature=1.0, generator=None) for each in prompts]
    )
    assert len({int(length) for length in together.lengths.flatten()}) > 1
    assert torch.equal(together.tokens, alone.tokens)
    assert torch.equal(together.mask, alone.mask)


def test_groups_are_handed_on_when_they_end(policy: Policy, task: ColourTask):
    """Each group is emitted once, final, and some while others still generate."""
    prompts = [policy.encode(each) for each in itertools.islice(task.examples(1), 8)]
    emitted, unfinished = [], []

    def emit(index: int, wave: object) -> None:
        emitted.append((index, wave.tokens[index].clone()))
        unfinished.append(int((~wave.ended.all(-1)).sum()))

    wave = generate(
        policy,
        prompts,
        group_size=2,
        max_tokens=16,
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
        emit=emit,
    )
    assert sorted(index for index, _ in emitted) == list(range(8))
    assert all(torch.equal(tokens, wave.tokens[index]) for index, tokens in emitted)
    assert unfinished[0] > 0


def test_the_end_token_counts_and_nothing_behind_it(policy: Policy, task: ColourTask):
    """A row's mask runs up to its end token; text leaves it out; a truncated row says so."""
    prompts = [policy.encode(each) for each in itertools.islice(task.examples(1), 4)]
    wave = generate(
        policy, prompts, group_size=8, max_tokens=5, temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    assert 0 < wave.ended.sum() < wave.ended.numel()
    for group in range(4):
        for row, response in enumerate(wave.responses(group, policy)):
            length, ended = int(wave.lengths[group, row]), bool(wave.ended[group, row])
            ids = wave.tokens[group, row]
            assert wave.mask[group, row].tolist() == [1.0] * length + [0.0] * (5 - length)
            assert (policy.end_id in ids[:length].tolist()) == ended
            assert ids[length - 1] == policy.end_id if ended else length == 5
            assert response.signals["truncated"] == float(not ended)
            assert response.tokens == length
            assert END not in response.text


def test_placeholders_are_never_sampled(policy: Policy):
    """Control tokens other than the end have no probability at any temperature."""
    logp = policy.log_distribution(torch.randn(4, 64), 100.0)
    banned = [policy.encoder.tokenizer.control(token) for token in CONTROLS if token != END]
    assert torch.isinf(logp[:, banned]).all()
    assert torch.isfinite(logp[:, policy.end_id]).all()
    torch.testing.assert_close(logp.exp().sum(-1), torch.ones(4))


def test_sampling_follows_the_distribution():
    """Frequencies of many draws are the probabilities; temperature sharpens them; greedy takes the most likely."""
    logits = torch.tensor([0.0, 1.0, 2.0, 5.0])
    logp = log_distribution(logits, 0.5, torch.tensor([3]))
    expected = torch.softmax(torch.tensor([0.0, 2.0, 4.0]), 0)
    torch.testing.assert_close(logp.exp()[:3], expected)
    draws = draw(logp.expand(20000, -1), torch.Generator().manual_seed(0))
    share = torch.bincount(draws, minlength=4) / 20000
    torch.testing.assert_close(share[:3], expected, atol=0.015, rtol=0)
    assert share[3] == 0
    assert draw(logp.unsqueeze(0), None).tolist() == [2]


def test_a_saved_policy_loads_again(policy: Policy, task: ColourTask, out: Path):
    """The folder holds the weights and everything its encoder needs."""
    policy.save(out)
    again = load_policy(str(out), out, seed=5, device="cpu")
    prompts = prompts_of(again, task)
    tokens = torch.tensor([[1, 2, 3]] * 3)
    assert torch.equal(again.logprobs(prompts, tokens, 1.0), policy.logprobs(prompts, tokens, 1.0))


def test_supervision_lowers_the_loss_and_raises_the_accuracy(policy: Policy, task: ColourTask):
    """Thirty more steps from the warmed policy."""
    measure = Evaluation(config_of({"reserved": 64}), policy, task)
    before = measure()
    assert measure() == before
    losses = list(supervise(policy, task.examples(3), steps=30, batch=16, learning_rate=2e-3, max_grad_norm=1.0))
    assert losses[-1] < losses[0]
    assert measure().sampled > before.sampled
