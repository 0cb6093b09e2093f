"""The recipes that a hub knows: the catalogue, the operator's files, and every scorer by its own name.

Also keeps the pins: a run's first use of a recipe fixes its fingerprint.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rewardhub.errors import ConfigError, InvalidInput, UnknownName
from rewardhub.judges import BoundJudge, BoundPanel
from rewardhub.pins import Pins
from rewardhub.recipes.plan import Plan, compile_plan
from rewardhub.recipes.recipe import Limits, Recipe, Term, parse_inline, parse_recipe
from rewardhub.registry import Registry
from rewardhub.scorer import Bound
from rewardhub.types import Call

CATALOGUE = Path(__file__).parent / "recipes" / "catalogue"
INLINE_KEPT = 256


def _read(path: Path) -> Recipe:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of_file(path, error, "recipes") from None
    return parse_recipe(text, str(path))


def catalogue() -> list[Recipe]:
    """The recipes of published systems, by file name."""
    return [_read(path) for path in sorted(CATALOGUE.glob("*.yaml"))]


class RecipeBook:
    """Recipes by name, compiled on first use against ``registry``."""

    def __init__(self, registry: Registry, files: Sequence[Path] = ()) -> None:
        self.registry = registry
        self.users = 0
        """Calls and open groups that are being scored by its plans."""
        self._files = {path.stem: path for path in sorted(CATALOGUE.glob("*.yaml"))}
        self._recipes: dict[str, tuple[Recipe, str]] = {}
        self._plans: dict[str, Plan] = {}
        self._inline: OrderedDict[str, Plan | ConfigError] = OrderedDict()
        self._pins = Pins()
        for name in self._files.keys() & set(registry.names()):
            raise ConfigError(f"{name!r} is a recipe of the catalogue and cannot be a scorer's name", field="name")
        self._own = [_read(path) for path in files]
        for recipe, path in zip(self._own, files, strict=True):
            self.add(recipe, str(path))

    def add(self, recipe: Recipe, where: str) -> None:
        """Raises ``ConfigError`` when the name is taken."""
        if recipe.name in self._known() or recipe.name in self.registry:
            raise ConfigError(f"{where}: the name {recipe.name!r} is taken", field="name")
        self._recipes[recipe.name] = (recipe, where)

    def keep_pins_of(self, other: "RecipeBook") -> None:
        """Runs stay pinned to what they pinned in ``other``, whose place this book takes."""
        self._pins = other._pins

    def compile_own(self) -> None:
        """Compiles the operator's recipes, so that a broken one fails at start and not at its first use."""
        for recipe in self._own:
            self.plan(recipe.name)

    def names(self) -> list[str]:
        return sorted({*self._known(), *self.registry.names()})

    def label(self, recipe: str, call: Call) -> str:
        """What a group whose own recipe is ``recipe`` is accounted under: callers choose the names of inline recipes,
        and of those that there are not.
        """
        name = recipe or call.recipe
        if not name:
            return "inline" if call.recipe_text else "unknown"
        known = name in self._plans or name in self._files or name in self._recipes or name in self.registry
        return name if known else "unknown"

    def chosen(self, names: Iterable[str]) -> list[Recipe]:
        """The recipes of these names, or all; raises ``UnknownName``."""
        known = self._known()
        wanted = list(names) or known
        for name in wanted:
            if name not in known:
                raise UnknownName("recipe", name, known, field="recipe")
        return [self._recipe(name)[0] for name in wanted]

    def place(self, name: str) -> str:
        """The file of a recipe."""
        return self._recipe(name)[1]

    def plan(self, name: str) -> Plan:
        """The plan of a recipe or scorer; raises ``UnknownName`` with the nearest name."""
        if name not in self._plans:
            self._plans[name] = self._compile(name)
        return self._plans[name]

    def resolve(self, recipe: str, call: Call, tenant: str) -> Plan:
        """The plan for a group whose own recipe is ``recipe``, or ""; raises ``InvalidInput``, or ``PinMismatch``
        naming both.
        """
        name = recipe or call.recipe
        if not name and call.recipe_text:
            plan = self._inline_plan(call.recipe_text)
        elif not name:
            raise InvalidInput("neither the group nor the call names a recipe", field="recipe")
        else:
            plan = self.plan(name)
        self.hold(plan, call, tenant)
        return plan

    def hold(self, plan: Plan, call: Call, tenant: str) -> None:
        """Holds the run of the call, if it names one, to the plan; raises ``PinMismatch`` naming both."""
        if call.run:
            self._pins.hold(tenant, (call.run, plan.recipe.name), plan.pin, plan.fingerprint, anew=call.repin)

    def listing(self) -> list[dict[str, Any]]:
        """One row per scorer and recipe."""
        rows = []
        for scorer in self.registry:
            info = scorer.info
            row: dict[str, Any] = {"name": info.name, "family": info.family, "scope": info.scope, "cost": info.cost}
            row |= {"deterministic": info.deterministic, "summary": info.summary}
            rows.append(row | self._state(info.name))
        for recipe in self.chosen([]):
            name = recipe.name
            row = {"name": name, "family": "recipe", "scope": "group", "cost": "dear", "deterministic": True}
            rows.append(row | {"summary": recipe.summary} | self._state(name))
        return rows

    def _known(self) -> list[str]:
        return sorted({*self._files, *self._recipes})

    def _recipe(self, name: str) -> tuple[Recipe, str]:
        """A file of the catalogue is read when it is first asked for."""
        if name not in self._recipes:
            path = self._files[name]
            self._recipes[name] = (_read(path), str(path))
        return self._recipes[name]

    def _state(self, name: str) -> dict[str, Any]:
        """A scorer with required parameters has no fingerprint of its own; a recipe may lack a scorer."""
        try:
            plan = self.plan(name)
            return {"fingerprint": plan.fingerprint, "ready": not plan.lacks}
        except InvalidInput:
            return {"fingerprint": "", "ready": False}

    def _compile(self, name: str) -> Plan:
        if name in self._recipes or name in self._files:
            recipe, where = self._recipe(name)
            return compile_plan(recipe, self.registry, where, published=name in self._files)
        if name not in self.registry:
            raise UnknownName("recipe", name, self.names(), field="recipe")
        lowest = self.registry.get(name).info.range[0]
        # Saying nothing must not pay: where scores can be negative it gets the lowest one.
        nothing = min(0.0, lowest) if math.isfinite(lowest) else 0.0
        recipe = Recipe(name=name, terms={"score": Term(scorer=name)}, value="score", no_answer=nothing)
        return compile_plan(recipe, self.registry, name, implicit=True)

    def _inline_plan(self, text: str) -> Plan:
        """Refusals are kept like plans: each group of a call asks, and compiling takes long."""
        found = self._inline.pop(text, None) or self._compile_inline(text)
        if len(text) <= Limits().chars:
            self._inline[text] = found
            if len(self._inline) > INLINE_KEPT:
                self._inline.popitem(last=False)
        if isinstance(found, ConfigError):
            raise ConfigError(found.message, field=found.field)
        return found

    def _compile_inline(self, text: str) -> Plan | ConfigError:
        try:
            plan = compile_plan(parse_inline(text, Limits()), self.registry, "recipe_text")
            _refuse_spending(plan, Limits().questions)
        except ConfigError as error:
            return ConfigError(error.message, field=error.field)
        return plan


def _refuse_spending(plan: Plan, most: int) -> None:
    """Raises ``ConfigError`` where the judges of an inline recipe are asked too often."""
    asked = sum(max(map(_questions, term.bounds), default=0) for term in plan.terms)
    if asked > most:
        raise ConfigError(
            f"recipe_text asks judges up to {asked} times per response, at most {most}", field="recipe_text.terms"
        )


def _questions(bound: Bound) -> int:
    return bound.questions if isinstance(bound, BoundJudge | BoundPanel) else 0
