"""The report of a bench run: everything as data, a table for the terminal, and files."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rewardhub.bench.intervals import Estimate
from rewardhub.bench.page import page
from rewardhub.bench.policies import Policy


@dataclass(frozen=True, slots=True)
class Figure:
    """One policy's figure of the scorer and of the controls, on the same units.

    ``above_length`` is the paired difference to the length control. Shares are in [0, 1].
    """

    policy: Policy
    official: bool
    scorer: Estimate
    controls: Mapping[str, Estimate]
    above_length: Estimate


@dataclass(frozen=True, slots=True)
class Slice:
    """The first official figure on one category or one level."""

    name: str
    scorer: Estimate
    controls: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class LengthStudy:
    """How far length explains the scores; lengths are in characters.

    ``correlation`` is Spearman's rho of score difference and length difference over ``pairs`` pairs,
    each taken in both directions so that the labels have no part in it. ``prefers_longer`` and
    ``label_longer``: share of pairs of unequal length in which the scorer, the label, prefers the
    longer response. ``where_longer`` and ``where_shorter``: accuracy where the better response is the
    longer, the shorter one.
    """

    correlation: float | None
    pairs: int
    prefers_longer: Estimate
    label_longer: Estimate
    where_longer: Estimate
    where_shorter: Estimate


@dataclass(frozen=True, slots=True)
class Position:
    """Of a scorer that compares: share of decided games won by the response shown first, and share of
    pairs in which both orders name the same winner.
    """

    first_wins: Estimate
    consistent: Estimate


@dataclass(frozen=True, slots=True)
class Mistake:
    """A pair that the scorer orders wrongly, by the size of its ``margin`` (better minus worse)."""

    id: str
    category: str
    margin: float
    better_length: int
    worse_length: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A group with scores that are not ``ok``."""

    id: str
    statuses: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Split:
    """One set that is scored on its own. ``statuses`` count scores; ``pairs`` count labelled pairs,
    of which ``invalid_pairs`` lack an ``ok`` score and ``equal_pairs`` have equal ones.

    ``label_ties`` are items labelled as equal, ``equal_label_ties`` those the scorer calls equal.
    ``cells`` are category and level together. ``matrix[i][j]``: accuracy of right responses of style i
    against wrong ones of style j. ``histogram``: (low edge, high edge, pairs) of the margins.
    """

    name: str
    items: int
    pairs: int
    statuses: Mapping[str, int]
    invalid_pairs: int
    equal_pairs: int
    label_ties: int
    equal_label_ties: int
    figures: tuple[Figure, ...]
    categories: tuple[Slice, ...]
    levels: tuple[Slice, ...]
    cells: tuple[Slice, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    length: LengthStudy
    position: Position | None
    histogram: tuple[tuple[float, float, int], ...]
    mistakes: tuple[Mistake, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run found. ``fingerprints`` are those of the scorer; more than one is a warning."""

    name: str
    title: str
    source: str
    group_word: str
    scorer: str
    scope: str
    styles: tuple[str, ...]
    fingerprints: tuple[str, ...]
    data: Mapping[str, str]
    limit: int
    seed: int
    versions: Mapping[str, str]
    created: str
    warnings: tuple[str, ...]
    splits: tuple[Split, ...]
    files: dict[str, str] = field(default_factory=dict)

    @property
    def official(self) -> dict[str, float | None]:
        """The first official figure of each split, a share in [0, 1]."""
        return {split.name: split.figures[0].scorer.value for split in self.splits}

    def as_json(self) -> dict[str, Any]:
        return {"schema": "rewardhub.bench/1", **asdict(self)}

    def write(self, out: Path, stem: str) -> None:
        """Writes ``STEM.json`` and ``STEM.html``; ``files`` then names them."""
        out.mkdir(parents=True, exist_ok=True)
        self.files.update({kind: str(out / f"{stem}.{kind}") for kind in ("json", "html")})
        values = self.as_json()
        Path(self.files["json"]).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        Path(self.files["html"]).write_text(page(values), encoding="utf-8")

    def text(self) -> str:
        """A short table: per split the official figures, the alternatives and what went wrong."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.title}: {self.scorer}"
        for split in self.splits:
            name = f"{split.name}: " if split.name else ""
            yield f"\n{name}{split.items} items, {split.pairs} pairs"
            yield from _table(split)
            yield from _remarks(split)
        yield from (f"warning: {warning}" for warning in self.warnings)
        yield from (f"{kind}: {path}" for kind, path in self.files.items())


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _table(split: Split) -> Iterator[str]:
    controls = list(split.figures[0].controls)
    yield f"  {'':28}{'scorer':>7}  {'95 %':<14}" + "".join(f"{name:>10}" for name in controls)
    same = [figure for figure in split.figures if not figure.official and _same(figure, split.figures[0])]
    for figure in split.figures:
        if figure not in same:
            yield _table_row(("* " if figure.official else "  ") + figure.policy.name, figure)
    if same:
        yield f"    the same: {', '.join(figure.policy.name for figure in same)}"
    for part in (*split.levels, *split.categories, *split.cells):
        yield _table_row(f"  . {part.name or 'without category'}", part)


def _same(figure: Figure, main: Figure) -> bool:
    """Whether another policy makes no difference here, neither to the scorer nor to a control."""
    mine, theirs = ([each.scorer, *each.controls.values()] for each in (figure, main))
    return all(a.value == b.value for a, b in zip(mine, theirs, strict=True))


def _table_row(name: str, row: Figure | Slice) -> str:
    interval = "–" if row.scorer.low is None else f"{percent(row.scorer.low)} to {percent(row.scorer.high)}"
    controls = "".join(f"{percent(each.value):>10}" for each in row.controls.values())
    return f"  {name:28}{percent(row.scorer.value):>7}  {interval:<14}{controls}"


def _remarks(split: Split) -> Iterator[str]:
    rho = split.length.correlation
    if rho is not None:
        yield f"  score and length: rho {rho:+.2f}; the longer wins {percent(split.length.prefers_longer.value)}"
    if split.position:
        yield (
            f"  the first shown wins {percent(split.position.first_wins.value)}; "
            f"both orders agree in {percent(split.position.consistent.value)}"
        )
    if split.equal_pairs:
        yield f"  equal scores: {split.equal_pairs} pairs"
    if split.label_ties:
        yield f"  labelled ties: {split.label_ties}, scored equal: {split.equal_label_ties}"
    bad = {name: count for name, count in split.statuses.items() if name != "ok"}
    if bad:
        counts = ", ".join(f"{name} {count}" for name, count in bad.items())
        yield f"  not ok: {counts}; {split.invalid_pairs} pairs invalid"
