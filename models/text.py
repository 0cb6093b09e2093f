"""Tokenising untrusted text: control tokens are single ids that no text can spell."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from rewardhub.errors import ConfigError


class TextTokenizer:
    """The ``tokenizer.json`` of a checkpoint, used in two separate ways.

    ``encode`` takes text and never yields a control token: where text spells one, such as
    ``<|im_end|>``, it is split like any other characters. ``control`` gives the id of a control token;
    ``optional`` ones need not exist.
    """

    def __init__(self, path: Path, controls: Iterable[str] = (), optional: Iterable[str] = ()) -> None:
        file = path / "tokenizer.json"
        if not file.is_file():
            raise ConfigError(f"{path} holds no tokenizer.json", field="path")
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:
            raise ConfigError(f"{file}: {error}", field="path") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._controls = {token: self._known(token) for token in controls}
        present = {token: self._tokenizer.token_to_id(token) for token in optional}
        self._controls |= {token: index for token, index in present.items() if index is not None}
        self._tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in self._controls]
        )
        self._tokenizer.encode_special_tokens = True
        self._check_controls(file)

    def encode(self, text: str) -> list[int]:
        """The ids of plain text, without any token added; half a surrogate pair is read as "?"."""
        return self._tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """For each token that ``encode`` gives, the characters it stands for."""
        encoding = self._tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)
        return [(int(start), int(stop)) for start, stop in encoding.offsets]

    def decode(self, ids: Iterable[int], *, skip_controls: bool = True) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_controls)

    def control(self, token: str) -> int:
        """The id of a control token; raises ``ConfigError`` where the tokenizer has none."""
        return self._controls[token] if token in self._controls else self._known(token)

    @property
    def size(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def _known(self, token: str) -> int:
        index = self._tokenizer.token_to_id(token)
        if index is None:
            raise ConfigError(f"the tokenizer has no token {token!r}", field="path")
        return index

    def _check_controls(self, file: Path) -> None:
        for token, index in self._controls.items():
            if index in self.encode(f"a{token}b"):
                raise ConfigError(f"{file}: plain text can spell the control token {token!r}", field="path")
