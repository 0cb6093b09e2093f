"""A recipe compiled for running: bound scorers, compiled expressions, waves, a fingerprint."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from typing import Any

from rewardhub.errors import ConfigError, InvalidInput, nearest
from rewardhub.recipes import functions
from rewardhub.recipes.absent import Absent
from rewardhub.recipes.expression import Expression, compile_expression
from rewardhub.recipes.recipe import Choice, Recipe, Term
from rewardhub.registry import Registry
from rewardhub.scorer import Bound, digest_of
from rewardhub.types import Group, Json

MAX_WAVES = 8
DIGESTS_KEPT = 8


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
        return self.cases.get(str(self.routed_by(group)), self.bound) if self.term.route else self.bound

    def routed_by(self, group: Group) -> Any:
        """The value of the field that its route goes by; None without a route."""
        field = self.term.route.field if self.term.route else ""
        return group.problem_type if field == "problem_type" else group.metadata.get(field)

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
        return self._digest(tuple(bound.fingerprint for bound in self.bounds))

    @property
    def pin(self) -> tuple[str, ...]:
        """What a run is held to: the recipe and its scorers' fingerprints, or what stands for those that are known only
        once a scorer answered.
        """
        return (self._own_digest, *(getattr(bound, "pin", bound.fingerprint) for bound in self.bounds))

    @property
    def versions(self) -> Mapping[str, str]:
        """The fingerprints of its reward models as they are loaded at this moment, by their names."""
        return {bound.info.name: getattr(bound, "pin", bound.fingerprint) for bound in self._models}

    @cached_property
    def _models(self) -> list[Bound]:
        return [bound for bound in self.bounds if bound.info.lane == "model"]

    @cached_property
    def _own_digest(self) -> str:
        return digest_of("recipe", self.recipe.canonical())

    def _digest(self, bounds: tuple[str, ...]) -> str:
        if bounds not in self._digests:
            if len(self._digests) >= DIGESTS_KEPT:
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
        return self.over_group or any(term.whole for term in self.terms)

    @cached_property
    def over_group(self) -> bool:
        """Whether the value of a row is made of other rows too."""
        return self.value.uses_group or any(each.uses_group for each in self.steps.values())

    @cached_property
    def steps(self) -> Mapping[str, Expression]:
        """The lets that the value reads, in order. The others are for ``explain`` alone."""
        return {name: expression for name, expression in self.lets.items() if name in self._names}

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The terms that the value reads, through lets too, in the order they run: a cause before what it causes."""
        return tuple(term.name for term in self.terms if term.name in self._names)

    @cached_property
    def needed(self) -> list[Bound]:
        """The scorers without which no row of any group has a value."""
        names = self._reached(lambda expression: expression.needs)
        terms = [term for term in self.terms if term.name in names and not term.when and not term.term.route]
        return [term.bound for term in terms if term.bound]

    def unrouted(self, group: Group) -> Json | None:
        """Why the value reads a term that has no scorer for this group, as a failure's details; None where none."""
        lost = [term for term in self.terms if term.name in self._names and term.term.route and not term.pick(group)]
        if not lost or not lost[0].term.route:
            return None
        field, value = lost[0].term.route.field, lost[0].routed_by(group)
        place = field if field == "problem_type" else f"metadata.{field}"
        known = {case for term in lost for case in term.cases}
        told = f"{place} {str(value)[:64]!r}" if value else f"a group without {place}"
        reason = f"the recipe {self.recipe.name} has no scorer for {told}{nearest(str(value or ''), known)}"
        return {"reason": reason, "field": place}

    @cached_property
    def _names(self) -> frozenset[str]:
        return self._reached(lambda expression: expression.names)

    def _reached(self, of: Callable[[Expression], frozenset[str]]) -> frozenset[str]:
        """The names ``of`` the value, and through them of the lets."""
        names = set(of(self.value))
        for name, expression in reversed(list(self.lets.items())):
            if name in names:
                names |= of(expression)
        return frozenset(names)


def compile_plan(
    recipe: Recipe, registry: Registry, where: str, *, implicit: bool = False, published: bool = False
) -> Plan:
    """Binds scorers and compiles expressions; raises ``ConfigError`` naming the place in ``where``.

    A ``published`` recipe may name scorers that this hub does not have.
    """
    _check_names(recipe, where)
    whens = {name: _when(name, term, recipe, where) for name, term in recipe.terms.items()}
    needs = {name: _needs(term, whens[name]) for name, term in recipe.terms.items()}
    waves: list[tuple[PlannedTerm, ...]] = []
    done: dict[str, PlannedTerm] = {}
    while len(done) < len(needs):
        ready = [name for name, needed in needs.items() if name not in done and needed <= set(done)]
        if not ready:
            names = ", ".join(sorted(set(needs) - set(done)))
            raise ConfigError(f"{where}: the terms {names} wait for each other", field="terms")
        wave = tuple(_planned(name, recipe, whens[name], registry, done, where, published) for name in ready)
        done |= {term.name: term for term in wave}
        waves.append(wave)
    if len(waves) > MAX_WAVES:
        raise ConfigError(f"{where}: {len(waves)} waves, at most {MAX_WAVES}", field="terms")
    lets = _lets(recipe, where)
    value = compile_expression(recipe.value, dict.fromkeys([*recipe.terms, *lets]), recipe.at(where, "value"))
    return Plan(recipe, tuple(waves), lets, value, implicit)


def _when(name: str, term: Term, recipe: Recipe, where: str) -> Expression | None:
    if not term.when:
        return None
    others = dict.fromkeys(other for other in recipe.terms if other != name)
    return compile_expression(term.when, others, recipe.at(where, f"terms.{name}.when"))


def _needs(term: Term, when: Expression | None) -> set[str]:
    return set(when.names if when else ()) | ({term.input} if term.input else set())


def _planned(
    name: str,
    recipe: Recipe,
    when: Expression | None,
    registry: Registry,
    done: Mapping[str, PlannedTerm],
    where: str,
    published: bool,
) -> PlannedTerm:
    term = recipe.terms[name]
    at = recipe.at(where, f"terms.{name}")
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
    known = dict.fromkeys(recipe.terms)
    for name, text in recipe.let.items():
        lets[name] = compile_expression(text, known, recipe.at(where, f"let.{name}"))
        known[name] = None
    return lets


def _check_names(recipe: Recipe, where: str) -> None:
    """Raises ``ConfigError`` for a term or let that expressions could not read, or would take for something else."""
    for kind, names in (("terms", recipe.terms), ("let", recipe.let)):
        for name in names:
            at = recipe.at(where, f"{kind}.{name}")
            plain = name.isidentifier() and not iskeyword(name) and unicodedata.is_normalized("NFKC", name)
            if not plain or name in functions.NAMES or (kind == "let" and name in recipe.terms):
                raise ConfigError(f"{at}: {name!r} is no free name", field=f"{kind}.{name}")
    for name, term in recipe.terms.items():
        if term.input and term.input not in recipe.terms:
            at = recipe.at(where, f"terms.{name}.input")
            raise ConfigError(f"{at}: unknown term {term.input!r}{nearest(term.input, recipe.terms)}", field="input")
