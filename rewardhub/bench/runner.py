"""The line of a bench run: read items, ask for scores, keep them, compute the figures."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rewardhub.bench.benchmarks import Benchmark, benchmark_named
from rewardhub.bench.controls import CONTROLS, control
from rewardhub.bench.items import Game, Item, Judged
from rewardhub.bench.manifest import Answer, Manifest, key_of
from rewardhub.bench.report import Report
from rewardhub.bench.summary import Run, summarise
from rewardhub.errors import InternalError, InvalidInput
from rewardhub.types import Call, Group, Rewards, Status

Scope = Literal["response", "pair", "group"]
Progress = Callable[[int, int], None]


def run(
    name: str,
    data: Path,
    rewards: Rewards,
    call: Call,
    *,
    out: Path,
    limit: int = 0,
    scope: Scope = "response",
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Benchmarks the recipe that ``call`` names on a file or folder, and writes the report to ``out``.

    ``scope`` is what the scorer declares: with ``response`` the responses of a prompt travel as one
    group and are scored once; otherwise every pair is a group of two, asked in both orders.
    ``limit`` keeps the first items of each split. Answers are appended to ``NAME.RECIPE.scores.jsonl``
    in ``out``, beside the report's ``.json`` and ``.html``; a later run takes what is final from there,
    unless the scorer's fingerprint has changed. A group with a retryable status is asked once more.
    ``progress`` gets the numbers of groups answered and wanted. ``seed`` is of the bootstrap and of the
    random control.

    Raises ``UnknownName``, ``InvalidInput`` with file, line and field, and what ``rewards`` raises.
    """
    benchmark = benchmark_named(name)
    scope = "response" if benchmark.whole else scope
    items = read_items(benchmark, data, limit)
    asks = list(questions(items, scope))
    stem = f"{name}.{_file_name(call.recipe or 'inline')}"
    with Manifest(out / f"{stem}.scores.jsonl") as manifest:
        answers = _Session(rewards, call, manifest, progress or _silent).ask(asks)
    controls = {each: judged_by(items, control(each, seed=seed)) for each in CONTROLS} | known_scores(items)
    finished = Run(benchmark, data, call, scope, limit, seed, judge(items, answers, scope), controls, answers)
    report = summarise(finished)
    report.write(out, stem)
    return report


def read_items(benchmark: Benchmark, data: Path, limit: int = 0) -> list[Item]:
    """The items, the first ``limit`` of each split (0: all); raises ``InvalidInput`` where there is none."""
    kept: dict[str, list[Item]] = {}
    for item in benchmark.load(data):
        split = kept.setdefault(item.split, [])
        if not limit or len(split) < limit:
            split.append(item)
    items = [item for split in kept.values() for item in split]
    if not items:
        raise InvalidInput(f"{data}: holds no item", field="data")
    return items


@dataclass(frozen=True, slots=True)
class Question:
    """One group to ask about: these responses of the item, in this order; ``place`` is the item's
    split and row in it, which a limit does not change.
    """

    id: str
    place: str
    item: Item
    indices: tuple[int, ...]

    def group(self) -> Group:
        return Group(self.id, **self.item.content(self.indices))


def questions(items: Sequence[Item], scope: Scope) -> Iterator[Question]:
    """One group per item, or per comparison and order for scorers that compare."""
    seen: Counter[str] = Counter()
    for row, item in enumerate(items):
        place = f"{item.split}:{seen[item.split]}"
        seen[item.split] += 1
        if scope == "response":
            yield Question(str(row), place, item, tuple(range(len(item.responses))))
            continue
        for number, comparison in enumerate(item.comparisons):
            stored = tuple(sorted(comparison[:2]))
            yield Question(f"{row}.{number}.0", place, item, stored)
            yield Question(f"{row}.{number}.1", place, item, stored[::-1])


def judge(items: Sequence[Item], answers: Mapping[str, Answer], scope: Scope) -> list[Judged]:
    """The games of every item, from the answers by group id."""
    return [
        Judged(item, tuple(_games(row, item, answers, scope)), _scores(answers.get(str(row))))
        for row, item in enumerate(items)
    ]


def judged_by(items: Sequence[Item], rewards: Rewards) -> list[Judged]:
    """What a scorer of single responses that is at hand says, without a manifest."""
    asks = list(questions(items, "response"))
    scored = rewards.stream((ask.group() for ask in asks), Call())
    answers = {scores.id: Answer.of(scores, len(scores)) for scores in scored}
    return judge(items, answers, "response")


def known_scores(items: Sequence[Item]) -> dict[str, list[Judged]]:
    """The scores that came with the data, by name, as if a scorer had given them."""
    names = [name for name in items[0].known if all(name in item.known for item in items)]
    return {name: judge(items, _as_answers(items, name), "response") for name in names}


def _as_answers(items: Sequence[Item], name: str) -> dict[str, Answer]:
    return {
        str(row): Answer(item.known[name], (Status.OK,) * len(item.responses), "") for row, item in enumerate(items)
    }


def _scores(answer: Answer | None) -> tuple[float | None, ...]:
    if answer is None:
        return ()
    rows = zip(answer.values, answer.statuses, strict=True)
    return tuple(value if status is Status.OK else None for value, status in rows)


def _games(row: int, item: Item, answers: Mapping[str, Answer], scope: Scope) -> Iterator[tuple[Game, Game]]:
    for number, comparison in enumerate(item.comparisons):
        if scope == "response":
            game = _game(answers[str(row)], comparison.better, comparison.worse)
            yield game, game
            continue
        first = int(comparison.better > comparison.worse)
        stored, swapped = (answers[f"{row}.{number}.{order}"] for order in (0, 1))
        yield _game(stored, first, 1 - first), _game(swapped, 1 - first, first)


def _game(answer: Answer, better: int, worse: int) -> Game:
    statuses = answer.statuses[better], answer.statuses[worse]
    return Game(answer.values[better], answer.values[worse], statuses)


@dataclass
class _Session:
    rewards: Rewards
    call: Call
    manifest: Manifest
    progress: Progress

    def ask(self, asks: Sequence[Question]) -> dict[str, Answer]:
        keys = {ask.id: key_of(ask.place, ask.group(), self.call) for ask in asks}
        answers = self._resumed(asks, keys)
        self.progress(len(answers), len(asks))
        for name, answer in self._stream([ask for ask in asks if ask.id not in answers], keys):
            answers[name] = answer
            self.progress(len(answers), len(asks))
        answers.update(self._stream([ask for ask in asks if answers[ask.id].retryable], keys))
        return answers

    def _resumed(self, asks: Sequence[Question], keys: Mapping[str, str]) -> dict[str, Answer]:
        """Final answers of earlier runs; one per fingerprint is asked again to see that it still holds."""
        stored = {ask.id: self.manifest.get(keys[ask.id]) for ask in asks}
        answers = {name: answer for name, answer in stored.items() if answer is not None and answer.final}
        probes = {answers[ask.id].fingerprint: ask for ask in asks if ask.id in answers}
        fresh = dict(self._stream(list(probes.values()), keys))
        changed = {old for old, ask in probes.items() if fresh[ask.id].fingerprint not in {"", old}}
        kept = {name: answer for name, answer in answers.items() if answer.fingerprint not in changed}
        return kept | {name: answer for name, answer in fresh.items() if answer.final}

    def _stream(self, asks: Sequence[Question], keys: Mapping[str, str]) -> Iterator[tuple[str, Answer]]:
        """Answers by group id as they come, each kept in the manifest first."""
        waiting = {ask.id: ask for ask in asks}
        for scores in self.rewards.stream((ask.group() for ask in asks), self.call) if asks else ():
            if not scores.complete:
                continue
            ask = waiting.pop(scores.id, None)
            if ask is None:
                raise InternalError(f"a second answer, or one never asked for: group {scores.id}")
            answer = Answer.of(scores, len(ask.indices))
            self.manifest.add(keys[ask.id], ask.item.id, answer)
            yield ask.id, answer
        if waiting:
            raise InternalError(f"{len(waiting)} groups were never answered, the first is {next(iter(waiting))}")


def _silent(_: int, __: int) -> None:
    pass


def _file_name(recipe: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in recipe)
