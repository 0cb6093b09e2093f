"""A recipe as written: YAML read with the safe loader into typed models, errors with file and line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from rewardhub.errors import ConfigError, nearest
from rewardhub.registry import NAME

_SafeLoader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The constructors of explicit tags ("!!bool x") raise what they happen to run into.
_NOT_YAML = (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


class Choice(BaseModel):
    """A scorer with its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    scorer: str
    params: dict[str, Any] = Field(default_factory=dict, alias="with")


class Route(BaseModel):
    """Which scorer a term uses for a group, by the value of a field of that group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = "problem_type"
    cases: dict[str, Choice]
    default: Choice | None = None


class Term(BaseModel):
    """One scorer of a recipe, or a route to one per group.

    ``when`` is a condition on earlier terms, per response; ``input`` names the earlier term whose text
    (and picture, where it made one) is scored instead of the response; ``of: reference`` scores
    ``reference.response``. ``reference`` names the field of the reference that this term scores against:
    an object as it is, anything else as its ``answer``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    scorer: str = ""
    params: dict[str, Any] = Field(default_factory=dict, alias="with")
    route: Route | None = None
    when: str = ""
    input: str = ""
    of: Literal["response", "reference"] = "response"
    reference: str = ""


class About(BaseModel):
    """Where a published system stands: its rows in the catalogue, its source, what is covered and what is not.

    ``state`` is ok, or partial with the reason in ``note``; ``strategy`` names what the trainer has to do
    itself; ``assumed`` lists parameters that the source does not confirm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: tuple[str, ...] = Field(min_length=1)
    year: int = Field(ge=2015, le=2100)
    source: str
    state: Literal["ok", "partial"] = "ok"
    note: str = ""
    strategy: str = ""
    assumed: tuple[str, ...] = ()


class RecipeTest(BaseModel):
    """A worked example: a group line, and the value (null: none) of each response.

    ``given`` states the values of terms that need a model or a judge, ``given_steps`` the scores of their
    steps and ``given_details`` their details; ``parts`` the expected values of others, ``lets`` those of
    named expressions. ``needs`` are modules that the programs of the example import: where one is not
    installed, the example is not run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: dict[str, Any]
    values: tuple[float | None, ...]
    given: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)
    given_steps: dict[str, tuple[tuple[float | None, ...], ...]] = Field(default_factory=dict)
    given_details: dict[str, tuple[dict[str, Any], ...]] = Field(default_factory=dict)
    parts: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)
    lets: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)
    inputs: dict[str, float] = Field(default_factory=dict)
    needs: tuple[str, ...] = ()
    tolerance: float = Field(default=5e-5, ge=0)


class Recipe(BaseModel):
    """A named, versioned composition: terms, let, value.

    ``kind: none`` is a published system without a reward, whose value is how its answers are checked.
    ``no_answer`` and ``over_limit`` are the values of terms whose response has nothing to score or is
    over a limit; group operators give no value when fewer than ``min_valid`` members have one, or with
    ``group_strict`` when any lacks one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=NAME)
    version: str = "1"
    kind: Literal["reward", "none"] = "reward"
    summary: str = ""
    about: About | None = None
    terms: dict[str, Term] = Field(min_length=1)
    let: dict[str, str] = Field(default_factory=dict)
    value: str
    no_answer: float = 0.0
    over_limit: float | None = None
    min_valid: int = Field(default=2, ge=1)
    group_strict: bool = False
    tests: tuple[RecipeTest, ...] = ()
    _lines: dict[str, int] = PrivateAttr(default_factory=dict)

    def at(self, where: str, path: str) -> str:
        """Where the field stands: the file, the line where it is known, and the ``path``."""
        return f"{where}:{self._lines[path]}: {path}" if path in self._lines else f"{where}: {path}"

    @property
    def expressions(self) -> list[str]:
        return [self.value, *self.let.values(), *(term.when for term in self.terms.values())]

    def canonical(self) -> str:
        """What decides a score, as JSON; not what is said about it."""
        return self.model_dump_json(by_alias=True, exclude={"about", "tests", "summary", "kind"})

    @field_validator("version", "value", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


MAX_DIGITS = 1_000
_MARKS = ",:[{-\n"


@dataclass(frozen=True)
class Limits:
    """What an inline recipe may ask for: it comes from a half-trusted caller.

    ``questions`` are those that its judges are asked per response. The rest is so that reading it holds up nobody:
    ``marks`` are commas, colons, brackets, dashes and ends of lines, ``expressions`` the characters of all of them.
    """

    terms: int = 16
    lets: int = 64
    chars: int = 20_000
    marks: int = 2_500
    expressions: int = 6_000
    questions: int = 32


def parse_recipe(text: str, where: str) -> Recipe:
    """The recipe in YAML ``text``; raises ``ConfigError`` naming ``where``, the line and the field."""
    try:
        loader = _SafeLoader(text)
        node = loader.get_single_node()
        _check(node, where)
        data = loader.construct_document(node) if node else None
    except _NOT_YAML as error:
        raise _not_yaml(error, where) from None
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected an object with name, terms and value", field=where)
    try:
        recipe = Recipe.model_validate(dict(data))
    except ValidationError as error:
        raise _explain(error, node, where) from None
    recipe._lines = _lines(node)
    return recipe


def parse_inline(text: str, limits: Limits) -> Recipe:
    """A recipe that travelled in a request; raises ``ConfigError``."""
    if len(text) > limits.chars:
        raise ConfigError(f"recipe_text is over {limits.chars} characters", field="recipe_text")
    if sum(map(text.count, _MARKS)) > limits.marks:
        raise ConfigError(
            f"recipe_text has over {limits.marks} commas, colons, brackets and lines", field="recipe_text"
        )
    if "&" in text or "*" in text.replace("* ", ""):
        _refuse_aliases(text)
    recipe = parse_recipe(text, "recipe_text")
    if len(recipe.terms) > limits.terms:
        raise ConfigError(f"recipe_text has over {limits.terms} terms", field="recipe_text.terms")
    if len(recipe.let) > limits.lets:
        raise ConfigError(f"recipe_text has over {limits.lets} lets", field="recipe_text.let")
    if sum(map(len, recipe.expressions)) > limits.expressions:
        raise ConfigError(
            f"the expressions of recipe_text have over {limits.expressions} characters", field="recipe_text"
        )
    return recipe


def _check(node: Any, where: str) -> None:
    """YAML keeps the last of two equal keys; a recipe that says two things is a mistake. So are endless integers."""
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and len(node.value) > MAX_DIGITS:
        raise ConfigError(f"{where}:{node.start_mark.line + 1}: an integer of over {MAX_DIGITS} digits", field=where)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"{where}:{line}: the key {key.value!r} comes twice", field=str(key.value))
            seen.add(str(key.value))
            _check(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, where)


def _refuse_aliases(text: str) -> None:
    """YAML aliases can make a small text huge ("billion laughs")."""
    try:
        found = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_SafeLoader))
    except (yaml.YAMLError, RecursionError):
        return
    if found:
        raise ConfigError("recipe_text: aliases are not allowed", field="recipe_text")


def _not_yaml(error: Exception, where: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    told = " ".join(str(getattr(error, "problem", None) or error).split())
    return ConfigError(f"{where}{f':{mark.line + 1}' if mark else ''}: not YAML: {told}", field=where)


def _explain(error: ValidationError, node: Any, where: str) -> ConfigError:
    # A misspelt key explains a missing one, so it comes first.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    line = _line(node, path)
    message = first["msg"]
    if first["type"] == "extra_forbidden":
        message = f"unknown field {path[-1]!r}{nearest(path[-1], _known(path))}"
    return ConfigError(f"{where}:{line}: {'.'.join(path)}: {message}", field=".".join(path))


def _known(path: list[str]) -> list[str]:
    """The fields of the object that the last name of ``path`` stands in."""
    above: dict[str, type[BaseModel]] = {"about": About, "tests": RecipeTest, "terms": Term}
    model = Recipe if len(path) == 1 else above.get(path[0], Recipe)
    if "route" in path[2:-1]:
        model = Choice if path[-2] != "route" else Route
    return [info.alias or name for name, info in model.model_fields.items()]


def _lines(node: Any) -> dict[str, int]:
    """The lines of the fields that errors name, by their path."""
    lines: dict[str, int] = {}
    fields = {key.value: (key, value) for key, value in node.value}
    if "value" in fields:
        lines["value"] = fields["value"][0].start_mark.line + 1
    for kind in ("let", "terms"):
        for key, value in fields[kind][1].value if kind in fields else ():
            lines[f"{kind}.{key.value}"] = key.start_mark.line + 1
            for inner, _ in value.value if kind == "terms" else ():
                lines[f"{kind}.{key.value}.{inner.value}"] = inner.start_mark.line + 1
    return lines


def _line(node: Any, path: list[str]) -> int:
    """The line of the deepest key of ``path`` that the text holds."""
    line = 1
    for part in path:
        if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((key, value) for key, value in node.value if key.value == part), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
