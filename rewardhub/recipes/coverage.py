"""Which rows of the published catalogue recipes stand for, and in what state.

The catalogue has 148 rows: A1 to A77 and B1 to B71, of 140 systems, eight of which have a row of each.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping

from rewardhub.errors import ConfigError
from rewardhub.recipes.recipe import Choice, Recipe, Term

ROWS = (*(f"A{number}" for number in range(1, 78)), *(f"B{number}" for number in range(1, 72)))
_KNOWN = frozenset(ROWS)
_HEAD = """\
# The catalogue of published systems

Written by `rewardhub recipes table`; `rewardhub recipes check --all` runs every example. State: `ok`, the reward
is a recipe that returns the published numbers; `none`, the system has no reward and the recipe checks the answers
of its benchmarks; `partial`, with what is missing; `-`, no recipe yet. *Trainer* says what the trainer does
itself, *needs* which judges (with their rubrics) and which reward models the operator configures by these names.

| row | recipe | year | source | state | needs | notes |
|---|---|---|---|---|---|---|
"""


def rows_of(recipes: Iterable[Recipe]) -> dict[str, Recipe]:
    """The recipe of each row; raises ``ConfigError`` for a row that is none or that two recipes claim."""
    found: dict[str, Recipe] = {}
    for recipe in recipes:
        for row in recipe.about.rows if recipe.about else ():
            if row not in _KNOWN:
                raise ConfigError(f"{recipe.name}: there is no row {row}, only A1 to A77 and B1 to B71", field="rows")
            if row in found:
                raise ConfigError(f"the row {row} is claimed by {found[row].name} and {recipe.name}", field="rows")
            found[row] = recipe
    return found


def state_of(recipe: Recipe) -> str:
    """ok, partial, or none for a system without a reward."""
    return "none" if recipe.kind == "none" else recipe.about.state if recipe.about else "ok"


def summary(rows: Mapping[str, Recipe]) -> str:
    """How many rows are covered: those that are ok and those without a reward whose answers are checked."""
    count = Counter(map(state_of, rows.values()))
    states = ", ".join(f"{state} {count[state]}" for state in ("ok", "partial", "none"))
    return f"{count['ok'] + count['none']} of {len(ROWS)} rows covered ({states})"


def table(recipes: Iterable[Recipe], builtin: Container[str]) -> str:
    """Every row with its recipe and state, as Markdown; ``builtin`` are the scorers that every hub has."""
    rows = rows_of(recipes)
    lines = ["| " + " | ".join(map(_cell, _line(row, rows.get(row), builtin))) + " |" for row in ROWS]
    return _HEAD + "\n".join(lines) + f"\n\n{summary(rows)}\n"


def needs_of(recipe: Recipe, builtin: Container[str]) -> list[str]:
    """The scorers of a recipe that no hub has by itself: judges with their rubrics, reward models."""
    needed = [choice for term in recipe.terms.values() for choice in _choices(term) if choice.scorer not in builtin]
    return sorted({f"{each.scorer} {each.params.get('rubric', '')}".strip() for each in needed})


def _choices(term: Term) -> list[Choice]:
    if term.route is None:
        return [Choice(scorer=term.scorer, **{"with": term.params})]
    return [*term.route.cases.values(), *([term.route.default] if term.route.default else [])]


def _line(row: str, recipe: Recipe | None, builtin: Container[str]) -> Iterator[str]:
    if recipe is None or recipe.about is None:
        yield from (row, "", "", "", "-", "", "")
        return
    about = recipe.about
    notes = [f"*Trainer*: {about.strategy}"] if about.strategy else []
    notes += [about.note] if about.note else []
    notes += [f"*Assumed*: {'; '.join(about.assumed)}"] if about.assumed else []
    needs = ", ".join(f"`{name}`" for name in needs_of(recipe, builtin))
    yield from (row, f"`{recipe.name}`", str(about.year), about.source, state_of(recipe), needs, " ".join(notes))


def _cell(text: str) -> str:
    """Text that stays in its cell."""
    return " ".join(text.replace("|", "\\|").split())
