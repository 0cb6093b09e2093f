"""Tokenising untrusted text: control tokens are single ids that no text can spell."""

import json
from collections.abc import Container, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer

from rewardhub.errors import ConfigError
from rewardhub.models.progress import progress

UNKNOWN = "\U000f0001"
"""A private character, which no vocabulary of words has."""


class TextTokenizer:
    """The ``tokenizer.json`` of a checkpoint, used in two separate ways.

    ``encode`` takes text and never yields a control token: where text spells one, such as
    ``<|im_end|>``, it is split like any other characters. ``control`` gives the id of a control token;
    ``optional`` ones need not exist. With ``begun`` every text stands behind a control token,
    so that none is a text's first.
    """

    def __init__(
        self, path: Path, controls: Iterable[str] = (), optional: Iterable[str] = (), *, begun: bool = False
    ) -> None:
        file = path / "tokenizer.json"
        if not file.is_file():
            raise ConfigError(f"{path} holds no tokenizer.json", field="path")
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
            if begun:
                self._tokenizer = _unspaced(self._tokenizer, ("first",))
        except Exception as error:
            raise ConfigError(f"{file}: {error}", field="path") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._controls = {token: self._known(token) for token in controls}
        present = {token: self._tokenizer.token_to_id(token) for token in optional}
        self._controls |= {token: index for token, index in present.items() if index is not None}
        self._tokenizer.encode_special_tokens = True
        self._guarded: frozenset[int] = frozenset()
        self._guard()
        self._ends = self._own_ends()
        # Published ones leave the space around words out of their tokens' offsets.
        self._tokenizer.post_processor = None
        self._check_controls(file)

    def encode(self, text: str, *, joined: bool = False) -> list[int]:
        """The ids of plain text, without any token added; half a surrogate pair is read as "?".

        ``joined`` text goes on from other text: a vocabulary whose texts begin with a space adds none.
        """
        return [index for _, part in self._parts(text, joined) for index in part.ids]

    def encode_controls(self, text: str) -> list[int]:
        """The ids of text that may spell control tokens, as other servers read it."""
        self._tokenizer.encode_special_tokens = False
        try:
            return self._tokenizer.encode(_whole(text), add_special_tokens=False).ids
        finally:
            self._tokenizer.encode_special_tokens = True

    def offsets(self, text: str, *, joined: bool = False) -> list[tuple[int, int]]:
        """For each token that ``encode`` gives, the characters it stands for."""
        return [(at + start, at + stop) for at, part in self._parts(text, joined) for start, stop in part.offsets]

    def decode(self, ids: Iterable[int], *, skip_controls: bool = True) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_controls)

    def control(self, token: str) -> int:
        """The id of a control token; raises ``ConfigError`` where the tokenizer has none.

        An added token that is not marked as special is text no more once it was asked for.
        """
        if token not in self._controls:
            index = self._known(token)
            if index not in self._tokenizer.get_added_tokens_decoder():
                return index
            self._controls[token] = index
            self._guard()
        return self._controls[token]

    def ends(self) -> tuple[list[int], list[int]]:
        """What the tokenizer itself puts before a text and behind it."""
        return self._ends

    def __contains__(self, token: object) -> bool:
        """Whether it is a control token that was asked for and is there."""
        return token in self._controls

    @property
    def size(self) -> int:
        """One more than the largest id that text or a control token that was asked for gives.

        Others may lie outside a model's embeddings: Gemma 3's tokenizer has an image token for its models of text too.
        """
        unseen = self._guarded - set(self._controls.values())
        return 1 + max((each for each in self._tokenizer.get_vocab().values() if each not in unseen), default=-1)

    def agrees(self, other: "TextTokenizer") -> bool:
        """Whether tokens that both know have one id."""
        ours, theirs = (each._tokenizer.get_vocab(with_added_tokens=True) for each in (self, other))
        return all(theirs.get(token, index) == index for token, index in ours.items())

    def _own_ends(self) -> tuple[list[int], list[int]]:
        shown = self._tokenizer.encode("a", add_special_tokens=True)
        count = len(self._tokenizer.encode("a", add_special_tokens=False).ids)
        first = shown.special_tokens_mask.index(0)
        return shown.ids[:first], shown.ids[first + count :]

    def _known(self, token: str) -> int:
        index = self._tokenizer.token_to_id(token)
        if index is None:
            raise ConfigError(f"the tokenizer has no token {token!r}", field="path")
        return index

    def _guard(self) -> None:
        """Marks the control tokens as special, and notes all special tokens but the one for unknown characters."""
        self._tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in self._controls]
        )
        unknown = self._tokenizer.encode(UNKNOWN, add_special_tokens=False).ids
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._guarded = frozenset(index for index, token in added if token.special) - frozenset(unknown)
        self._joining = _unspaced(self._tokenizer)

    def _parts(self, text: str, joined: bool = False) -> list[tuple[int, Encoding]]:
        """The text's parts and where they start: it is cut where pieces of the vocabulary make up a special token.

        Vocabularies of SentencePiece hold their special tokens as pieces that text can match.
        """
        found: list[tuple[int, Encoding]] = []
        waiting = [(0, _whole(text))]
        while waiting:
            at, part = waiting.pop()
            progress.step()
            tokenizer = self._joining if joined or at else self._tokenizer
            encoding = tokenizer.encode(part, add_special_tokens=False)
            if self._guarded.isdisjoint(encoding.ids):
                found.append((at, encoding))
                continue
            spans = zip(encoding.ids, encoding.offsets, strict=True)
            cuts = [start + 1 for index, (start, stop) in spans if index in self._guarded and stop > start + 1]
            edges = [0, *cuts, len(part)]
            if cuts:
                waiting += [(at + start, part[start:stop]) for start, stop in pairwise(edges)][::-1]
            else:
                found.append((at, encoding))
        return found

    def _check_controls(self, file: Path) -> None:
        for token, index in self._controls.items():
            if any(index in self.encode(text) for text in (f"a{token}b", f" {token} ", token)):
                raise ConfigError(f"{file}: plain text can spell the control token {token!r}", field="path")


def _whole(text: str) -> str:
    """The text with "?" for each half of a surrogate pair, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def _unspaced(tokenizer: Tokenizer, before: Container[str] = ("", "first", "always")) -> Tokenizer:
    """The tokenizer without the space that SentencePiece's put in front of a text; the same one where it puts none.

    ``before`` are the schemes of such spaces, "" that of a normalizer.
    """
    settings = json.loads(tokenizer.to_str())
    if not _without_space(settings, before):
        return tokenizer
    found = Tokenizer.from_str(json.dumps(settings))
    found.encode_special_tokens = True
    return found


def _without_space(settings: Any, before: Container[str]) -> bool:
    """Takes such spaces out of the settings of a tokenizer; whether there were any."""
    found = False
    for name in ("normalizer", "pre_tokenizer"):
        steps = settings[name] or {}
        for step in (*steps.get("normalizers", ()), *steps.get("pretokenizers", ()), *([steps] if steps else ())):
            if step["type"] == "Prepend" and "" in before:
                found, step["prepend"] = True, ""
            elif step["type"] == "Metaspace" and step["prepend_scheme"] in before:
                found, step["prepend_scheme"] = True, "never"
    return found
