"""``mcq``: multiple-choice answers by label or by the option's text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewardhub.errors import NoAnswer
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.options import EDGES, LABELS, Question, Style, normal, question_of
from rewardhub.verifiers.tags import said, stated_answer

Several = Literal["wrong", "first", "last"]
Measure = Literal["choice", "label", "content"]

# All of these run on at most _LONGEST characters, the ones with adjoining classes on _BEHIND.
_PHRASE = re.compile(
    r"\banswer\b(?:\s+(?:is|are|would be|should be))?\s*[:：=]?"
    r"|\b(?:option|choice)\b(?:\s+(?:is|would be|should be)|\s*[:：])|答案(?:是|为)?\s*[:：]?",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z0-9]+")
_OPENING, _CLOSING = r"[\s(\[{<\"'*_$]*", r"[\s)\]}>\"'*_$.:、：]*"
_FIRST = re.compile(rf"{_OPENING}([A-Za-z0-9]+)")
_NEXT = re.compile(
    rf"{_CLOSING}(?:[,/&;，、]|\band\b|\bor\b){_OPENING}(?:(?:and|or|maybe|perhaps|also)\s+)*{_OPENING}([A-Z0-9]+)\b"
)
_MARK = re.compile(
    r"\b(?:answer|option|choice|label|select|choose|pick)s?(?:\s+is)?\s*[:：]?\s*[(*\"']*$", re.IGNORECASE
)
_LONGEST = 20_000
_BEHIND, _PHRASES = 200, 8
"""Characters read behind a phrase and for leading labels; how many of the last phrases are tried."""

_FOUR = {"answer": "B", "options": ["Asthma", "Pneumonia", "Flu", "Cold"]}
_THIRD = {"answer": "III", "options": ["w", "x", "y", "z"]}
_SET = {"answer": "A, C", "options": ["w", "x", "y", "z"]}
_EXAMPLES = (
    Example("(B).", _FOUR, 1.0),
    Example("<answer>B. Pneumonia</answer>", _FOUR, 1.0),
    Example("pneumonia", _FOUR, 1.0),
    Example("pneumonia", _FOUR, 0.0, {"accept_text": False}),
    Example("B. Asthma", _FOUR, 0.0),
    Example("A cat has it. Therefore the answer is (B).", _FOUR, 1.0),
    Example("It is \\boxed{\\text{B}}", _FOUR, 1.0),
    Example("Banana", _FOUR, 0.0),
    Example("A or B or C", {"answer": "A"}, 0.0),
    Example("Not A, B", _FOUR, 0.0),
    Example("Not A, B", _FOUR, 1.0, {"several": "last"}),
    Example("Not A, B", _FOUR, 0.0, {"several": "first"}),
    Example("III", _THIRD, 1.0),
    Example("C", _THIRD, 0.0),
    Example("3", _THIRD, 0.0),
    Example("I", _THIRD, 0.0),
    Example("IV", _THIRD, 0.0),
    Example("IV", _THIRD, 1.0, {"measure": "label"}),
    Example("IV", _THIRD, 0.0, {"measure": "content"}),
    Example("C", _THIRD, 1.0, {"measure": "content"}),
    Example("C", _THIRD, 0.0, {"measure": "label"}),
    Example("C, A", _SET, 1.0),
    Example("C, A", _SET, 0.0, {"ordered": True}),
    Example("AC", _SET, 1.0),
    Example("A", _SET, 0.0),
    Example(" ", _FOUR, None, status=Status.NO_ANSWER),
    Example("B", {"answer": ""}, None, status=Status.REFERENCE_UNPARSEABLE),
    Example("B", {"answer": "E", "options": ["w", "x"]}, None, status=Status.REFERENCE_UNPARSEABLE),
)  # fmt: skip


@verifier(
    "mcq",
    sources=("rewardhub.verifiers.options", "rewardhub.verifiers.tags"),
    examples=_EXAMPLES,
)
def mcq(
    response: Response,
    reference: Json,
    *,
    label_style: Style = "auto",
    accept_text: bool = True,
    several: Several = "wrong",
    ordered: bool = False,
    measure: Measure = "choice",
) -> Score:
    """1.0 where the response chooses what ``reference.answer`` names, else 0.0 with the reason.

    Reference: ``answer`` (a label, an option's text, or several as a list or "A, C") and optionally
    ``options`` (texts in order, or an object from label to text). The choice is read from the answer
    tag, the ``\\boxed{}``, what stands behind the last "answer is", or the whole text. It is a label of
    its own, an option's exact text (case and outer punctuation ignored), the label or list of labels
    that a stated answer begins with, else the whole-word capital labels in it ("A" and "I" in front of
    a small letter are words). A label in front of another option's text is wrong. ``label_style`` is
    the form that is accepted (``auto``: the form of the reference); another form, and with
    ``accept_text=False`` a text, earns ``content_ok`` but no value. ``several`` labels where one is
    expected are wrong ("Not A, B" too) unless the first or the last is to count.
    Several expected ones must be the same set, with ``ordered`` the same sequence. ``measure`` asks for
    less: ``label``, whether the answer has the accepted form, or ``content``, whether it means the right
    option in whatever form (the two numbers of Atomic Instruction Gap).
    Details: ``label_ok``, ``content_ok``, ``chosen``.
    """
    question = question_of(reference, label_style)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    choice = _read(response.text, question)
    if len(question.answer) == 1 and len(choice.indices) > 1 and several != "wrong":
        choice = Choice((choice.indices[0 if several == "first" else -1],), choice.labelled)
    same = sorted(set(choice.indices)) == sorted(question.answer)
    content_ok = choice.indices == question.answer if ordered else same
    accepted = choice.labelled or (choice.by_text and accept_text)
    reason = choice.reason or ("" if content_ok and accepted else _why(choice, content_ok))
    details: dict[str, Any] = {
        "label_ok": choice.labelled, "content_ok": content_ok,
        "chosen": [question.labels[index] for index in choice.indices],
    }  # fmt: skip
    value = {"choice": content_ok and accepted, "label": choice.labelled, "content": content_ok}[measure]
    return Score(float(value), details=details | ({"reason": reason} if reason else {}))


@dataclass(frozen=True, slots=True)
class Choice:
    """Indices of the chosen options; by a label of the accepted style, or by an option's text."""

    indices: tuple[int, ...]
    labelled: bool = False
    by_text: bool = False
    reason: str = ""


def _why(choice: Choice, content_ok: bool) -> str:
    if not choice.indices:
        return "no option is named"
    if content_ok:
        return "not in the requested form"
    return "another choice" if len(choice.indices) == 1 else "several options are named"


def _read(text: str, question: Question) -> Choice:
    """The choice that a response states, or else mentions, after its closed thoughts."""
    text = said(text)
    stated = stated_answer(text)
    if _denied(stated or ""):
        return Choice((), reason="the named option is denied")
    if stated is not None:
        return _choose(_unwrapped(stated)[:_LONGEST], question, stated=True)
    tail = text[-_LONGEST:]
    for match in reversed(list(_PHRASE.finditer(tail))[-_PHRASES:]):
        behind = tail[match.end() : match.end() + _BEHIND]
        if _denied(behind):
            return Choice((), reason="the named option is denied")
        choice = _choose(behind, question, stated=True)
        if choice.indices:
            return choice
    choice = _choose(tail, question, stated=False)
    if len(choice.indices) == 1 and _denied(tail):
        return Choice((), reason="the named option is denied")
    return choice


def _denied(text: str) -> bool:
    """Whether what is said begins by ruling an option out."""
    return text[:40].lstrip(" \t:*_(\"'").lower().startswith(("not ", "isn't ", "isn’t ", "neither "))


def _unwrapped(text: str) -> str:
    """Without a LaTeX text command around it."""
    inner = text.strip().strip("$").strip()
    for command in ("\\text{", "\\mathrm{", "\\textbf{", "\\mathbf{"):
        if inner.startswith(command) and inner.endswith("}"):
            return inner[len(command) : -1]
    return text


def _choose(scope: str, question: Question, *, stated: bool) -> Choice:
    exact, upper = normal(scope), scope.strip(EDGES).upper()
    if upper in question.labels:
        return Choice((question.labels.index(upper),), labelled=True)
    if exact and question.texts.count(exact) == 1:
        return Choice((question.texts.index(exact),), by_text=True)
    if len(question.answer) > 1 and (joined := _joined(upper, question)):
        return Choice(joined, labelled=True)
    if led := _led(scope, question, stated):
        return led
    if named := _named(scope, question.labels):
        return Choice(named, labelled=True)
    return _other_style(scope, question)


def _joined(text: str, question: Question) -> tuple[int, ...]:
    """The letters of "AC", each once."""
    if question.style != "alpha" or not 1 < len(text) == len(set(text)):
        return ()
    known = all(letter in question.labels for letter in text)
    return tuple(question.labels.index(letter) for letter in text) if known else ()


def _led(scope: str, question: Question, stated: bool) -> Choice | None:
    """The choice of a text that begins with a label or a list of them, where that decides.

    It does in a stated answer, whatever is said behind it, and where the option's own text follows.
    """
    indices, rest = _leading(scope, question.labels)
    text = normal(rest)
    if len(indices) == 1 and text in question.texts:
        if question.texts[indices[0]] == text:
            return Choice(indices, labelled=True)
        return Choice(indices, reason="the label and the text name different options")
    if stated and indices and (len(indices) > 1 or len(question.answer) == 1):
        return Choice(indices, labelled=True)
    return None


def _leading(text: str, labels: Sequence[str]) -> tuple[tuple[int, ...], str]:
    """The labels that a text begins with ("B", "(A) or B"), each once, and what comes behind them."""
    found: dict[int, None] = {}
    head = text[:_BEHIND]
    match = _FIRST.match(head)
    if not match or match.group(1).upper() not in labels:
        return (), text
    word, end = match.group(1), match.end()
    if text[end : end + 1] not in (".", ")", ":", "]", "*") and (word not in labels or _is_word(word, text[end:])):
        return (), text
    while match and match.group(1).upper() in labels:
        found[labels.index(match.group(1).upper())] = None
        end = match.end()
        match = _NEXT.match(head, end)
    return tuple(found), text[end:]


def _named(text: str, labels: Sequence[str]) -> tuple[int, ...]:
    """The labels that occur as words of their own, in order, each once."""
    found: dict[int, None] = {}
    for match in _WORD.finditer(text):
        word = match.group()
        marked = _is_marked(text, match.start(), match.end())
        label = word.upper() if marked else word
        if label not in labels:
            continue
        if not marked and _is_word(word, text[match.end() : match.end() + 12]):
            continue
        found[labels.index(label)] = None
    return tuple(found)


def _is_word(label: str, rest: str) -> bool:
    """Whether an "A" or "I" is an article or a pronoun: a small letter follows, not a word that only a
    label can have behind it.
    """
    words = rest[:12].split(maxsplit=1) if rest[:1].isspace() else []
    follower = words[0].strip(",;.") if words else rest[:12]
    return label in ("A", "I") and follower[:1].islower() and follower not in ("and", "or", "nor", "is", "because")


def _is_marked(text: str, start: int, end: int) -> bool:
    """Whether a word stands in brackets or stars, or behind "option"."""
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if (before, after) in {("(", ")"), ("[", "]"), ("*", "*"), ("（", "）")}:
        return True
    return bool(_MARK.search(text[max(0, start - 24) : start]))


def _other_style(scope: str, question: Question) -> Choice:
    """A choice in another form than the accepted one: its content may be right, its label is not."""
    upper = scope.strip(EDGES).upper()
    for style, labels in LABELS.items():
        known = labels[: len(question.labels)]
        if style != question.style and upper in known:
            return Choice((known.index(upper),))
    return Choice(())
