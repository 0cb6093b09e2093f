"""Repositories that share a model type write turns each by its own chat template: the ids are transformers' own."""

from dataclasses import replace
from importlib.resources import files

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rewardhub.errors import ConfigError, InvalidInput
from rewardhub.models import Card, load
from rewardhub.models.inputs import Encoder
from rewardhub.models.tiny import tiny_tokenizer
from rewardhub.types import Group, Response, Status
from tests.models import tiny_families

LOOP = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system, rest = messages[0]['content'], messages[1:] %}"
    "{%- else %}{%- set system, rest = '', messages %}{%- endif %}{{- bos_token }}"
    "{%- set users = rest | selectattr('role', 'equalto', 'user') | list %}{%- for message in rest %}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('turns') }}{%- endif %}"
)
LAST = LOOP + (
    """{%- if message["role"] == "user" %}{%- if message == users[-1] and system %}"""
    """{{- "[INST] " + system + "\n\n" + message["content"] + "[/INST]" }}"""
    """{%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}{%- else %}"""
)
V3 = LAST + """{{- " " + message["content"] + eos_token}}{%- endif %}{%- endfor %}"""
MISTRAL = {
    "v0.2 first": (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('turns') }}{% endif %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
        "{{ message['content'] + eos_token}}{% endif %}{% endfor %}"
    ),
    "v0.2": LOOP + (
        """{%- if message["role"] == "user" %}{%- if loop.first and system %}"""
        """{{- " [INST] " + system + "\n\n" + message["content"] + " [/INST]" }}"""
        """{%- else %}{{- " [INST] " + message["content"] + " [/INST]" }}{%- endif %}"""
        """{%- else %}{{- " " + message["content"] + eos_token}}{%- endif %}{%- endfor %}"""
    ),
    "v0.3 first": LAST + """{{- " " + message["content"]|trim + eos_token}}{%- endif %}{%- endfor %}""",
    "v0.3": V3,
    "nemo": V3.replace("[INST] ", "[INST]").replace('" " + ', ""),
}  # fmt: skip
"""What the templates of Mistral's repositories write of conversations without tools."""

SPECIAL = ("<unk>", "<s>", "</s>")
TALKS = {
    "plain": [{"role": "user", "content": "What colour?"}],
    "turns": [
        {"role": "user", "content": " (one)\n\nred"}, {"role": "assistant", "content": " red  "},
        {"role": "user", "content": "why?\n"},
    ],
}  # fmt: skip
SYSTEM = {"role": "system", "content": " Be brief. \n"}
ANSWERS = ("red", " red ", "(red)", "", "\n\nred ]", "red  red")


def pieces(form, controls):
    """SentencePiece BPE as converted: with the space in front of each text, of the first alone, or a byte-level one."""
    letters = [chr(code) for code in range(33, 127)]
    merges = [("▁", "▁"), ("▁", "["), ("r", "e"), ("re", "d"), ("]", "("), ("]", "red"), ("▁", "red")]
    words = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters, *map("".join, merges)]
    if form == "bytes":
        found = tiny_tokenizer()
    else:
        vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
        found = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    if form == "legacy":
        found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif form == "first":
        found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    found.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in (*SPECIAL, *controls)])
    return found


def folder(path, kind, template, tokenizer=None):
    """A checkpoint with this chat template, and the same tokenizer in transformers."""
    tiny_families.build(kind, path)
    if tokenizer is not None:
        tokenizer.save(str(path / "tokenizer.json"))
    (path / "chat_template.jinja").write_text(template)
    begin, end = {
        "mistral": ("<s>", "</s>"),
        "mixtral": ("<s>", "</s>"),
        "llama": ("<|begin_of_text|>", "<|eot_id|>"),
    }.get(kind, ("<bos>", "<eos>"))
    own = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"), bos_token=begin, eos_token=end)
    own.chat_template = template
    return own


def same(path, own, *, systems=True, **more):
    """Each conversation has the ids of transformers' own template, with its answer and up to it."""
    encoder = Encoder(path)
    for prompt in ([*head, *talk] for talk in TALKS.values() for head in ([], [SYSTEM])[: 1 + systems]):
        for answer in ANSWERS:
            said = [*prompt, {"role": "assistant", "content": answer}]
            wanted = own.apply_chat_template(said, tokenize=True, return_dict=False, **more)
            assert encoder.encode(prompt, (), Response(answer)).ids.tolist() == wanted
        ask = {"tokenize": True, "return_dict": False, "add_generation_prompt": True}
        assert encoder.encode(prompt).ids.tolist() == own.apply_chat_template(prompt, **ask, **more)
    return encoder


@pytest.mark.parametrize("name", ["llama3", "llama3_1", "llama3_2"])
def test_llama(tmp_path, name):
    """Llama 3.1 and 3.2 say their dates before every system message, 3.0 none; 3.2's are the fixed ones of 3.1."""
    own = folder(tmp_path / "m", "llama", files("trl").joinpath(f"chat_templates/{name}.jinja").read_text("utf-8"))
    encoder = same(tmp_path / "m", own, date_string="26 Jul 2024")
    # What a card says of a prompt without one is what the prompt itself might have said.
    talk, strict = TALKS["plain"], {"role": "system", "content": "Be strict."}
    wanted = encoder.encode([strict, *talk]).ids.tolist()
    dates = "" if name == "llama3" else "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    for system in ("Be strict.", f"{dates}Be strict."):
        assert Encoder(tmp_path / "m", system=system).encode(talk).ids.tolist() == wanted
    # What tools answer.
    turns = [{"role": "assistant", "content": "Hm."}, {"role": "tool", "content": ' "3"\n'}, *TALKS["turns"][1:2]]
    said = own.apply_chat_template([*talk, *turns], tokenize=True, return_dict=False, date_string="26 Jul 2024")
    assert encoder.encode(talk, (), Response(messages=tuple(turns))).ids.tolist() == said


@pytest.mark.parametrize("kind", ["gemma", "gemma2"])
def test_gemma(tmp_path, kind):
    """Gemma and Gemma 2 have no system message: a prompt that brings one is refused, a card's is in the user's text."""
    path = tmp_path / "m"
    own = folder(path, kind, files("trl").joinpath("chat_templates/gemma.jinja").read_text("utf-8"))
    encoder = same(path, own, systems=False)
    with pytest.raises(InvalidInput, match="no system message"):
        encoder.encode([SYSTEM, *TALKS["plain"]])
    told = [{"role": "user", "content": "Be strict.\n\nWhat colour?"}]
    assert Encoder(path, system="Be strict.").encode(TALKS["plain"]).ids.tolist() == encoder.encode(told).ids.tolist()
    group = Group("0", [SYSTEM, *TALKS["plain"]], (Response("red"),))
    column = load(Card(name="m", kind="scalar", path=path)).score([group, replace(group, prompt=TALKS["plain"])])
    assert [each.statuses[0] for each in column] == [Status.INVALID_INPUT, Status.OK]


@pytest.mark.parametrize("form", ["bytes", "legacy", "first"])
@pytest.mark.parametrize("name", MISTRAL)
def test_mistral(tmp_path, name, form):
    """[INST] as a token or as text, a space in front of texts, an answer that would be a piece with the tag before it."""
    controls = () if "v0.2" in name else ("[INST]", "[/INST]")
    own = folder(tmp_path / "m", "mistral", MISTRAL[name], pieces(form, controls))
    encoder = same(tmp_path / "m", own, systems=name != "v0.2 first")
    turns = [{"role": "assistant", "content": "red"}, *TALKS["turns"]]
    wanted = own.apply_chat_template([*TALKS["plain"], *turns, turns[0]], tokenize=True, return_dict=False)
    said = encoder.encode(TALKS["plain"], (), Response(messages=(*turns, turns[0])))
    assert said.ids.tolist() == wanted
    if name == "v0.2 first":
        with pytest.raises(InvalidInput, match="no system message"):
            encoder.encode([SYSTEM, *TALKS["plain"]])
    for prompt in ([], turns[:1], [*TALKS["plain"]] * 2, [*TALKS["plain"], turns[0]]):
        with pytest.raises(InvalidInput, match="take turns"):
            encoder.encode(prompt)
    tool = {"role": "tool", "content": "3"}
    for wrong in (turns[1:], turns[:1] * 2, turns[:2], (*turns[:1], tool)):
        with pytest.raises(InvalidInput, match="take turns|no turn of a tool"):
            encoder.answer(Response(messages=tuple(wrong)))
    with pytest.raises(InvalidInput, match="calls of tools"):
        encoder.answer(Response(messages=({**turns[0], "tool_calls": [{"name": "x"}]},)))
    # Tags that are tokens are no text; those that are text are.
    for token in ("<s>", "</s>", *controls):
        spelt = encoder.answer(Response(f"red{token}red")).ids.tolist()
        index = encoder.tokenizer.control(token)
        assert spelt.count(index) == encoder.answer(Response("red")).ids.tolist().count(index)


def test_a_template_that_is_not_known_is_refused(tmp_path):
    """A Mistral with turns of its own would be scored on texts that it never saw; Llama's are Llama 3.1's then."""
    folder(tmp_path / "m", "mistral", "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}")
    with pytest.raises(ConfigError, match="not known"):
        load(Card(name="m", kind="scalar", path=tmp_path / "m"))
    (tmp_path / "m" / "chat_template.jinja").unlink()
    assert load(Card(name="m", kind="scalar", path=tmp_path / "m")).fingerprint


@pytest.mark.parametrize("name", ["v0.2", "v0.3"])
def test_prompts_that_are_cut(tmp_path, name):
    """The oldest turns go in pairs: what is left begins with a user's, whatever was left out."""
    path = tmp_path / "m"
    tiny_families.build("mistral", path, begun=() if name == "v0.2" else ("[INST]", "[/INST]"))
    (path / "chat_template.jinja").write_text(MISTRAL[name])
    tiny = {"name": "m", "kind": "scalar", "path": path, "max_tokens": 60, "truncation": "left"}
    turns = [{"role": role, "content": f"{n} " * 9} for n in range(1, 4) for role in ("user", "assistant")]
    model = load(Card(**tiny))
    for system in ([], [SYSTEM]):
        group = Group(
            "0", [*system, *turns, {"role": "user", "content": "So?"}], tuple(map(Response, ("red", "red " * 9)))
        )
        column = model.score([group])[0]
        assert column.statuses == [Status.OK] * 2
        shown = [model.encoder.tokenizer.decode(row.encoded.ids, skip_controls=False) for row in model.rows(group)]
        assert all(0 < each.count("[INST]") == each.count("[/INST]") < 4 for each in shown)
        assert ["Be brief" in each for each in shown] == [bool(system)] * 2
