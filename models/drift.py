"""How far a card's scores are from those of its reproducible twin: each response by itself, in fp32, not quantised."""

import re
import statistics
import tomllib
from collections.abc import Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from rewardhub.errors import ConfigError
from rewardhub.models.card import Card, Measured, load_card
from rewardhub.models.colours import COLOURS, answer, colour_items
from rewardhub.models.engine import EngineModel
from rewardhub.models.kinds import build
from rewardhub.models.model import RewardModel
from rewardhub.types import Group, Response

PROMPTS = 12
CLEAR = 0.05
"""Pairs that are further apart than this share of the deviation have an order to keep."""

TABLE = re.compile(r"^\[measured\]\n(?:(?!\[).*\n?)*", re.MULTILINE)


def measure(card: Card) -> Measured:
    """Scores the same sample groups with the card as it stands, and with its twin; one is loaded after the other.

    The samples are questions of growing length, most of them with an image where the model reads images, and
    eight responses of mixed length to each. Raises ``ConfigError`` for a card that has no such twin: what vLLM
    serves, an ensemble (its members have), a model that writes and does not score.
    """
    if card.backend == "vllm" or card.kind in {"ensemble", "generative"}:
        raise ConfigError(
            f"{card.name}: a {card.kind} card of backend {card.backend} has no reproducible twin", field="kind"
        )
    model = build(card)
    groups = samples(card, _sees(model))
    found = [column.values for column in model.score(groups)]
    runner = next(iter(model.runners), None)
    attention, device = (runner.attention, runner.backbone.device.type) if runner else ("", card.device)
    fingerprint = model.fingerprint
    del model, runner
    exact = {"reproducible": True, "dtype": "float32", "quantization": "none", "share_prefix": False}
    wanted = [column.values for column in build(card.model_copy(update=exact)).score(groups)]
    return Measured(attention=attention, device=device, fingerprint=fingerprint, **compared(found, wanted))


def compared(found: Sequence[Sequence[float | None]], exact: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """The figures of :class:`Measured` from scores, group by group; those without a value are left out."""
    groups = [
        [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
        for ours, theirs in zip(found, exact, strict=True)
    ]
    pairs = [pair for group in groups for pair in group]
    if not pairs:
        raise ConfigError("no sample has a score", field="kind")
    apart = [abs(ours - theirs) for ours, theirs in pairs]
    deviation = statistics.pstdev(theirs for _, theirs in pairs)
    kept = [
        (first[0] > second[0]) == (first[1] > second[1])
        for group in groups
        for first, second in combinations(group, 2)
        if abs(first[1] - second[1]) > CLEAR * deviation
    ]
    return {
        "scores": len(pairs), "deviation": deviation, "largest": max(apart), "mean": statistics.fmean(apart),
        "order_kept": statistics.fmean(kept) if kept else 1.0,
    }  # fmt: skip


def samples(card: Card, images: bool) -> list[Group]:
    """The groups that are scored; fields that the card's context asks for are filled."""
    reference = dict.fromkeys(re.findall(r"{(\w+)}", card.context), "A shape on grey.") | {"answer": "a red circle"}
    return [
        Group(
            str(number), item.question + " Look closely before you answer." * (3 * number),
            tuple(Response(answer(name) + "\n\nIt is plain to see." * k) for k, name in enumerate(COLOURS)),
            reference, media=(item.media,) if images and (number % 4 or card.kind == "similarity") else (),
        )
        for number, item in enumerate(islice(colour_items(7), PROMPTS))
    ]  # fmt: skip


def write(path: Path, measured: Measured) -> None:
    """Puts the table ``[measured]`` in place of the card's own, or at its end; all else stays as it is."""
    before = TABLE.sub("", path.read_text(encoding="utf-8")).rstrip()
    rows = [f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value!r}" for name, value in measured]
    text = "\n".join([before, "", "[measured]", *rows]) + "\n"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: the table [measured] cannot be written: {error}", field="measured") from error
    path.write_text(text, encoding="utf-8")
    load_card(path)


def _sees(model: RewardModel) -> bool:
    if isinstance(model, EngineModel):
        return bool(model.checkpoint.encoder.family.image)
    return model.card.kind == "similarity"
