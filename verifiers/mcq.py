"""``mcq``: multiple-choice answers by label or by the option's text."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import re2

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.tags import stated_answer

Style = Literal["auto", "alpha", "numeric", "roman"]
Several = Literal["wrong", "first", "last"]

MAX_OPTIONS = 26
_LETTERS = tuple(string.ascii_uppercase)
_NUMERALS = tuple(str(number) for number in range(1, MAX_OPTIONS + 1))
_ROMANS = (
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI",
    "XVII", "XVIII", "XIX", "XX", "XXI", "XXII", "XXIII", "XXIV", "XXV", "XXVI",
)  # fmt: skip
_LABELS = {"alpha": _LETTERS, "numeric": _NUMERALS, "roman": _ROMANS}

_PHRASE = re2.compile(r"(?i)\b(?:answer|option|choice)s?(?:\s+is|\s+are)?\s*[:：]?|答案(?:是|为)?\s*[:：]?")
_EDGES = " \t\r\n()[]{}<>.,:;!?\"'*_`$（）。，：；、"
_WORD = re2.compile(r"[A-Za-z0-9]+")
_LEAD = re2.compile(r"^[\s(\[{<\"'*_]*([A-Za-z0-9]+)[\s)\]}>\"'*_]*[.):：、]\s*(\S.*)$")
_JOINED = re2.compile(r"^[A-Z]{2,26}$")
_AFTER_WORD = re2.compile(r"(?i)\b(?:answer|option|choice|label|select|choose|pick)s?(?:\s+is)?\s*[:：]?\s*[(*\"']*$")
_TEXT_LIMIT = 20_000
"""Only so many last characters of an unmarked answer are searched for labels."""

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
    libraries=("google-re2",),
    sources=("rewardhub.verifiers.tags",),
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
) -> Score:
    """1.0 where the response chooses what ``reference.answer`` names, else 0.0 with the reason.

    Reference: ``answer`` (a label, an option's text, or several as a list or "A, C") and optionally
    ``options`` (texts in order, or an object from label to text). The choice is read from the answer
    tag, the ``\\boxed{}``, the text behind the last "answer is", or the whole text: a label of its own,
    a label in front of text, an option's exact text (case and outer punctuation ignored), else the
    whole-word capital labels in it ("A" and "I" in front of a small letter are words). A label whose
    text is another option's is wrong. ``label_style`` is the form that is accepted (``auto``: the form
    of the reference); another form, and with ``accept_text=False`` a text, earns ``content_ok`` but no
    value. ``several`` labels where one is expected are wrong unless the first or last is to count.
    Several expected ones must be the same set, with ``ordered`` the same sequence.
    Details: ``label_ok``, ``content_ok``, ``chosen``.
    """
    question = _question(reference, label_style)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    choice = _choose(_scope(response.text), question)
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
    return Score(float(content_ok and accepted), details=details | ({"reason": reason} if reason else {}))


@dataclass(frozen=True, slots=True)
class Question:
    """Labels in the accepted style, option texts (normalised, maybe none), indices of the answer."""

    style: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    answer: tuple[int, ...]


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


def _scope(text: str) -> str:
    """The part of a response that states its choice."""
    text = text.encode("utf-8", "replace").decode()
    stated = stated_answer(text)
    if stated is not None:
        return _unwrapped(stated)
    tail = text[-_TEXT_LIMIT:]
    behind = [tail[match.end() :] for match in list(_PHRASE.finditer(tail))[-1:]]
    return behind[0] if behind and behind[0].strip(_EDGES) else tail


def _unwrapped(text: str) -> str:
    """Without a LaTeX text command around it."""
    inner = text.strip().strip("$").strip()
    for command in ("\\text{", "\\mathrm{", "\\textbf{", "\\mathbf{"):
        if inner.startswith(command) and inner.endswith("}"):
            return inner[len(command) : -1]
    return text


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_EDGES)


def _choose(scope: str, question: Question) -> Choice:
    exact = _normal(scope)
    upper = scope.strip(_EDGES).upper()
    if upper in question.labels:
        return Choice((question.labels.index(upper),), labelled=True)
    if exact and question.texts.count(exact) == 1:
        return Choice((question.texts.index(exact),), by_text=True)
    if len(question.answer) > 1 and (joined := _joined(upper, question)):
        return Choice(joined, labelled=True)
    lead = _LEAD.match(scope.strip())
    if lead and lead.group(1).upper() in question.labels:
        return _led(question.labels.index(lead.group(1).upper()), lead.group(2), question)
    if named := _named(scope, question.labels):
        return Choice(named, labelled=True)
    return _other_style(scope, question)


def _joined(text: str, question: Question) -> tuple[int, ...]:
    """The letters of "AC", each once."""
    if question.style != "alpha" or not _JOINED.match(text) or len(set(text)) < len(text):
        return ()
    known = all(letter in question.labels for letter in text)
    return tuple(question.labels.index(letter) for letter in text) if known else ()


def _led(index: int, rest: str, question: Question) -> Choice:
    """A label in front of text: its own option's, or none of the options'."""
    text = _normal(rest)
    if text in question.texts and question.texts[index] != text:
        return Choice((index,), reason="the label and the text name different options")
    others = tuple(other for other in _named(rest, question.labels) if other != index)
    if text in question.texts or not others:
        return Choice((index,), labelled=True)
    return Choice((index, *others), labelled=True)


def _named(text: str, labels: Sequence[str]) -> tuple[int, ...]:
    """The labels that occur as words of their own, in order, each once."""
    found: dict[int, None] = {}
    for match in _WORD.finditer(text):
        word = match.group()
        marked = _is_marked(text, match.start(), match.end())
        label = word.upper() if marked else word
        if label not in labels:
            continue
        if word in ("A", "I") and not marked and _is_word(text[match.end() : match.end() + 12]):
            continue
        found[labels.index(label)] = None
    return tuple(found)


def _is_word(rest: str) -> bool:
    """Whether an "A" or "I" in front of this is an article or a pronoun: a small letter follows, not a
    word that only a label can have behind it.
    """
    follower = rest.split(maxsplit=1)[0] if rest[:1] in (" ", "\t") and rest.strip() else rest
    return follower[:1].islower() and follower.strip(",;") not in ("and", "or", "nor", "is")


def _is_marked(text: str, start: int, end: int) -> bool:
    """Whether a word stands in brackets or stars, or behind "option"."""
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if (before, after) in {("(", ")"), ("[", "]"), ("*", "*"), ("（", "）")}:
        return True
    return bool(_AFTER_WORD.search(text[max(0, start - 24) : start]))


def _other_style(scope: str, question: Question) -> Choice:
    """A choice in another form than the accepted one: its content may be right, its label is not."""
    upper = scope.strip(_EDGES).upper()
    for style, labels in _LABELS.items():
        known = labels[: len(question.labels)]
        if style != question.style and upper in known:
            return Choice((known.index(upper),))
    return Choice(())


def _question(reference: Json, style: Style) -> Question:
    names, texts = _options(reference.get("options"))
    items = _answer_items(reference.get("answer"))
    chosen = _style_of(items, style, texts)
    labels = _LABELS[chosen][: len(texts) or MAX_OPTIONS]
    indices = [_answer_index(item, labels, names, texts) for item in items]
    if None in indices and len(items) == 1 and chosen == "alpha":
        compact = items[0].upper()
        if _JOINED.match(compact) and len(set(compact)) == len(compact) and set(compact) <= set(labels):
            indices = [labels.index(letter) for letter in compact]
    answer = tuple(index for index in indices if index is not None)
    if len(answer) < len(indices) or len(set(answer)) < len(answer):
        raise ReferenceUnparseable(f"reference.answer {str(items)[:80]} names no option", field="reference.answer")
    return Question(chosen, labels, texts, answer)


def _options(options: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The caller's own labels (of an object) and the normalised texts."""
    if options is None:
        return (), ()
    named = isinstance(options, Mapping)
    texts = list(options.values()) if named else options
    if not isinstance(texts, list | tuple) or not 1 < len(texts) <= MAX_OPTIONS:
        reason = f"reference.options must be 2 to {MAX_OPTIONS} texts"
        raise ReferenceUnparseable(reason, field="reference.options")
    if not all(isinstance(text, str | int | float) for text in texts):
        raise ReferenceUnparseable("reference.options must be texts", field="reference.options")
    names = tuple(str(name).strip(_EDGES).upper() for name in options) if named else ()
    return names, tuple(_normal(str(text)) for text in texts)


def _answer_items(answer: Any) -> list[str]:
    items = answer if isinstance(answer, list | tuple) else [answer]
    if not items or not all(isinstance(item, str | int) and not isinstance(item, bool) for item in items):
        raise ReferenceUnparseable("reference.answer must be a label or a text", field="reference.answer")
    if len(items) == 1:
        parts = str(items[0]).replace(" and ", ",").split(",")
        if len(parts) > 1 and all(_known_label(part.strip(_EDGES).upper()) for part in parts):
            items = parts
    return [str(item).strip() for item in items]


def _known_label(text: str) -> bool:
    return any(text in labels for labels in _LABELS.values())


def _style_of(items: Sequence[str], style: Style, texts: Sequence[str]) -> str:
    if style != "auto":
        return style
    bare = [item.strip(_EDGES).upper() for item in items]
    if all(_normal(item) in texts for item in items):
        return "alpha"
    for name in ("alpha", "numeric", "roman"):
        if all(item in _LABELS[name][: len(texts) or MAX_OPTIONS] for item in bare):
            return name
    return "alpha"


def _answer_index(item: str, labels: Sequence[str], names: Sequence[str], texts: Sequence[str]) -> int | None:
    """The option that the reference means: its label in any style, its own label, or its text."""
    bare = item.strip(_EDGES).upper()
    for known in (names, labels):
        if bare in known:
            return list(known).index(bare)
    if texts.count(_normal(item)) == 1:
        return list(texts).index(_normal(item))
    for others in _LABELS.values():
        if bare in others[: len(labels)]:
            return others.index(bare)
    lead = _LEAD.match(item)
    if lead and lead.group(1).upper() in labels:
        return list(labels).index(lead.group(1).upper())
    return None
