"""Packed rows: what is shared is found, computed once, and gives the states of full rows."""

import random

import numpy as np
import pytest
import torch

from rewardhub.models import spans
from rewardhub.models.attention import merge
from rewardhub.models.backbone import load_backbone
from rewardhub.models.inputs import Encoder
from rewardhub.models.packing import packs, shared_length
from rewardhub.models.runner import Runner
from rewardhub.models.spans import Spans, attend_spans
from rewardhub.types import Response


@pytest.fixture(scope="module")
def encoder(tiny):
    return Encoder(tiny, system="")


@pytest.fixture(scope="module")
def rows(encoder, groups):
    """Rows of all groups, and which of them belong together."""
    found, kin = [], []
    for group in groups:
        kin.append(list(range(len(found), len(found) + len(group.responses))))
        found += [encoder.encode(group.prompt, group.media, response) for response in group.responses]
    return found, kin


def ends(rows):
    """The place of each row's last token."""
    return [(len(row) - 1,) for row in rows]


def test_rows_share_their_prompt(encoder, groups):
    """Prompt and images are shared up to the first token that differs, and no row gives up its last."""
    group = groups[2]
    first, second = (encoder.encode(group.prompt, group.media, Response(text)) for text in ("red", "blue"))
    shared = shared_length([first, second])
    assert first.ids[:shared].tolist() == second.ids[:shared].tolist()
    assert first.ids[shared] != second.ids[shared]
    assert shared > len(encoder.prefix(group.prompt, group.media))
    assert shared_length([first, first]) == len(first) - 1


def test_other_images_are_not_shared(encoder, groups):
    """Rows with the same ids share nothing from the first image on that is another."""
    (one, two), text = groups[2].media, "What?"
    pair = [encoder.encode(text, media, Response("red")) for media in ((one, two), (one, one))]
    assert pair[0].ids.tolist() == pair[1].ids.tolist()
    assert shared_length(pair) == pair[0].spans[1][0]
    other = [encoder.encode(text, (media,), Response("red")) for media in (one, two)]
    assert shared_length(other) == other[0].spans[0][0]


def test_an_image_is_never_cut(encoder, groups):
    """Where rows part inside an image's placeholders, sharing ends before it."""
    row = encoder.encode("What?", groups[1].media, Response("red"))
    ((start, stop),) = row.spans
    changed = row.ids.copy()
    changed[start + 2] = 0
    other = type(row)(changed, row.positions, row.images, row.spans, row.next_position)
    assert shared_length([row, other]) == start


@pytest.mark.parametrize("budget", [1, 60, 200, 10_000])
def test_every_row_is_packed_once(rows, budget):
    """Each row's tokens stand in one pack, behind its family's shared tokens, and end where it says."""
    rows, kin = rows
    seen = []
    for pack in packs(rows, kin, budget, budget):
        seen += pack.rows
        assert sum(family.tokens for family in pack.families) == len(pack.sequence)
        assert len(pack.sequence) <= budget or sum(len(family.own) for family in pack.families) == 1
        members = iter(zip(pack.rows, pack.ends, strict=True))
        at = 0
        for family in pack.families:
            shared = pack.sequence.ids[at : at + family.shared]
            at += family.shared
            for own, (index, end) in zip(family.own, members, strict=False):
                whole = np.concatenate([shared, pack.sequence.ids[at : at + own]])
                assert whole.tolist() == rows[index].ids.tolist()
                at += own
                assert end == at - 1
        assert len(pack.sequence.images) == len(pack.sequence.spans)
    assert sorted(seen) == list(range(len(rows)))


def test_sharing_saves_tokens(rows):
    """Packs hold each prompt once: P + the responses, not one prompt per response."""
    rows, kin = rows
    packed = sum(len(pack.sequence) for pack in packs(rows, kin, 10_000, 10_000))
    saved = sum((len(members) - 1) * shared_length([rows[i] for i in members]) for members in kin if len(members) > 1)
    assert packed == sum(map(len, rows)) - saved
    assert saved > 0.4 * sum(map(len, rows))


@pytest.mark.parametrize("budget", [64, 10_000])
def test_states_equal_those_of_full_rows(tiny, encoder, rows, budget):
    """The states of packed rows equal padded full rows to 1e-5, however the packs are cut."""
    rows, kin = rows
    runner = Runner(load_backbone(tiny, head=False), encoder, budget)
    assert runner.attention == "packed"
    wanted = torch.cat(runner.padded(rows, ends(rows)))
    assert torch.allclose(runner.last_hidden(rows, kin), wanted, atol=1e-5)
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    shuffled = runner.last_hidden([rows[index] for index in order], [[k] for k in range(len(rows))])
    assert torch.allclose(shuffled, wanted[order], atol=1e-5)


def test_attention_in_two_parts_is_exact():
    """Attention to two key sets, merged by log-sum-exp, is attention to both; grouped heads included."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(6, 4, 8, generator=generator)
    key, value = torch.randn(2, 15, 2, 8, generator=generator) * 3
    wide = [each.repeat_interleave(2, 1).transpose(0, 1) for each in (key, value)]
    wanted = torch.nn.functional.scaled_dot_product_attention(query.transpose(0, 1), *wide, scale=0.3)
    asking = Spans((6,))
    first = attend_spans(query, key[:9], value[:9], asking, Spans((9,)), 0.3, causal=False)
    second = attend_spans(query, key[9:], value[9:], asking, Spans((6,)), 0.3, causal=False)
    merge(*first, *second)
    assert torch.allclose(first[0].transpose(0, 1), wanted, atol=1e-6)


@pytest.mark.parametrize("lengths", [(5,), (4, 4, 4), (1, 1, 6, 6, 2), (3, 7, 3)])
def test_spans_attend_apart(lengths):
    """Each span attends to its own keys, whether its neighbours are of like length or not, with the log-sum-exp."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(sum(lengths), 4, 8, generator=generator)
    key, value = torch.randn(2, sum(lengths), 2, 8, generator=generator)
    each = Spans(lengths)
    out, weight = attend_spans(query, key, value, each, each, 0.4, causal=True)
    logits = torch.einsum("qhd,khd->qhk", query, key.repeat_interleave(2, 1)) * 0.4
    span = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    seen = (span.unsqueeze(1) == span) & torch.ones(len(span), len(span)).tril().bool()
    logits = logits.masked_fill(~seen.unsqueeze(1), -torch.inf)
    wanted = torch.einsum("qhk,khd->qhd", logits.softmax(-1), value.repeat_interleave(2, 1))
    assert torch.allclose(out, wanted, atol=1e-6)
    assert torch.allclose(weight, logits.logsumexp(-1), atol=1e-5)


def test_no_mask_is_built(tiny, encoder, rows, monkeypatch):
    """No attention sees more keys than its family's rows have, none takes a mask, and the last layer asks for ends."""
    calls = []
    real = spans.attend

    def watch(query, key, value, scaling, causal):
        calls.extend([(query.shape[1], key.shape[1], causal)] * len(query))
        return real(query, key, value, scaling, causal=causal)

    monkeypatch.setattr(spans, "attend", watch)
    runner = Runner(load_backbone(tiny, head=False), encoder, 10_000)
    calls.clear()
    runner.last_hidden(*rows)
    assert max(keys for _, keys, _ in calls) <= max(map(len, rows[0]))
    assert all(queries == keys for queries, keys, causal in calls if causal)
    assert sum(queries == 1 for queries, _, _ in calls) >= len(rows[0])


@pytest.mark.parametrize("fault", ["wrong", "missing"])
def test_a_kernel_that_is_not_exact_is_not_used(tiny, encoder, rows, monkeypatch, fault, caplog):
    """Where the self-check finds other states, or no kernel at all, the next exact path is used, and it is said."""

    def broken(query, key, value, scaling, causal):
        if fault == "missing":
            raise NotImplementedError("no kernel on this device")
        return query, query[..., 0]

    monkeypatch.setattr(spans, "attend", broken)
    runner = Runner(load_backbone(tiny, head=False), encoder, 10_000)
    assert runner.attention == "cached"
    assert "packed rows are off" in caplog.text
    full = torch.cat(runner.padded(rows[0], ends(rows[0])))
    assert torch.allclose(runner.last_hidden(*rows), full, atol=1e-5)
    monkeypatch.setattr("rewardhub.models.cached.repeated", lambda cache, count: None)
    runner = Runner(load_backbone(tiny, head=False), encoder, 10_000)
    assert runner.attention == "rows"
    assert "cached rows are off" in caplog.text
    assert torch.equal(runner.last_hidden(*rows), full)


def test_bfloat16_is_shared_too(tiny, encoder, rows):
    """The self-check passes in bfloat16, and packed states stay near padded ones."""
    runner = Runner(load_backbone(tiny, head=False, dtype="bfloat16"), encoder, 10_000)
    assert runner.attention == "packed"
    found, wanted = runner.last_hidden(*rows).float(), torch.cat(runner.padded(rows[0], ends(rows[0]))).float()
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
