"""What a scorer is, and the verifier made from one plain function.

A :class:`Scorer` is registered by name; ``bind`` validates parameters and gives a bound scorer with a
fingerprint, which the hub runs on its lane. Bound scorers are either pure and local (verifiers:
``score`` runs in any thread or process) or remote (reward models and judges: ``score`` is awaited and
has its own queue).
"""

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from itertools import islice
from numbers import Real
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from rewardhub.errors import ConfigError, InvalidInput, ReferenceUnparseable, nearest
from rewardhub.flaws import as_float, sound
from rewardhub.json_values import copied, is_unchanging, weight
from rewardhub.owned import own_beginning, own_response, own_score
from rewardhub.raised import fault, raised
from rewardhub.sources import source_bytes
from rewardhub.types import MAX_CHARS, Column, Group, Json, Response, Score, Status

Lane = Literal["inline", "pool", "sandbox", "model", "judge"]
Scope = Literal["response", "pair", "group"]
Verdict = float | Score


@dataclass(frozen=True, slots=True)
class ScorerInfo:
    """What a scorer declares. ``time_limit_s`` bounds one response on the pool and sandbox lanes;
    a response of more than ``max_chars`` characters is ``over_limit``; pair and group scope see its beginning.
    ``signals`` says whether it may read the ``tokens`` and ``signals`` of responses, ``metadata`` the ``metadata`` and
    ``problem_type`` of their group: what it may not read it is not given, see :func:`given`.
    """

    name: str
    family: Literal["verifier", "reward_model", "judge", "recipe"]
    lane: Lane = "inline"
    scope: Scope = "response"
    cost: Literal["cheap", "dear"] = "cheap"
    deterministic: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    time_limit_s: float = 2.0
    max_chars: int = MAX_CHARS
    summary: str = ""
    signals: bool = True
    metadata: bool = True


@dataclass(frozen=True, slots=True)
class Context:
    """What a remote scorer needs to know of the call: ``deadline`` is in ``time.monotonic`` seconds.

    ``recipe`` is the name of a recipe of the hub, "inline" for one that came with the call.
    """

    deadline: float = math.inf
    priority: Literal["online", "bulk"] = "online"
    tenant: str = ""
    recipe: str = ""


class Bound(Protocol):
    """A scorer with its parameters."""

    @property
    def info(self) -> ScorerInfo: ...
    @property
    def params(self) -> Json: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows of a group for a scorer to score."""

    bound: Bound
    group: Group
    rows: Sequence[int]

    @property
    def chars(self) -> int:
        """Characters that are read to score the rows: their texts and messages, and for each row the reference."""
        responses = [self.group.responses[row] for row in self.rows]
        turns = [weight(response.messages) for response in responses if response.messages]
        return weight(self.group.reference) * len(responses) + sum(turns) + sum([len(each.text) for each in responses])


def given(info: ScorerInfo, group: Group) -> Group:
    """The group without what its scorer declares that it never reads: inputs that differ only in that are one."""
    if not info.metadata and (group.metadata or group.problem_type):
        group = replace(group, metadata={}, problem_type="")
    if info.signals or not any(each.signals or each.tokens is not None for each in group.responses):
        return group
    return replace(group, responses=tuple(replace(each, signals={}, tokens=None) for each in group.responses))


@runtime_checkable
class LocalBound(Bound, Protocol):
    """Pure; never raises for a response: failures are statuses of the column."""

    def score(self, group: Group, indices: Sequence[int]) -> Column: ...

    def try_fast(self, group: Group, indices: Sequence[int]) -> Column | None:
        """The rows that are decided without the pool; undecided rows hold ``skipped``."""
        ...


class RemoteBound(Bound, Protocol):
    """Awaited; has its own queue and its own deadline keeping."""

    async def score_remote(self, group: Group, indices: Sequence[int], context: Context) -> Column: ...


class Scorer(Protocol):
    """What the registry holds under a name."""

    @property
    def info(self) -> ScorerInfo: ...

    def bind(self, params: Json) -> Bound:
        """Validates parameters; raises ``ConfigError`` that names the field and the nearest known."""
        ...


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example of a verifier: this response against this reference gives this value.

    ``status`` is the expected status; ``value`` is compared within 1e-6.
    """

    response: str | Response
    reference: Json
    value: float | None
    params: Json = field(default_factory=dict)
    status: Status = Status.OK
    group: Json = field(default_factory=dict)

    def as_group(self) -> Group:
        response = Response(self.response) if isinstance(self.response, str) else self.response
        return Group(id="example", responses=(response,), reference=self.reference, **self.group)


@dataclass(frozen=True)
class Verifier:
    """A plain function ``(response, reference, *, parameters…)`` made into a scorer.

    The function may take a third positional parameter ``group``, whose id and responses it does not see.
    With ``scope="group"`` it gets all responses at once and returns one verdict each. ``fast`` has the same
    signature and the same defaults and returns None where it cannot decide. The text of a response is always
    UTF-8: half of a surrogate pair is a question mark. What it is given is its own to change, for one call; so
    are the details it gave.
    """

    info: ScorerInfo
    function: Callable[..., Any]
    fast: Callable[..., Any] | None = None
    examples: tuple[Example, ...] = ()
    libraries: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    place: Callable[[], str] | None = None

    def __call__(self, *args: Any, **params: Any) -> Any:
        """The plain function itself."""
        return self.function(*args, **params)

    def bind(self, params: Json) -> "BoundVerifier":
        try:
            valid = self.parameters.model_validate(dict(params))
        except ValidationError as error:
            raise _parameter_error(self.info.name, self.parameters, error) from None
        for name, value in params.items():
            if not _finite(value):  # JSON, in which parameters travel to a worker, has no such number
                raise ConfigError(f"{self.info.name}: parameter {name!r} is not finite", field=name)
        return BoundVerifier(self, {name: getattr(valid, name) for name in type(valid).model_fields}, dict(params))

    @cached_property
    def parameters(self) -> type[BaseModel]:
        """The model of the keyword-only parameters, made from their annotations and defaults."""
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(self.function, eval_str=True).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[parameter.name] = (parameter.annotation, default)
        return create_model(f"{self.info.name}_parameters", __config__=ConfigDict(extra="forbid"), **fields)

    @cached_property
    def takes_group(self) -> bool:
        return "group" in inspect.signature(self.function).parameters

    @cached_property
    def builtin(self) -> bool:
        """Whether it is one of ours, which change nothing that they are given: they need no copies."""
        return self.function.__module__.startswith("rewardhub.verifiers.")

    @cached_property
    def source_digest(self) -> str:
        """Digest of the scorer's source files and of the library versions it depends on."""
        digest = hashlib.sha256(self.info.name.encode())
        for module in (self.function.__module__, *self.sources):
            digest.update(source_bytes(module, self.function))
        for library in self.libraries:
            digest.update(f"{library}=={metadata.version(library)}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class BoundVerifier:
    """A verifier with validated parameters; runs in any thread or process.

    ``given`` are the parameters as they were written, from which another process binds it again.
    """

    verifier: Verifier
    params: Mapping[str, Any]
    given: Json = field(default_factory=dict)

    @property
    def info(self) -> ScorerInfo:
        return self.verifier.info

    @cached_property
    def fingerprint(self) -> str:
        text = json.dumps(dict(self.params), sort_keys=True, default=str)
        place = [self.verifier.place()] if self.verifier.place else []
        return digest_of("verifier", self.info.name, self.verifier.source_digest, text, *place)

    def score(self, group: Group, indices: Sequence[int]) -> Column:
        return self._run(self.verifier.function, group, indices)

    def try_fast(self, group: Group, indices: Sequence[int]) -> Column | None:
        return self._run(self.verifier.fast, group, indices) if self.verifier.fast else None

    @cached_property
    def arguments(self) -> Mapping[str, Any]:
        """The parameters that were given, validated; the function has the defaults of the others itself."""
        return {name: self.params[name] for name in self.given}

    @cached_property
    def unchanging(self) -> bool:
        """Whether no parameter can be changed by who is given it."""
        return is_unchanging(self.params.values())

    def _run(self, function: Callable[..., Any], group: Group, indices: Sequence[int]) -> Column:
        responses = [group.responses[index] for index in indices]
        if self.info.lane != "sandbox":  # a program is run as it was written
            responses = [*map(_legible, responses)]
        if self.verifier.takes_group:
            group = _stated(group)
        if not self.verifier.builtin:
            responses = [*map(own_response, responses)]
        if self.info.scope == "response":
            verdicts = [self._one(function, response, group) for response in responses]
        else:
            verdicts = self._all(function, responses, group)
        return _column(verdicts, self.fingerprint)

    def _one(self, function: Callable[..., Any], response: Response, group: Group) -> Verdict:
        longest = self.info.max_chars
        if len(response.text) > longest:
            return _over(longest)
        try:
            verdict = self._asked(function, response, group)
            return UNDECIDED if verdict is None and function is self.verifier.fast else self._judged(verdict)
        except BaseException as error:  # a panic of a library in Rust is no Exception, and sys.exit is none
            return raised(error, group.reference)

    def _all(self, function: Callable[..., Any], responses: list[Response], group: Group) -> list[Verdict]:
        longest = self.info.max_chars
        seen = [_first(response, longest + 1) for response in responses]  # still too long, for those who look
        try:
            found = self._asked(function, seen, group)
            listed = () if isinstance(found, dict | set | frozenset) else found  # keys are no verdicts
            verdicts = [self._judged(each) for each in islice(listed, len(responses) + 1)]
        except BaseException as error:
            return [raised(error, group.reference) for _ in responses]
        if len(verdicts) != len(responses):
            return [fault("the scorer returned other than a list with one verdict each") for _ in responses]
        pairs = zip(responses, verdicts, strict=True)
        return [_over(longest) if len(response.text) > longest else verdict for response, verdict in pairs]

    def _asked(self, function: Callable[..., Any], responses: Response | list[Response], group: Group) -> Any:
        """What the function makes of a response, or of all. An operator's own may change or keep what it is given."""
        reference, arguments = group.reference, self.arguments
        if not self.verifier.builtin:
            reference = copied(reference)
            arguments = self.params if self.unchanging else copied(self.params)  # defaults too, which may be lists
            group = own_beginning(group, reference) if self.verifier.takes_group else group
        extra = (group,) if self.verifier.takes_group else ()
        return function(responses, reference, *extra, **arguments)

    def _judged(self, verdict: Any) -> Verdict:
        """What the function returned, if it is a score or a finite number; anything else is a fault of the function."""
        if isinstance(verdict, Score):
            score = sound(verdict)
            if isinstance(score, str):
                return fault(score)
            return score if self.verifier.builtin else own_score(score)
        if not isinstance(verdict, (float, Real)):
            return fault(f"the scorer returned {type(verdict).__name__}, expected a number or a Score")
        number = as_float(verdict)
        return fault("the scorer returned a non-finite number") if number is None else number


def _stated(group: Group) -> Group:
    """The group without whose it is and who is in it, of which a score is the same wherever its response stands."""
    return replace(group, id="", responses=(), recipe="", expected=0, lost=0)


def _legible(response: Response) -> Response:
    """The response with a question mark in place of each half of a surrogate pair, so that all of it is UTF-8."""
    if response.text.isascii():
        return response
    clean = response.text.encode("utf-8", "replace").decode()
    return response if clean == response.text else replace(response, text=clean)


def _over(longest: int) -> Score:
    reason = f"the response is over {longest} characters"
    return Score(None, Status.OVER_LIMIT, details={"reason": reason, "field": "response"})


def _first(response: Response, chars: int) -> Response:
    return response if len(response.text) <= chars else replace(response, text=response.text[:chars])


UNDECIDED = Score(None, Status.SKIPPED)
"""What a ``fast`` function's None becomes."""


def _column(verdicts: Sequence[Verdict], fingerprint: str) -> Column:
    numbers = [verdict for verdict in verdicts if not isinstance(verdict, Score)]
    if len(numbers) == len(verdicts):
        return Column([*numbers], [Status.OK] * len(verdicts), fingerprint)
    scores = [verdict if isinstance(verdict, Score) else Score(verdict) for verdict in verdicts]
    column = Column.of(scores, fingerprint)
    column.cached = None  # which is not the scorer's to say
    return column


def digest_of(*parts: str | bytes) -> str:
    """SHA-256 of the parts, each prefixed with its length so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def need(reference: Json, key: str, kind: type | tuple[type, ...] = str) -> Any:
    """The reference's field ``key``; raises ``ReferenceUnparseable`` where it is missing or not ``kind``."""
    value = reference.get(key)
    wanted = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        names = " or ".join(each.__name__ for each in wanted)
        found = "is missing" if key not in reference else f"is {type(value).__name__}"
        raise ReferenceUnparseable(f"reference.{key} {found}, expected {names}", field=f"reference.{key}")
    return value


def _parameter_error(name: str, model: type[BaseModel], error: ValidationError) -> InvalidInput:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{name} has no parameter {key!r}{nearest(key, model.model_fields)}", field=key)
    return ConfigError(f"{name}: parameter {key!r}: {first['msg']}", field=key)


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
