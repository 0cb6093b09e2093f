"""Running a plan on one group, whole or open: wave by wave, each term on the rows that still lack it."""

import asyncio
import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from rewardhub.recipes.compose import absent, compose, condition_rows, gravest, scope_of, stated_values
from rewardhub.recipes.functions import Scope
from rewardhub.recipes.plan import Plan, PlannedTerm
from rewardhub.scorer import Ask, given
from rewardhub.types import Call, Column, Group, GroupScores, Json, Media, Response, Status


class Lanes(Protocol):
    """How asks become columns; never raises for a response."""

    async def known(self, asks: Sequence[Ask]) -> list[Column | None]:
        """The columns that need no lane: of cheap scorers, and of what is cached. None for the others."""
        ...

    async def compute(self, asks: Sequence[Ask]) -> list[Column]: ...

    def held(self, ask: Ask, column: Column) -> Column:
        """The column, or why the group may not have it."""
        ...


Asked = tuple[PlannedTerm, Ask]


def _made(response: Response, details: Json) -> Response:
    """The response with the text, and the picture if there is one, that an earlier term made of it.

    The turns and the steps are those of another text.
    """
    image = details.get("image")
    media = (Media.from_bytes(base64.b64decode(image)),) if isinstance(image, str) and image else response.media
    return replace(response, text=str(details.get("text", "")), messages=(), steps=(), media=media)


def _part(group: Group, rows: Sequence[int]) -> Group:
    return replace(group, responses=tuple(group.responses[row] for row in rows))


def _broken(details: Json | None) -> bool:
    """Whether there is a picture in it that nobody can read."""
    image = details.get("image") if details else None
    if not isinstance(image, str):
        return False
    try:
        base64.b64decode(image)
    except ValueError:
        return True
    return False


class Execution:
    """The state of one group under one plan.

    ``advance`` scores the rows it is given on every term that does not wait for the whole group;
    ``finish`` runs the rest. Rows that a term has scored are never scored by it again.
    """

    def __init__(self, plan: Plan, call: Call, lanes: Lanes) -> None:
        self.plan = plan
        self.lanes = lanes
        self.call = call
        self._columns: dict[str, Column] = {}
        self._done: dict[str, set[int]] = {term.name: set() for term in plan.terms}

    @property
    def columns(self) -> Mapping[str, Column]:
        """What each term gave so far."""
        return self._columns

    async def advance(self, group: Group, indices: Sequence[int]) -> None:
        """Scores ``indices`` as far as it goes while the group is open; what is cancelled meanwhile stays so."""
        waves = [[term for term in wave if not term.whole] for wave in self.plan.waves]
        asked: list[Asked] = []
        try:
            for terms in waves:
                asked = self.asks(terms, group, indices)
                await self._asked(asked)
        except asyncio.CancelledError:
            for term, ask in asked:
                self._fill_rows(term, [*ask.rows], Status.CANCELLED, "the caller went away")
            for term in [term for terms in waves for term in terms]:
                lacking = [row for row in indices if row not in self._done[term.name]]
                self._fill_rows(term, lacking, Status.CANCELLED, "the caller went away")
            raise

    async def finish(self, group: Group, missing: int = 0, since: int = 0) -> GroupScores:
        """Scores what is left from wave ``since``; ``missing`` members make group-wide terms incomplete."""
        indices = range(len(group.responses))
        for wave in self.plan.waves[since:]:
            if missing:
                for term in wave:
                    if term.whole:
                        self._fill(term, len(indices), Status.INCOMPLETE_GROUP, f"{missing} members are missing")
                await self._wave([term for term in wave if not term.whole], group, indices)
            else:
                await self._wave(wave, group, indices)
        return self.scores(group, missing)

    def scores(self, group: Group, missing: int = 0) -> GroupScores:
        """The scores of every row of ``group``, all terms of which must have been scored; see :meth:`finish`."""
        columns = self._padded(len(group.responses))
        total = compose(self.plan, group, self.call, columns, missing + group.lost)
        parts = {} if self.plan.implicit else {term.name: columns[term.name] for term in self.plan.terms}
        return GroupScores(group.id, total, parts, indices=list(range(len(total))))

    def partial(self, group: Group, rows: Sequence[int]) -> GroupScores:
        """The scores of some rows that ``advance`` has scored, of a plan that needs no group."""
        columns = {name: self._rows(name, group, rows) for name in self._done}
        total = compose(self.plan, _part(group, rows), self.call, columns)
        parts = {} if self.plan.implicit else {term.name: columns[term.name] for term in self.plan.terms}
        return GroupScores(group.id, total, parts, list(rows))

    async def _wave(self, terms: Sequence[PlannedTerm], group: Group, indices: Sequence[int]) -> None:
        await self._asked(self.asks(terms, group, indices))

    async def _asked(self, asked: Sequence[Asked]) -> None:
        if asked:
            await self.answer(asked, await self.lanes.known([ask for _, ask in asked]))

    async def answer(self, asked: Sequence[Asked], columns: Sequence[Column | None]) -> None:
        """Takes the ``columns`` of asks, and has those computed that are not known."""
        lacking = [ask for (_, ask), column in zip(asked, columns, strict=True) if column is None]
        computed = iter(await self.lanes.compute(lacking) if lacking else ())
        self.settle(asked, [next(computed) if column is None else column for column in columns])

    def asks(self, terms: Sequence[PlannedTerm], group: Group, indices: Sequence[int]) -> list[Asked]:
        """What has to be scored for ``terms`` on the rows that lack it."""
        asked = ((term, self._ask(term, group, indices)) for term in terms)
        return [(term, ask) for term, ask in asked if ask is not None]

    def settle(self, asked: Sequence[Asked], columns: Sequence[Column]) -> None:
        """Takes the columns of asks."""
        for (term, ask), column in zip(asked, columns, strict=True):
            self._scatter(term.name, ask.rows, stated_values(self.plan, self.lanes.held(ask, column)))

    def _ask(self, term: PlannedTerm, group: Group, indices: Sequence[int]) -> Ask | None:
        done = self._done[term.name]
        todo = [index for index in indices if index not in done] if done else list(indices)
        done.update(todo)
        bound = term.pick(group)
        if bound is None:
            self._fill_rows(term, todo, Status.SKIPPED, "no scorer is routed to this group")
            return None
        chosen = self._chosen(term, group, todo)
        if not chosen:
            return None
        name = term.term.reference
        if name and name not in group.reference:
            self._fill_rows(term, chosen, Status.REFERENCE_UNPARSEABLE, f"reference.{name} is missing")
            return None
        chosen = self._fed(term, group, chosen)
        return Ask(bound, given(bound.info, self._seen(term, group, chosen)), chosen) if chosen else None

    def _fed(self, term: PlannedTerm, group: Group, rows: list[int]) -> list[int]:
        """The rows for which there is something to read; the others are filled with why not."""
        if term.term.of == "reference" and not isinstance(group.reference.get("response"), str):
            self._fill_rows(term, rows, Status.REFERENCE_UNPARSEABLE, "reference.response is missing")
            return []
        if not term.term.input:
            return rows
        statuses = self._columns[term.term.input].statuses
        lacking = {row for row in rows if not statuses[row].is_verdict}
        for row in lacking:
            self._fill_rows(term, [row], statuses[row], f"{term.term.input} made nothing to read")
        details = self._columns[term.term.input].details or ()
        unreadable = [row for row in rows if details and row not in lacking and _broken(details[row])]
        for row in unreadable:
            self._fill_rows(term, [row], Status.INTERNAL_ERROR, f"{term.term.input} made a picture that is not base64")
        lacking.update(unreadable)
        return [row for row in rows if row not in lacking] if lacking else rows

    def _chosen(self, term: PlannedTerm, group: Group, rows: list[int]) -> list[int]:
        """The rows whose condition is true; the others are filled with why not."""
        if term.when is None or not rows:
            return rows
        seen = range(len(group.responses)) if term.when.uses_group else rows  # of a large open group only what is new
        columns = {name: self._rows(name, group, seen) for name in term.when.names}
        scope = scope_of(self.plan, _part(group, seen), self.call, columns, group.lost)
        values = dict(zip(seen, condition_rows(term.when, scope), strict=True))
        places = {row: place for place, row in enumerate(seen)}
        unknown = {row for row in rows if math.isnan(values[row])}
        for row in unknown:
            self._fill_rows(term, [row], *self._cause(term, row, places[row], scope))
        self._fill_rows(term, [row for row in rows if values[row] == 0], Status.SKIPPED, "the condition is false")
        return [row for row in rows if row not in unknown and values[row] != 0]

    def _cause(self, term: PlannedTerm, row: int, place: int, scope: Scope) -> tuple[Status, str]:
        """Why the condition of a row, which has a ``place`` in the scope, has no value.

        A failure of the row, or of any where it is over the group, then a skipped term, then what the caller left out,
        then too few members.
        """
        when = term.when
        columns = [self._columns[name] for name in when.names if name in self._columns] if when else []
        own = [column.statuses[row] for column in columns]
        others = [status for column in columns for status in column.statuses] if when and when.uses_group else []
        failed = gravest(own, skipped=False) or gravest(others, skipped=False) or gravest(own)
        places = range(scope.size) if when and when.uses_group else [place]
        if failed is None and (lacking := absent(scope, places)):
            return lacking[0], str(lacking[1]["reason"])
        return failed or Status.INCOMPLETE_GROUP, "the condition has no value"

    def _seen(self, term: PlannedTerm, group: Group, rows: Sequence[int]) -> Group:
        """The group as this term sees it: the response, an earlier term's text, or the reference."""
        if term.term.reference:
            found = group.reference[term.term.reference]
            group = replace(group, reference=found if isinstance(found, Mapping) else {"answer": found})
        if term.term.of == "reference":
            return replace(group, responses=(Response(group.reference["response"]),) * len(group.responses))
        if not term.term.input:
            return group
        column, chosen = self._columns[term.term.input], set(rows)
        responses = [
            _made(response, (column.details[row] if column.details else None) or {}) if row in chosen else response
            for row, response in enumerate(group.responses)
        ]
        return replace(group, responses=tuple(responses))

    def _padded(self, size: int) -> Mapping[str, Column]:
        """The columns of the first ``size`` rows; of an open group later ones may have been scored already."""
        columns = {name: self._grow(name, size) for name in self._done}
        return {name: each if len(each) == size else each.take(range(size)) for name, each in columns.items()}

    def _rows(self, name: str, group: Group, rows: Sequence[int]) -> Column:
        """Some rows of a term's column; of an open group later ones may have been scored already."""
        return self._grow(name, len(group.responses)).take(rows)

    def _fill(self, term: PlannedTerm, size: int, status: Status, reason: str) -> None:
        self._fill_rows(term, list(range(size)), status, reason)

    def _fill_rows(self, term: PlannedTerm, rows: list[int], status: Status, reason: str) -> None:
        if rows:
            self._done[term.name].update(rows)
            self._scatter(term.name, rows, Column.failed(len(rows), status, reason))

    def _grow(self, name: str, size: int) -> Column:
        column = self._columns.setdefault(name, Column([], []))
        lacking = size - len(column)
        if lacking > 0:
            column.extend(Column([None] * lacking, [Status.SKIPPED] * lacking))
        return column

    def _scatter(self, name: str, rows: Sequence[int], column: Column) -> None:
        """Puts the rows of ``column`` in their places."""
        if name not in self._columns and rows[0] == 0 and rows[-1] == len(rows) - 1:
            self._columns[name] = column
            return
        self._grow(name, max(rows) + 1).put(rows, column)
