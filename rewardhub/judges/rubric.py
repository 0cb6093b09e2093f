"""What a rubric is: an instruction in a text file, what is shown, the verdict's form and its value.

A rubric file defines ``RUBRIC``; its instruction stands in the text file of the same name beside it. The
instruction has no placeholders, so no data ever enters it and its bytes are the same in every call.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

from rewardhub.errors import ConfigError, ReferenceUnparseable, UnknownName
from rewardhub.judges import gate, prompt, verdict
from rewardhub.judges.prompt import Block, question_of, response_text
from rewardhub.judges.verdict import Form
from rewardhub.registry import import_file
from rewardhub.scorer import Scope, digest_of, need
from rewardhub.types import Group, Json, Media, Response

PACKAGE = "rewardhub.judges.rubrics"
MAX_ITEMS = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One response of a group, as a rubric's functions see it."""

    group: Group
    response: Response


def only_question(group: Group) -> tuple[Block, ...]:
    return (question_of(group),)


def nothing_shared(_: Group) -> tuple[Block, ...]:
    return ()


def question_and_answer(group: Group) -> tuple[Block, ...]:
    """The prompt and the reference answer; raises ``ReferenceUnparseable`` without one."""
    return question_of(group), Block("REFERENCE ANSWER", answer_of(group))


def answer_of(group: Group) -> str:
    """``reference.answer`` as text, which must not be blank."""
    answer = str(need(group.reference, "answer", (str, int, float)))
    if not answer.strip():
        raise ReferenceUnparseable("reference.answer is empty", field="reference.answer")
    return answer


def text_of(group: Group, key: str) -> str:
    """``reference[key]`` as it is, which must be text and not blank."""
    text: str = need(group.reference, key)
    if not text.strip():
        raise ReferenceUnparseable(f"reference.{key} is empty", field=f"reference.{key}")
    return text


def items_of(group: Group, key: str) -> list[str]:
    """The 1…64 texts listed in ``reference[key]``."""
    items = need(group.reference, key, (list, tuple))
    if not 1 <= len(items) <= MAX_ITEMS or not all(isinstance(item, str) and item.strip() for item in items):
        raise ReferenceUnparseable(f"reference.{key} is not a list of 1 to {MAX_ITEMS} texts", field=f"reference.{key}")
    return list(items)


def numbered(name: str, items: list[str]) -> Block:
    """A block with one numbered item per line."""
    return Block(name, "\n".join(f"{index}. {item}" for index, item in enumerate(items, 1)))


def whole_response(case: Case) -> tuple[Block, ...]:
    return (Block("RESPONSE", response_text(case.response)),)


def prompt_images(case: Case) -> tuple[Media, ...]:
    return (*case.group.media, *case.response.media)


def nothing_more(_: Any, __: Case) -> Json:
    return {}


def the_number(verdict: Any, _: Case) -> float:
    """The verdict itself."""
    return float(verdict)


def share(verdict: Sequence[int], _: Case) -> float:
    """The share of ones among flags."""
    return sum(verdict) / len(verdict)


def mean(verdict: Sequence[float], _: Case) -> float:
    """The plain mean of the grades."""
    return fmean(verdict)


def mean_over(highest: float) -> Callable[[Sequence[float], Case], float]:
    """The mean of grades from 0 to ``highest``, in [0, 1]."""
    return lambda verdict, _: fmean(verdict) / highest


def named(names: Sequence[str]) -> Callable[[Sequence[float], Case], Json]:
    """Details with one named grade each."""
    return lambda verdict, _: dict(zip(names, verdict, strict=True))


def no_steps(_: Any, __: Case) -> tuple[float | None, ...]:
    return ()


def never(_: Case) -> str:
    return ""


@dataclass(frozen=True)
class Rubric:
    """How one kind of question is put to a judge and how its verdict becomes a value in ``range``.

    ``file`` is the rubric's Python file. ``shared`` makes the blocks that all responses of a group share,
    and raises ``ReferenceUnparseable`` where the reference lacks what it needs; ``graded`` makes those of
    one response. ``form`` says how the verdict is written; ``value`` maps it to a number, ``explain`` to
    further details, ``steps`` to the scores of the response's steps. ``refuse`` gives the reason why a
    response gets the lowest value without being asked about, beside the gate for content-free answers,
    which ``gated`` switches. ``images`` are shown in their order; a rubric that ``needs_images`` cannot be
    asked of a judge without vision.

    Scope "pair" and "group" compare responses: the verdict is A, B or TIE for two of them in both orders,
    or a ranking of all.
    """

    name: str
    file: str
    summary: str
    form: Callable[[Case], Form]
    value: Callable[[Any, Case], float] = the_number
    shared: Callable[[Group], tuple[Block, ...]] = only_question
    graded: Callable[[Case], tuple[Block, ...]] = whole_response
    explain: Callable[[Any, Case], Json] = nothing_more
    steps: Callable[[Any, Case], tuple[float | None, ...]] = no_steps
    refuse: Callable[[Case], str] = never
    images: Callable[[Case], tuple[Media, ...]] = prompt_images
    scope: Scope = "response"
    range: tuple[float, float] = (0.0, 1.0)
    gated: bool = True
    needs_images: bool = False

    @property
    def instruction(self) -> str:
        return Path(self.file).with_suffix(".txt").read_text("utf-8").strip()

    @property
    def builtin(self) -> bool:
        """Whether it is one of ours, of which none reads what the trainer knows of a response."""
        return Path(self.file).parent == Path(__file__).with_name("rubrics")

    @property
    def digest(self) -> str:
        """Digest of the instruction, of the rubric's source, and of gate, prompt and parser."""
        files = [self.file, __file__, *(str(module.__file__) for module in (gate, prompt, verdict))]
        return digest_of(self.instruction, *(Path(file).read_bytes() for file in files))


def rubric_names() -> list[str]:
    """The built-in rubrics."""
    package = importlib.import_module(PACKAGE)
    return sorted(entry.name for entry in pkgutil.iter_modules(package.__path__))


def builtin_rubric(name: str) -> Rubric:
    """The built-in of this name; raises ``UnknownName`` with the nearest known one."""
    if name not in rubric_names():
        raise UnknownName("rubric", name, rubric_names(), field="rubric")
    return _rubric_in(importlib.import_module(f"{PACKAGE}.{name}"))


def operators_rubric(name: str) -> Rubric:
    """A built-in, or the rubric of a Python file the operator names; not for names that clients send."""
    return _rubric_in(import_file(Path(name), "rubric")) if name.endswith(".py") else builtin_rubric(name)


def _rubric_in(module: ModuleType) -> Rubric:
    found = getattr(module, "RUBRIC", None)
    if not isinstance(found, Rubric):
        raise ConfigError(f"{module.__file__} defines no RUBRIC", field="rubric")
    if not Path(found.file).with_suffix(".txt").is_file():
        raise ConfigError(f"{found.file} has no text file of the same name beside it", field="rubric")
    return found
