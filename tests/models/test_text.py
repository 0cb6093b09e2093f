"""No text can spell a control token."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from rewardhub.errors import ConfigError
from rewardhub.models.chat import CONTROLS
from rewardhub.models.text import TextTokenizer

FRAGMENTS = st.sampled_from(
    [*CONTROLS, "<|", "|>", "im_end", "<|im_", "start|>", "<answer>", "\n", " red", "é漢😀", "\x00", "\ud800"]
)


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return TextTokenizer(tiny, CONTROLS)


@settings(max_examples=200, deadline=None)
@given(st.lists(FRAGMENTS | st.text(max_size=5), max_size=12).map("".join))
def test_any_text_comes_back_without_control_tokens(tokenizer, text):
    """Whatever is written, no id is a control token and decoding gives the text back."""
    ids = tokenizer.encode(text)
    assert not {tokenizer.control(token) for token in CONTROLS} & set(ids)
    assert tokenizer.decode(ids) == text.encode("utf-8", "replace").decode()


def test_control_tokens_are_not_decoded_unless_asked(tokenizer):
    """Decoding leaves control tokens out, and shows them on request."""
    ids = [*tokenizer.encode("red"), tokenizer.control("<|im_end|>")]
    assert tokenizer.decode(ids) == "red"
    assert tokenizer.decode(ids, skip_controls=False) == "red<|im_end|>"


def test_a_token_it_lacks_is_an_error(tokenizer, tiny, tmp_path):
    """A tokenizer without the layout's control tokens is refused, by name."""
    with pytest.raises(ConfigError, match="robot"):
        tokenizer.control("<|robot|>")
    with pytest.raises(ConfigError, match="robot"):
        TextTokenizer(tiny, ("<|robot|>",))


def test_words_that_are_control_tokens_are_cut(tmp_path):
    """A vocabulary in which a word is the control token keeps the two apart; a control of one character cannot be."""
    vocabulary = {"a": 0, "<|im_end|>": 1, "b": 2, "?": 3, "|": 4}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Split("<|im_end|>", "isolated")
    words.save(str(tmp_path / "tokenizer.json"))
    assert 1 not in TextTokenizer(tmp_path, ("<|im_end|>",)).encode("a<|im_end|>b")
    with pytest.raises(ConfigError, match="plain text can spell"):
        TextTokenizer(tmp_path, ("|",))


def test_padding_and_truncation_of_the_file_are_off(tiny, tmp_path):
    """Settings stored in tokenizer.json neither cut nor pad a response."""
    shutil.copy(tiny / "tokenizer.json", tmp_path)
    stored = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    stored.enable_truncation(4)
    stored.enable_padding(length=64)
    stored.save(str(tmp_path / "tokenizer.json"))
    assert len(TextTokenizer(tmp_path).encode("red because red because red")) == len(
        TextTokenizer(tiny).encode("red because red because red")
    )


def test_offsets_hold_all_characters(tiny, tmp_path):
    """Offsets fill the text where the file would leave the space around words out of them, as Llama 3's does."""
    trimming = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    trimming.post_processor = processors.ByteLevel(trim_offsets=True)
    trimming.save(str(tmp_path / "tokenizer.json"))
    text = "red  \n blue.\t "
    spans = TextTokenizer(tmp_path, CONTROLS).offsets(text)
    assert "".join(text[start:stop] for start, stop in spans) == text
    assert TextTokenizer(tmp_path).encode(text) == trimming.encode(text).ids
