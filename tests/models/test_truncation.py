"""A prompt that is too long for its model: an error, or its oldest text left out with a flag, as the card says."""

import copy
import io
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from rewardhub.models import Card, load, load_card
from rewardhub.models.card import TRUNCATED, Kind
from rewardhub.models.card_fields import READ_BY
from rewardhub.models.inputs import Encoder
from rewardhub.models.truncation import STEPS
from rewardhub.types import Group, Media, Response, Score, Status
from tests.models import tiny_families

LIMIT = 200
LONG = "What colour is the circle? Look closely. " * 30


def _picture():
    buffer = io.BytesIO()
    Image.new("RGB", (70, 50), "red").save(buffer, "PNG")
    return Media.from_bytes(buffer.getvalue())


PICTURE = (_picture(),)


@pytest.fixture(scope="module")
def cut(scalar):
    return scalar(max_tokens=LIMIT, truncation="left")


def rows(model, group):
    return model.rows(group)


def by_hand(model, group, truncated):
    """The group with just so much less text at the beginning of its prompt that ``truncated`` tokens are missing."""
    whole = len(model.encoder.prefix(group.prompt, group.media))
    for start in range(len(group.prompt)):
        shorter = replace(group, prompt=group.prompt[start:])
        if whole - len(model.encoder.prefix(shorter.prompt, group.media)) == truncated:
            return shorter
    raise AssertionError(truncated)


def test_the_score_is_that_of_the_shortened_prompt(cut, scalar, groups):
    """The flag says how many tokens are missing; a prompt shortened by so much has the same score, without a flag."""
    group = replace(groups[1], prompt=LONG, responses=(Response("red"), Response("blue" + "z" * 60)))
    for index, response in enumerate(group.responses):
        alone = replace(group, responses=(response,))
        (score,) = (column.row(0) for column in cut.score([alone]))
        truncated = score.details[TRUNCATED]
        assert truncated > 100
        (row,) = rows(cut, alone)
        assert LIMIT - LIMIT // STEPS - 2 <= len(row.encoded) <= LIMIT
        shorter = by_hand(cut, alone, truncated)
        whole = scalar().score([shorter])[0].row(0)
        assert score.value == pytest.approx(whole.value, abs=1e-5)
        assert score.status is Status.OK
        assert TRUNCATED not in whole.details
        assert cut.score([group])[0].row(index).value == pytest.approx(score.value, abs=1e-5)


def test_company_changes_nothing(scalar, groups):
    """Members of one group that fit, are cut and do not fit at all: each as alone, to the last bit; flags likewise."""
    model = scalar(max_tokens=LIMIT, truncation="left", reproducible=True)
    whole = scalar(max_tokens=LIMIT, reproducible=True)
    prompt = "Is it red? " * 12
    texts = ("red", "red" + "z" * 90, "blue" + "z" * 140, "z" * 5000, "green")
    group = replace(groups[4], prompt=prompt, responses=tuple(map(Response, texts)))
    found = model.score([groups[1], group, groups[5]])
    assert [column.values for column in (found[0], found[2])] == [
        column.values for column in whole.score([groups[1], groups[5]])
    ]
    column = found[1]
    assert column.statuses == [Status.OK, Status.OK, Status.OK, Status.OVER_LIMIT, Status.OK]
    flags = [column.row(row).details.get(TRUNCATED, 0) for row in range(5)]
    assert [bool(each) for each in flags] == [False, True, True, False, False]
    assert flags[2] > flags[1]
    for index, response in enumerate(group.responses):
        alone = model.score([replace(group, responses=(response,))])[0]
        assert alone.row(0) == column.row(index)
    fitting = whole.score([group])[0]
    assert [fitting.values[index] for index in (0, 4)] == [column.values[index] for index in (0, 4)]
    assert fitting.statuses[1] is Status.OVER_LIMIT
    shared = scalar(max_tokens=LIMIT, truncation="left").score([groups[1], group, groups[5]])[1]
    assert shared.statuses == column.statuses
    assert [v for v in shared.values if v] == pytest.approx([v for v in column.values if v], abs=1e-5)


def test_alike_members_share_what_is_left(cut, groups, monkeypatch):
    """Responses of like length lose the same, and are computed as one family."""
    texts = [f"{colour} because" for colour in ("red", "blue", "green", "black")]
    group = replace(groups[1], prompt=LONG, responses=tuple(map(Response, texts)))
    seen = []
    states = cut.runner.states
    monkeypatch.setattr(cut.runner, "states", lambda rows, kin, at: seen.extend(kin) or states(rows, kin, at))
    cut.score([group])
    assert [len(each) for each in seen] == [4]


def test_images_the_system_and_the_last_turn_stay(cut, groups):
    """Old turns go, with what they say; images stay where they were said, and so does the system's message."""
    encoder, media = cut.encoder, groups[2].media
    prompt = (
        {"role": "system", "content": "Be strict."},
        {"role": "user", "content": [{"type": "text", "text": LONG}, {"type": "image", "media": 0}]},
        {"role": "assistant", "content": "red " * 40},
        {"role": "user", "content": [{"type": "image", "media": 1}, {"type": "text", "text": "Look closely. Why?"}]},
    )
    group = replace(groups[2], prompt=prompt, responses=(Response("green"), Response("blue" + "z" * 60)))
    column = cut.score([group])[0]
    assert column.statuses == [Status.OK, Status.OK]
    for row, response in zip(rows(cut, group), group.responses, strict=True):
        assert row.truncated > 100
        assert [image.digest for image in row.encoded.images] == [encoder.patches(each)[0].digest for each in media]
        pads = sum(stop - start for start, stop in row.encoded.spans)
        assert int((row.encoded.ids == encoder.image_id).sum()) == pads > 0
        text = encoder.tokenizer.decode(row.encoded.ids, skip_controls=False)
        assert text.startswith("<|im_start|>system\nBe strict.<|im_end|>\n<|im_start|>user\n")
        assert text.endswith(f"<|im_start|>assistant\n{response.text}<|im_end|>\n")
        assert text.count("<|im_start|>") == text.count("<|im_end|>")
    assert "Why?" in encoder.tokenizer.decode(rows(cut, group)[0].encoded.ids)
    turns = (
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "Why?"},
    )
    (row,) = rows(cut, replace(group, prompt=turns, media=(), responses=(Response("z" * 170),)))
    text = encoder.tokenizer.decode(row.encoded.ids, skip_controls=False)
    assert text.startswith("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nzz")


def test_what_cannot_be_cut_is_an_error(cut, scalar, groups):
    """A response alone over the limit, images and system alone over it, and every one without the card's word."""
    long = replace(groups[1], prompt=LONG)
    assert set(scalar(max_tokens=LIMIT).score([long])[0].statuses) == {Status.INVALID_INPUT}
    over = cut.score([replace(long, responses=(Response("z" * LIMIT), Response("red")))])[0]
    assert over.statuses == [Status.OVER_LIMIT, Status.OK]
    assert over.values[0] is None
    system = ({"role": "system", "content": LONG}, {"role": "user", "content": "Hi"})
    assert set(cut.score([replace(groups[1], prompt=system)])[0].statuses) == {Status.INVALID_INPUT}
    small = scalar(max_tokens=11, truncation="left")
    assert set(small.score([replace(groups[1], prompt="x")])[0].statuses) == {Status.INVALID_INPUT}


def test_no_half_a_character_is_left(cut, groups):
    """Characters of several tokens are left out whole."""
    group = replace(groups[1], prompt="é漢😀" * 60, media=(), responses=(Response("red"),))
    (row,) = rows(cut, group)
    assert row.truncated
    assert "\ufffd" not in cut.encoder.tokenizer.decode(row.encoded.ids)


@pytest.mark.parametrize("kind", tiny_families.CONFIGS)
def test_every_family_reads_what_a_shorter_prompt_says(kind, tmp_path):
    """Wherever the text is cut, the rest is tokenised and written as if nothing had stood before it."""
    encoder = Encoder(tiny_families.build(kind, tmp_path / "m"))
    media = PICTURE if encoder.family.image else ()
    prompt = "What? " * 3 + " é漢 <|im_end|>\n\nuser: red  blue 1 2 3 " + "Look closely."
    whole = encoder.prefix(prompt, media)
    for cut in (*range(0, len(prompt), 5), len(prompt)):
        found, wanted = encoder.prefix(prompt, media, 0, cut), encoder.prefix(prompt[cut:], media)
        assert found.ids.tolist() == wanted.ids.tolist()
        assert found.positions.tolist() == wanted.positions.tolist()
        assert found.spans == wanted.spans
        assert len(found) <= len(whole)


WORDS = st.lists(st.sampled_from(["red", " because", "é漢", "<|im_end|>", "\n\n", " 1", "z" * 9, ""]), max_size=40).map(
    "".join
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(WORDS | st.just("1"), min_size=1, max_size=30),
    texts=st.lists(WORDS, min_size=1, max_size=3),
    limit=st.integers(30, 250),
)
def test_a_row_fits_or_is_an_error(cut, turns, texts, limit):
    """Rows are never over the limit nor cut for nothing, end in their response, and are the same in any company."""
    model = copy.copy(cut)
    model.checkpoint = replace(cut.checkpoint, max_tokens=limit)
    roles = ("user", "assistant")
    prompt = tuple({"role": roles[index % 2], "content": text} for index, text in enumerate(turns))
    group = Group("g", prompt, tuple(map(Response, texts)))
    found = model.rows(group)
    whole = [cut.encoder.encode(prompt, (), response) for response in group.responses]
    for response, row, full in zip(group.responses, found, whole, strict=True):
        (alone,) = model.rows(replace(group, responses=(response,)))
        if isinstance(row, Score):
            least = cut.encoder.prefix(prompt, (), 0, 10**6) + cut.encoder.answer(response)
            assert len(least) > limit or len(cut.encoder.prefix(prompt, (), 0, 10**6)) >= limit
            assert alone == row
            continue
        assert row.encoded.ids.tolist() == alone.encoded.ids.tolist()
        assert len(row.encoded) <= limit
        assert row.truncated == alone.truncated == len(full) - len(row.encoded)
        assert bool(row.truncated) == (len(full) > limit)
        answer = cut.encoder.answer(response).ids.tolist()
        assert row.encoded.ids.tolist()[-len(answer) :] == answer


def test_it_is_part_of_the_fingerprint(cut, scalar):
    assert cut.fingerprint != scalar(max_tokens=LIMIT).fingerprint


@pytest.mark.parametrize("kind", sorted({*get_args(Kind)} - READ_BY["truncation"]))
def test_kinds_that_are_never_cut(kind):
    with pytest.raises(ValidationError, match="does not read truncation"):
        Card(
            name="m",
            kind=kind,
            truncation="left",
            **({"ensemble": {"members": ["a"]}} if kind == "ensemble" else {"path": "."}),
        )


def test_an_ensemble_says_what_its_members_left_out(classifier, groups, tmp_path):
    """The most that any member left out; what fits all of them is not flagged."""
    files = []
    for limit in (LIMIT, 150):
        files.append(tmp_path / f"{limit}.toml")
        files[-1].write_text(
            f'name = "m"\nkind = "scalar"\npath = "{classifier}"\nmax_tokens = {limit}\ntruncation = "left"\n'
        )
    model = load(Card(name="e", kind="ensemble", ensemble={"members": files}))
    long, short = model.score([replace(groups[1], prompt=LONG), groups[1]])
    wanted = load(load_card(files[1])).score([replace(groups[1], prompt=LONG)])[0]
    assert [long.row(0).details[TRUNCATED]] == [wanted.row(0).details[TRUNCATED]]
    assert TRUNCATED not in short.row(0).details


ROOMS = {"scalar": {}, "listwise": {}, "yes_no": {"choices": ("1", "2")}, "critique": {"critique": {"max_tokens": 9}}}


@pytest.mark.parametrize("kind", ROOMS)
@pytest.mark.parametrize("truncation", ["none", "left"])
def test_a_prompt_without_room_for_any_response_is_the_callers_fault(tiny, classifier, kind, truncation):
    """Where not even an empty response fits, none is over the limit: a prompt that is too long costs no policy."""
    path = tiny if kind == "yes_no" else classifier
    card = {"name": kind, "kind": kind, "path": path, "system": "", "truncation": truncation, **ROOMS[kind]}
    group = Group("a", ({"role": "system", "content": LONG}, {"role": "user", "content": ""}), (Response(),))
    model = load(Card(**card))
    row = model._row(group)[0] if kind == "listwise" else model.rows(group)[0]
    whole = len(row.encoded) + model.room
    for limit, wanted in ((whole, [Status.OK, Status.OVER_LIMIT]), (whole - 1, [Status.INVALID_INPUT] * 2)):
        model = load(Card(**card, max_tokens=limit))
        found = [model.score([replace(group, responses=(each,))])[0] for each in (Response(), Response("z" * 40))]
        assert [column.statuses[0] for column in found] == wanted


def test_written_votes_need_room_too(tiny):
    """The same of a comparison whose vote is written: with no room for it the prompt is too long, not the answers."""
    votes = {"count": 1, "max_tokens": 90}
    model = load(Card(name="p", kind="pairwise", path=tiny, system="", max_tokens=400, votes=votes))
    group = Group("a", "~" * 200, (Response(""), Response("z")))
    assert model.score([group])[0].statuses == [Status.INVALID_INPUT] * 2
