"""A recipe compiled for running: bound scorers, compiled expressions, waves, a fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rewardhub.errors import ConfigError, InvalidInput
from rewardhub.recipes.absent import Absent
from rewardhub.recipes.expression import Expression, compile_expression
from rewardhub.recipes.recipe import Choice, Recipe, Term
from rewardhub.registry import Registry
from rewardhub.scorer import Bound, digest_of
from rewardhub.types import Group

MAX_WAVES = 8


@dataclass(frozen=True)
class PlannedTerm:
    """A term ready to run. ``whole`` terms wait until the group is whole."""

    name: str
    term: Term
    bound: Bound | None
    cases: Mapping[str, Bound]
    when: Expression | None
    whole: bool

    def pick(self, group: Group) -> Bound | None:
        """The scorer for this group; None where its route names none."""
        route = self.term.route
        if route is None:
            return self.bound
        value = group.problem_type if route.field == "problem_type" else group.metadata.get(route.field)
        return self.cases.get(str(value), self.bound)

    @property
    def bounds(self) -> list[Bound]:
        return [*([self.bound] if self.bound else []), *self.cases.values()]


@dataclass(frozen=True)
class Plan:
    """What the hub runs: terms in waves, then the lets in order, then the value."""

    recipe: Recipe
    waves: tuple[tuple[PlannedTerm, ...], ...]
    lets: Mapping[str, Expression]
    value: Expression
    implicit: bool = False

    @cached_property
    def terms(self) -> list[PlannedTerm]:
        return [term for wave in self.waves for term in wave]

    @property
    def fingerprint(self) -> str:
        """Digest of the recipe and of every scorer it can use; follows a model that was reloaded."""
        bounds = tuple(bound.fingerprint for bound in self.bounds)
        if bounds not in self._digests:
            self._digests.clear()
            self._digests[bounds] = digest_of("recipe", self.recipe.canonical(), *bounds)
        return self._digests[bounds]

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        return tuple(bound for term in self.terms for bound in term.bounds)

    @cached_property
    def lacks(self) -> list[str]:
        """The scorers that it names and the hub does not have."""
        return sorted({bound.name for bound in self.bounds if isinstance(bound, Absent)})

    @cached_property
    def _digests(self) -> dict[tuple[str, ...], str]:
        return {}

    @cached_property
    def needs_group(self) -> bool:
        """Whether values wait for the whole group."""
        uses = self.value.uses_group or any(each.uses_group for each in self.steps.values())
        return uses or any(term.whole for term in self.terms)

    @cached_property
    def steps(self) -> Mapping[str, Expression]:
        """The lets that the value reads, in order. The others are for ``explain`` alone."""
        return {name: expression for name, expression in self.lets.items() if name in self._names}

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The terms that the value reads, through lets too, in the order they run: a cause before what it causes."""
        return tuple(term.name for term in self.terms if term.name in self._names)

    @cached_property
    def _names(self) -> frozenset[str]:
        names = set(self.value.names)
        for name, expression in reversed(list(self.lets.items())):
            if name in names:
                names |= expression.names
        return frozenset(names)


def compile_plan(
    recipe: Recipe, registry: Registry, where: str, *, implicit: bool = False, published: bool = False
) -> Plan:
    """Binds scorers and compiles expressions; raises ``ConfigError`` naming the place in ``where``.

    A ``published`` recipe may name scorers that this hub does not have.
    """
    terms = {name: (term, _when(name, term, recipe, where)) for name, term in recipe.terms.items()}
    waves: list[tuple[PlannedTerm, ...]] = []
    done: dict[str, PlannedTerm] = {}
    while len(done) < len(terms):
        ready = [name for name, (term, when) in terms.items() if name not in done and _needs(term, when) <= set(done)]
        if not ready:
            names = ", ".join(sorted(set(terms) - set(done)))
            raise ConfigError(f"{where}: the terms {names} wait for each other", field="terms")
        wave = tuple(_planned(name, *terms[name], registry, done, where, published) for name in ready)
        done |= {term.name: term for term in wave}
        waves.append(wave)
    if len(waves) > MAX_WAVES:
        raise ConfigError(f"{where}: {len(waves)} waves, at most {MAX_WAVES}", field="terms")
    lets = _lets(recipe, where)
    value = compile_expression(recipe.value, dict.fromkeys([*recipe.terms, *lets]), f"{where}: value")
    return Plan(recipe, tuple(waves), lets, value, implicit)


def _when(name: str, term: Term, recipe: Recipe, where: str) -> Expression | None:
    if not term.when:
        return None
    others = dict.fromkeys(other for other in recipe.terms if other != name)
    return compile_expression(term.when, others, f"{where}: terms.{name}.when")


def _needs(term: Term, when: Expression | None) -> set[str]:
    return set(when.names if when else ()) | ({term.input} if term.input else set())


def _planned(
    name: str,
    term: Term,
    when: Expression | None,
    registry: Registry,
    done: Mapping[str, PlannedTerm],
    where: str,
    published: bool,
) -> PlannedTerm:
    at = f"{where}: terms.{name}"
    if bool(term.scorer) == bool(term.route):
        raise ConfigError(f"{at}: exactly one of scorer and route is expected", field=f"terms.{name}")
    route = term.route
    default = route.default if route else Choice(scorer=term.scorer, **{"with": term.params})
    cases = {value: _bind(choice, registry, at, published) for value, choice in (route.cases if route else {}).items()}
    bound = _bind(default, registry, at, published) if default else None
    group_wide = any(each.info.scope != "response" for each in [*([bound] if bound else []), *cases.values()])
    needs = _needs(term, when)
    whole = group_wide or (when is not None and when.uses_group) or any(done[other].whole for other in needs)
    return PlannedTerm(name, term, bound, cases, when, whole)


def _bind(choice: Choice, registry: Registry, at: str, published: bool) -> Bound:
    try:
        if published and choice.scorer not in registry:
            return Absent(choice.scorer, choice.params)
        return registry.get(choice.scorer).bind(choice.params)
    except InvalidInput as error:
        raise ConfigError(f"{at}: {error.message}", field=error.field) from None


def _lets(recipe: Recipe, where: str) -> dict[str, Expression]:
    lets: dict[str, Expression] = {}
    for name, text in recipe.let.items():
        if name in recipe.terms or not name.isidentifier():
            raise ConfigError(f"{where}: let.{name} is no free name", field=f"let.{name}")
        known = dict.fromkeys([*recipe.terms, *lets])
        lets[name] = compile_expression(text, known, f"{where}: let.{name}")
    return lets
