"""Checkpoints under the tensor names and configurations of published repositories, written here tensor by tensor.

Nothing of ours and no ``save_pretrained`` writes them: a model in memory is renamed to the names that the
repositories use, old ones and new ones, in bf16 and in shards, and the score is a plain forward of that model.
"""

import importlib.util
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
)

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.colours import colour_items
from rewardhub.models.families import FAMILIES
from rewardhub.models.tiny import build_tiny, tiny_tokenizer
from rewardhub.types import Group, Response, Status

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

WIDTH = 64
ITEM = next(colour_items(5))
GROUP = Group("0", ITEM.question, (Response("red"), Response("<answer>blue</answer> because")), media=(ITEM.media,))
ROPE = {"rope_theta": 1_000_000.0, "rope_type": "default", "mrope_section": [2, 3, 3]}
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
}  # fmt: skip
Names = Callable[[str], str]


def renamed(*rules: tuple[str, str]) -> Names:
    """The first rule whose pattern stands at the start of a name is followed."""

    def rename(name: str) -> str:
        for pattern, put in rules:
            if re.match(pattern, name):
                return re.sub(pattern, put, name, count=1)
        return name

    return rename


OLD_QWEN = renamed((r"model\.language_model\.", "model."), (r"model\.visual\.", "visual."))
OLD_LLAVA = renamed(
    (r"model\.language_model\.", "language_model.model."), (r"lm_head\.", "language_model.lm_head."),
    (r"model\.vision_tower\.", "vision_tower.vision_model."), (r"model\.", ""),
)  # fmt: skip
OLD_INTERN = renamed(
    (r"model\.language_model\.", "language_model.model."), (r"lm_head\.", "language_model.lm_head."), (r"model\.", "")
)
SAME = renamed()


def write(path: Path, model: Any, config: dict[str, Any], names: Names, more: dict[str, torch.Tensor]) -> None:
    """Two shards in bf16 with their index, and the configuration; ``more`` stands among the model's tensors."""
    state = {names(name): tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state = {name: tensor for name, tensor in state.items() if not name.endswith("lm_head.weight")}
    state |= more
    index: dict[str, str] = {}
    for number in range(2):
        part = {name: tensor.clone() for name, tensor in list(state.items())[number::2]}
        file = f"model-{number + 1:05}-of-00002.safetensors"
        save_file(part, path / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    size = sum(each.numel() * 2 for each in state.values())
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": index})
    )
    (path / "config.json").write_text(json.dumps(config))


def made(model: Any) -> Any:
    """The model with weights that spread scores, rounded to what a bf16 checkpoint holds."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
            parameter.copy_(parameter.to(torch.bfloat16))
    return model.float().eval()


def qwen(path: Path, kind: str, *, tied: bool = False) -> tuple[Any, dict[str, Any]]:
    """Qwen2-VL or Qwen2.5-VL in memory, and the flat configuration that its repositories hold."""
    build_tiny(path)
    (path / "model.safetensors").unlink()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"),
                            ("vision_end", "vision_end"))
    }  # fmt: skip
    text = TEXT | {"vocab_size": len(tokenizer) + 21}
    if kind == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 4, "hidden_size": WIDTH, "patch_size": 14,
                  "spatial_merge_size": 2, "temporal_patch_size": 2}  # fmt: skip
    else:
        vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH,
                  "patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [1]}  # fmt: skip
    config_class = Qwen2VLConfig if kind == "qwen2_vl" else Qwen2_5_VLConfig
    config = config_class(
        text_config=text | {"rope_parameters": ROPE}, vision_config=vision, tie_word_embeddings=tied, **ids
    )
    torch.manual_seed(3)
    model = made(AutoModelForImageTextToText.from_config(config))
    names = {"qwen2_vl": "Qwen2VLForConditionalGeneration", "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}
    flat = {
        "architectures": [names[kind]], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "initializer_range": 0.02, "max_window_layers": 2, "model_type": kind, "rope_theta": ROPE["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": ROPE["mrope_section"]}, "sliding_window": 32768,
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "transformers_version": "4.41.2", "use_cache": True,
        "use_sliding_window": False, "vision_token_id": 9, **text, **ids,
        "vision_config": vision | {"in_chans": 3, "spatial_patch_size": 14},
    }  # fmt: skip
    return model, flat


def answered(response: Response) -> str:
    return f"<|im_start|>assistant\n{response.text}<|im_end|>\n"


@torch.no_grad()
def qwen_state(path: Path, model: Any, behind: str) -> torch.Tensor:
    """The state [H] at the end of the conversation, whose prompt is followed by this text, by the model in memory."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    image = Image.open(io.BytesIO(ITEM.media.data)).convert("RGB")
    shown = Qwen2VLImageProcessorPil.from_pretrained(str(path))(images=[image], return_tensors="pt")
    pads = "<|image_pad|>" * (int(shown["image_grid_thw"].prod()) // 4)
    text = f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{GROUP.prompt}<|im_end|>\n{behind}"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    types = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
    return model.model(input_ids=ids, mm_token_type_ids=types, **shown).last_hidden_state[0, -1]


def head(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.2).to(torch.bfloat16)


def scored(path: Path, **fields: Any) -> list[float]:
    column = load(Card(**{"name": "m", "kind": "scalar", "path": path, "system": ""} | fields)).score([GROUP])[0]
    assert column.statuses == [Status.OK] * 2
    return column.values


@pytest.mark.parametrize("names", [OLD_QWEN, SAME], ids=["visual.*", "model.visual.*"])
@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_skywork_vl_reward(tmp_path, kind, names):
    """LLaMA-Factory: the generative model under its own names, TRL's head in ``value_head.safetensors``."""
    model, config = qwen(tmp_path, kind)
    write(tmp_path, model, config, names, {})
    weight, bias = head(1, WIDTH), head(1, seed=1)
    save_file({"v_head.summary.weight": weight, "v_head.summary.bias": bias}, tmp_path / "value_head.safetensors")
    wanted = [
        float(weight[0].float() @ qwen_state(tmp_path, model, answered(each)) + bias.float()[0])
        for each in GROUP.responses
    ]
    assert scored(tmp_path) == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted[0] - wanted[1]) > 1e-2


@pytest.mark.parametrize("stem", ["v_head.summary", "score", "v_head", "value_head.summary"])
def test_heads_among_the_models_tensors(tmp_path, stem):
    """TRL's ``AutoModelForCausalLMWithValueHead`` and ms-swift's sequence classifier, in the shards themselves."""
    model, config = qwen(tmp_path, "qwen2_5_vl")
    if stem == "score":
        config |= {"architectures": ["Qwen2_5_VLForSequenceClassification"], "num_labels": 1,
                   "problem_type": "regression", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}  # fmt: skip
    weight = head(1, WIDTH)
    write(tmp_path, model, config, OLD_QWEN, {f"{stem}.weight": weight})
    wanted = [float(weight[0].float() @ qwen_state(tmp_path, model, answered(each))) for each in GROUP.responses]
    assert scored(tmp_path) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("activation", "act", "numbers"), [
    ("silu", torch.nn.functional.silu, (0, 2)), ("tanh", torch.tanh, (1, 4)),
])  # fmt: skip
def test_two_layer_heads(tmp_path, activation, act, numbers):
    """BaseReward's layers with SiLU between, MM-RLHF's between dropouts, on Qwen2.5-VL."""
    model, config = qwen(tmp_path, "qwen2_5_vl")
    first, last = (f"{'score' if activation == 'silu' else 'rm_head'}.{number}" for number in numbers)
    tensors = {
        f"{first}.weight": head(32, WIDTH), f"{first}.bias": head(32, seed=1),
        f"{last}.weight": head(1, 32, seed=2), f"{last}.bias": head(1, seed=3),
    }  # fmt: skip
    write(tmp_path, model, config, OLD_QWEN, tensors)
    wide = {name.split(".", 1)[1]: tensor.float() for name, tensor in tensors.items()}
    wanted = []
    for response in GROUP.responses:
        state = qwen_state(tmp_path, model, answered(response))
        hidden = act(wide[f"{numbers[0]}.weight"] @ state + wide[f"{numbers[0]}.bias"])
        wanted.append(float(wide[f"{numbers[1]}.weight"][0] @ hidden + wide[f"{numbers[1]}.bias"][0]))
    assert scored(tmp_path, head={"activation": activation}) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_r1_reward_and_unified_reward(tmp_path, tied):
    """Whole generative models are asked for the next token, with embeddings tied (3B) or not (7B)."""
    model, config = qwen(tmp_path, "qwen2_5_vl", tied=tied)
    write(tmp_path, model, config, OLD_QWEN, {})
    found = scored(tmp_path, kind="yes_no", choices=("1", "2"), question="1 or 2?")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    choices = [tokenizer.convert_tokens_to_ids(reply) for reply in "12"]
    asking = "<|im_start|>user\n1 or 2?<|im_end|>\n<|im_start|>assistant\n"
    for response, value in zip(GROUP.responses, found, strict=True):
        with torch.no_grad():
            logits = model.lm_head(qwen_state(tmp_path, model, answered(response) + asking))
        assert value == pytest.approx(float(torch.softmax(logits[choices], 0)[0]), abs=1e-5)


VISION = {
    "internvl": ("vision_tower.", OLD_INTERN), "llava_onevision": ("vision_tower.vision_model.", OLD_LLAVA),
    "gemma3": ("vision_tower.vision_model.", OLD_LLAVA), "smolvlm": ("model.vision_model.", SAME),
    "idefics3": ("model.vision_model.", SAME), "qwen3_vl": ("model.visual.", SAME), "qwen3_5": ("model.visual.", SAME),
}  # fmt: skip
CHATML = "<|im_start|>user\n{image}{prompt}<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n"
THINKING = CHATML.replace("{text}", "<think>\n\n</think>\n\n{text}")
SPACED = "User:{image}{prompt}<end_of_utterance>\nAssistant: {text}<end_of_utterance>\n"
TURNS = {
    "gemma3": "<bos><start_of_turn>user\n{image}{prompt}<end_of_turn>\n<start_of_turn>model\n{text}<end_of_turn>\n",
    "qwen3_5": THINKING, "smolvlm": "<|im_start|>" + SPACED, "idefics3": "<|begin_of_text|>" + SPACED,
}  # fmt: skip
FAKE = "<fake_token_around_image>"
ROWS = "".join("".join(f"{FAKE}<row_{row}_col_{column}><image>" for column in (1, 2)) + "\n" for row in (1, 2))
HOLES = {
    "internvl": f"<img>{'<IMG_CONTEXT>' * 4}</img>\n", "llava_onevision": "<image>" * 24 + "\n",
    "gemma3": f"\n\n<start_of_image>{'<image_soft_token>' * 4}<end_of_image>\n\n",
    "smolvlm": f"{ROWS}\n{FAKE}<global-img><image>{FAKE}", "idefics3": f"{ROWS}\n{FAKE}<global-img><image>{FAKE}",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>", "qwen3_5": "<|vision_start|><|image_pad|><|vision_end|>",
}  # fmt: skip


def old_text(kind: str, text: dict[str, Any]) -> dict[str, Any]:
    """The text part of a configuration as the repositories write it: rope fields of their own, no layer types."""
    text = dict(text)
    rope = text.pop("rope_parameters", None) or {}
    if kind == "gemma3":
        text.pop("layer_types")
        return text | {"rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0, "rope_scaling": None,
                       "sliding_window_pattern": 3}  # fmt: skip
    rope = dict(rope)
    theta = rope.pop("rope_theta", 10_000.0)
    return text | {"rope_theta": theta, "rope_scaling": rope if "mrope_section" in rope else None}


@pytest.mark.parametrize("kind", VISION)
def test_families_under_their_published_names(tmp_path, kind):
    """Old top-level names, SigLIP's ``vision_model`` level, old rope fields, tensors of a head for later tokens."""
    family = FAMILIES[kind]
    tokenizer = tiny_tokenizer()
    more = (*family.begins[:1], *tiny_families.TAGS.get(kind, ()))
    tokens = [AddedToken(token, special=True, normalized=False) for token in (*family.tokens, *more)]
    tokenizer.add_special_tokens(tokens)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    fields, images = tiny_families.CONFIGS[kind](tokenizer.token_to_id, tokenizer.get_vocab_size())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(images))
    torch.manual_seed(2)
    fields["text_config"]["vocab_size"] += 13  # Rows of the table that no token has, as repositories pad it.
    model = made(AutoModelForImageTextToText.from_config(AutoConfig.for_model(kind, **fields)))
    prefix, names = VISION[kind]
    config = fields | {"model_type": kind, "tie_word_embeddings": model.config.tie_word_embeddings}
    config |= {"text_config": old_text(kind, fields["text_config"]), "torch_dtype": "bfloat16"}
    more = {"mtp.norm.weight": head(WIDTH)} if kind == "qwen3_5" else {}
    write(tmp_path, model, config, names, more)
    assert any(name.startswith(prefix) for name in json.loads(
        (tmp_path / "model.safetensors.index.json").read_text())["weight_map"])  # fmt: skip
    weight = head(1, WIDTH)
    save_file({"v_head.summary.weight": weight}, tmp_path / "value_head.safetensors")
    wanted = [float(weight[0].float() @ family_state(tmp_path, kind, model, each)) for each in GROUP.responses]
    assert scored(tmp_path) == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted[0] - wanted[1]) > 1e-3


@torch.no_grad()
def family_state(path: Path, kind: str, model: Any, response: Response) -> torch.Tensor:
    processor = AutoImageProcessor.from_pretrained(str(path), backend="pil")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    image = Image.open(io.BytesIO(ITEM.media.data)).convert("RGB")
    nested = [[image]] if kind in {"smolvlm", "idefics3"} else [image]
    more = {"crop_to_patches": True} if kind == "internvl" else {}
    shown = dict(processor(images=nested, return_tensors="pt", **more))
    for name in ("num_patches", "num_crops", "batch_num_images"):
        shown.pop(name, None)
    hole = HOLES[kind]
    if "image_grid_thw" in shown:
        hole = hole.replace("<|image_pad|>", "<|image_pad|>" * (int(shown["image_grid_thw"].prod()) // 4))
    text = TURNS.get(kind, CHATML).format(image=hole, prompt=GROUP.prompt, text=response.text)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    if kind.startswith("qwen"):
        shown["mm_token_type_ids"] = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
    if kind == "gemma3":
        shown["token_type_ids"] = (ids == tokenizer.convert_tokens_to_ids("<image_soft_token>")).long()
    return model.model(input_ids=ids, **shown).last_hidden_state[0, -1]


@pytest.mark.parametrize(("kind", "words"), [
    ("internlmxcomposer2", "internlmxcomposer2"), ("llava_qwen", "llava_qwen"), ("internvl_chat", "internvl_chat"),
])  # fmt: skip
def test_architectures_that_transformers_lacks_are_refused(tmp_path, kind, words):
    """IXC-2.5-Reward, MM-RLHF-Reward in LLaVA's own names, InternVL's own: refused by name, with or without code."""
    model, config = qwen(tmp_path, "qwen2_5_vl")
    write(tmp_path, model, config | {"model_type": kind}, OLD_QWEN, {"v_head.weight": head(1, WIDTH)})
    with pytest.raises(ConfigError, match=f"model_type '{words}' is not supported"):
        scored(tmp_path)
    config |= {"model_type": kind, "auto_map": {"AutoModel": "modeling.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="auto_map"):
        scored(tmp_path)


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path):
    """A shard that is missing, a tensor of another shape, a layer too many, more tokens than embeddings."""
    model, config = qwen(tmp_path, "qwen2_5_vl")
    write(tmp_path, model, config, OLD_QWEN, {"score.weight": head(1, WIDTH)})
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(ConfigError, match="misses|size mismatch|mismatch"):
        scored(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1, "max_window_layers": 1}))
    with pytest.raises(ConfigError, match=r"holds 12 tensors .*layers\.1\..*config.json does not describe"):
        scored(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    shard = tmp_path / "model-00002-of-00002.safetensors"
    kept = shard.read_bytes()
    shard.unlink()
    with pytest.raises(ConfigError, match=str(tmp_path)):
        scored(tmp_path)
    shard.write_bytes(kept)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens([f"<extra{number}>" for number in range(22)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="embeddings"):
        scored(tmp_path)
