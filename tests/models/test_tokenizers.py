"""Tokenizers of the kinds that families publish: no text spells a special token, whatever its vocabulary holds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from rewardhub.models.families import FAMILIES
from rewardhub.models.text import TextTokenizer
from rewardhub.models.tiny import tiny_tokenizer

LETTERS = [chr(code) for code in range(33, 127)]
SPECIAL = {
    "gemma": ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>"),
    "xlm_roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "clip": ("<|startoftext|>", "<|endoftext|>"),
    "words": ("<|im_end|>", "<|im_start|>"),
}


def special(tokenizer: Tokenizer, tokens: tuple[str, ...]) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return tokenizer


def numbered(*pieces: str) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def gemma() -> Tokenizer:
    """SentencePiece BPE as converted: spaces are a letter, bytes for the rest, special tokens in the vocabulary."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = numbered(*SPECIAL["gemma"], *bytes_, "\n\n", "\n", "▁", *LETTERS, "re", "red", "▁red")
    merges = [("r", "e"), ("re", "d"), ("▁", "red")]
    found = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    found.normalizer = normalizers.Replace(" ", "▁")
    found.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    found.add_tokens([AddedToken("\n\n", special=False, normalized=False)])
    return special(found, SPECIAL["gemma"])


def llama3() -> Tokenizer:
    """Byte-level BPE that looks whole words up before it merges, special tokens in its vocabulary too."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = numbered(*sorted(alphabet), "re", "red", *SPECIAL["llama3"])
    found = Tokenizer(models.BPE(vocabulary, [("r", "e"), ("re", "d")], ignore_merges=True))
    words = Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+|<\|\w+\|>")
    split = pre_tokenizers.Split(words, "isolated")
    found.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    found.decoder = decoders.ByteLevel()
    return special(found, SPECIAL["llama3"])


def xlm_roberta() -> Tokenizer:
    """SentencePiece Unigram: special tokens are the likeliest pieces of all, compatible letters are made one."""
    pieces = [(token, 0.0) for token in SPECIAL["xlm_roberta"]]
    pieces += [("▁", -2.0), ("▁red", -3.0), *((letter, -6.0) for letter in LETTERS)]
    found = Tokenizer(models.Unigram(pieces, unk_id=3))
    found.normalizer = normalizers.NFKC()
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    return special(found, SPECIAL["xlm_roberta"])


def bert() -> Tokenizer:
    """WordPiece over lower-case words; its special tokens hold brackets, which are words of their own."""
    pieces = [*(f"##{letter}" for letter in LETTERS), *LETTERS, "red", "##red"]
    found = Tokenizer(models.WordPiece(numbered(*SPECIAL["bert"], *pieces), unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer()
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return special(found, SPECIAL["bert"])


def clip() -> Tokenizer:
    """BPE with ends of words, whose pattern of words names the special tokens; the last one is its unknown token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = numbered(*alphabet, *(f"{letter}</w>" for letter in alphabet), *SPECIAL["clip"])
    found = Tokenizer(models.BPE(vocabulary, [], unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    found.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"<\|startoftext\|>|<\|endoftext\|>|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    split = pre_tokenizers.Split(words, "removed", invert=True)
    found.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False)])
    return special(found, SPECIAL["clip"])


def words() -> Tokenizer:
    """Whole words, its special tokens among them."""
    found = Tokenizer(models.WordLevel(numbered("?", *SPECIAL["words"], "red", *LETTERS), unk_token="?"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return special(found, SPECIAL["words"])


def of_family(kind: str) -> Tokenizer:
    """Byte-level BPE with a family's control tokens, and a tag that is an added token but not special."""
    found = tiny_tokenizer()
    found.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return special(found, FAMILIES[kind].tokens)


MAKERS = {"gemma": gemma, "llama3": llama3, "xlm_roberta": xlm_roberta, "bert": bert, "clip": clip, "words": words}


@pytest.fixture(scope="module", params=[*MAKERS, *sorted(FAMILIES)])
def tokenizer(request, tmp_path_factory):
    """The special tokens with their ids, and the tokenizer as it is read from a checkpoint."""
    path = tmp_path_factory.mktemp("tokenizer")
    own = MAKERS[request.param]() if request.param in MAKERS else of_family(request.param)
    own.save(str(path / "tokenizer.json"))
    tokens = SPECIAL.get(request.param) or FAMILIES[request.param].tokens
    unknown = {"gemma": "<unk>", "xlm_roberta": "<unk>", "bert": "[UNK]"}.get(request.param)
    ids = {token: own.token_to_id(token) for token in tokens if token != unknown}
    controls = () if request.param in SPECIAL else FAMILIES[request.param].tokens
    return ids, TextTokenizer(path, controls)


def wide(text: str) -> str:
    """The text in full-width letters, which NFKC makes the plain ones."""
    return "".join(chr(ord(letter) + 0xFEE0) if 33 <= ord(letter) < 127 else letter for letter in text)


PIECES = st.sampled_from(["red", " ", "\n\n", "<", "</", "s>", "|>", "[", "é漢😀", "\x00", "\ud800", "<think>", "▁"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(parts=st.lists(st.integers(0, 20) | PIECES, max_size=8))
def test_no_text_spells_a_special_token(tokenizer, parts):
    """Whatever is written, special tokens whole, in full width, doubled or cut in two among it."""
    ids, text = tokenizer
    spellings = [form for token in ids for form in (token, wide(token), token[:-1], token * 2)]
    written = "".join(part if isinstance(part, str) else spellings[part % len(spellings)] for part in parts)
    found = text.encode(written)
    assert not set(ids.values()) & set(found)
    spans = text.offsets(written)
    assert len(spans) == len(found)
    assert all(0 <= start <= stop <= len(written) for start, stop in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


def test_each_special_token_alone(tokenizer):
    """Alone, between spaces, between letters, and thousands of them: plain text in linear time."""
    ids, text = tokenizer
    for token, index in ids.items():
        for written in (token, f" {token} ", f"a{token}b", token * 3000, wide(token)):
            found = text.encode(written)
            assert index not in found
            assert found


def test_plain_text_is_as_the_tokenizer_has_it(tokenizer):
    """Text that spells nothing is untouched, added tokens that are not special included."""
    _, text = tokenizer
    own = text._tokenizer
    for written in ("a red square", "red\n\nred", "<think>red", "1 2 3", ""):
        assert text.encode(written) == own.encode(written, add_special_tokens=False).ids
