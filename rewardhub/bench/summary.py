"""From judged items to a report."""

import hashlib
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rewardhub.bench.benchmarks import Benchmark
from rewardhub.bench.intervals import difference, estimate
from rewardhub.bench.items import Comparison, Judged
from rewardhub.bench.manifest import Answer
from rewardhub.bench.policies import Credit, Keep, Policy, credits_of, every
from rewardhub.bench.report import Failure, Figure, Report, Slice, Split
from rewardhub.bench.rows import data_files
from rewardhub.bench.studies import histogram, length_study, mistakes, position
from rewardhub.types import Call, Status

_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: what the scorer and the controls said about the same items."""

    benchmark: Benchmark
    data: Path
    call: Call
    scope: str
    limit: int
    seed: int
    judged: Sequence[Judged]
    controls: Mapping[str, Sequence[Judged]]
    answers: Mapping[str, Answer]


def summarise(run: Run) -> Report:
    """The report, one split after the other in the order of the data."""
    benchmark = run.benchmark
    fingerprints = tuple(sorted({answer.fingerprint for answer in run.answers.values()} - {""}))
    return Report(
        name=benchmark.name,
        title=benchmark.title,
        source=benchmark.source,
        group_word=benchmark.group_word,
        scorer=run.call.recipe or "inline recipe",
        scope=run.scope,
        styles=benchmark.styles,
        fingerprints=fingerprints,
        data={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data_files(run.data)},
        limit=run.limit,
        seed=run.seed,
        versions={"rewardhub": metadata.version("rewardhub"), "python": platform.python_version()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        warnings=tuple(_warnings(run, fingerprints)),
        splits=tuple(_split(run, name) for name in dict.fromkeys(each.item.split for each in run.judged)),
    )


def _warnings(run: Run, fingerprints: Sequence[str]) -> Iterator[str]:
    if run.limit:
        yield f"only the first {run.limit} items of each split: not comparable with published figures"
    if len(fingerprints) > 1:
        yield f"the scores come from {len(fingerprints)} fingerprints of the scorer"
    if not any(status is Status.OK for answer in run.answers.values() for status in answer.statuses):
        yield "no score is ok: the figures say nothing about the scorer"
    bare = sum(each.item.without_media for each in run.judged)
    if bare:
        yield f"{bare} items lack their media: the scorer saw the text only"
    if not run.limit:
        yield from _size_warnings(run)


def _size_warnings(run: Run) -> Iterator[str]:
    benchmark = run.benchmark
    groups = Counter(each.item.category for each in run.judged)
    splits = Counter(each.item.split for each in run.judged)
    found = [(f"{benchmark.group_word} {name}", groups[name], size) for name, size in benchmark.sizes.items()]
    for part, size in benchmark.split_sizes.items():
        found += [(f"split {name}", count, size) for name, count in splits.items() if part in name]
    for what, count, size in found:
        if count != size:
            yield f"not the whole official set: {what} has {count} items instead of {size}"


def _split(run: Run, name: str) -> Split:
    rows = [row for row, each in enumerate(run.judged) if each.item.split == name]
    judged = [run.judged[row] for row in rows]
    controls = {key: [each[row] for row in rows] for key, each in run.controls.items()}
    statuses = _statuses(run, set(rows))
    # A scorer of which nothing is known gets no figure, not the one of a scorer that is always wrong.
    known = judged if any(Status(status).is_verdict for status in statuses) else []
    labelled = [each for each in judged if not each.item.tie]
    games = [games for each in labelled for games in each.games]
    ties = [games for each in judged if each.item.tie for games in each.games]
    benchmark = run.benchmark
    main = benchmark.official[0]
    return Split(
        name=name,
        items=len(judged),
        pairs=len(games),
        statuses=statuses,
        invalid_pairs=sum(not all(game.valid() for game in both) for both in games),
        equal_pairs=sum(all(game.valid() and game.margin == 0 for game in both) for both in games),
        label_ties=len(ties),
        equal_label_ties=sum(all(game.valid() and game.margin == 0 for game in both) for both in ties),
        figures=tuple(_figures(run, known, controls)),
        categories=tuple(_categories(main, known, controls, run.seed)),
        levels=tuple(_slice(main, known, controls, run.seed, level, _at(level)) for level in benchmark.levels),
        cells=tuple(_cells(benchmark, known, controls, run.seed)),
        matrix=tuple(_matrix(main, judged)) if benchmark.levels else (),
        length=length_study(labelled),
        position=position(judged) if run.scope != "response" else None,
        histogram=tuple(histogram(labelled)),
        mistakes=tuple(mistakes(labelled)),
        failures=tuple(_failures(run, set(rows)))[:_FAILURES],
    )


def _figures(run: Run, judged: Sequence[Judged], controls: Mapping[str, Sequence[Judged]]) -> Iterator[Figure]:
    official = len(run.benchmark.official)
    for number, policy in enumerate((*run.benchmark.official, *run.benchmark.alternatives)):
        ours = credits_of(policy, judged)
        theirs = {name: credits_of(policy, each) for name, each in controls.items()}
        yield Figure(
            policy=policy,
            official=number < official,
            scorer=estimate(policy, ours, seed=run.seed),
            controls={name: estimate(policy, each, seed=run.seed) for name, each in theirs.items()},
            above_length=difference(policy, ours, theirs["length"], seed=run.seed),
        )


def _categories(
    policy: Policy, judged: Sequence[Judged], controls: Mapping[str, Sequence[Judged]], seed: int
) -> Iterator[Slice]:
    names = _names(policy, controls)
    for name in names if len(names) > 1 else ():
        ours = _only(judged, policy, name)
        theirs = {key: _only(each, policy, name) for key, each in controls.items()}
        yield _slice(policy, ours, theirs, seed, name, every)


def _cells(
    benchmark: Benchmark, judged: Sequence[Judged], controls: Mapping[str, Sequence[Judged]], seed: int
) -> Iterator[Slice]:
    policy = benchmark.official[0]
    for name in _names(policy, controls) if benchmark.levels else ():
        ours = _only(judged, policy, name)
        theirs = {key: _only(each, policy, name) for key, each in controls.items()}
        for level in benchmark.levels:
            yield _slice(policy, ours, theirs, seed, f"{name} {level}", _at(level))


def _names(policy: Policy, controls: Mapping[str, Sequence[Judged]]) -> list[str]:
    return sorted({each.item.label(policy.by) for each in controls["length"]})


def _only(judged: Sequence[Judged], policy: Policy, name: str) -> list[Judged]:
    return [each for each in judged if each.item.label(policy.by) == name]


def _slice(
    policy: Policy,
    judged: Sequence[Judged],
    controls: Mapping[str, Sequence[Judged]],
    seed: int,
    name: str,
    keep: Keep,
) -> Slice:
    return Slice(
        name,
        estimate(policy, credits_of(policy, judged, keep), seed=seed),
        {key: estimate(policy, credits_of(policy, each, keep), seed=seed) for key, each in controls.items()},
    )


def _at(level: str) -> Keep:
    return lambda comparison: comparison.level == level


def _matrix(policy: Policy, judged: Sequence[Judged]) -> Iterator[tuple[float | None, ...]]:
    comparisons = judged[0].item.comparisons
    for better in sorted({comparison.better for comparison in comparisons}):
        cells = [comparison for comparison in comparisons if comparison.better == better]
        yield tuple(_cell(policy, judged, cell) for cell in sorted(cells))


def _cell(policy: Policy, judged: Sequence[Judged], cell: Comparison) -> float | None:
    found: list[Credit] = credits_of(policy, judged, lambda comparison: comparison == cell)
    return estimate(policy, found).value


def _statuses(run: Run, rows: set[int]) -> dict[str, int]:
    counts = Counter(status.value for _, answer in _answers(run, rows) for status in answer.statuses)
    return {status.value: counts[status.value] for status in Status if counts[status.value]}


def _failures(run: Run, rows: set[int]) -> Iterator[Failure]:
    for row, answer in _answers(run, rows):
        if any(status is not Status.OK for status in answer.statuses):
            statuses = tuple(status.value for status in answer.statuses)
            yield Failure(run.judged[row].item.id, statuses, answer.reason[:200])


def _answers(run: Run, rows: set[int]) -> Iterator[tuple[int, Answer]]:
    for name, answer in run.answers.items():
        row = int(name.split(".", 1)[0])
        if row in rows:
            yield row, answer
