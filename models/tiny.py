"""A tiny Qwen2.5-VL checkpoint (0.3 M parameters, random weights) in the layout of the real ones."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from rewardhub.models.chat import CONTROLS, IMAGE, VIDEO, VISION_END, VISION_START
from rewardhub.models.colours import COLOURS, QUESTION, SHAPES, answer
from rewardhub.models.style import END

PAD = "<|endoftext|>"
TAGS = ("<answer>", "</answer>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ['image', 'image_url'] %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The layout of ``ChatTemplate(system="")`` for servers that run chat templates."""


def build_tiny(path: Path, seed: int = 0, *, heads: int = 4) -> Path:
    """Writes the checkpoint folder: weights, configuration, tokenizer and image processor; returns it.

    The same seed gives the same weights. ``heads`` are the text model's attention heads, 64 / heads
    wide; vLLM on a CPU takes heads of 32 and more.
    """
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save(str(path / "tokenizer.json"))
    _write(path / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD,
        "model_max_length": 2048, "clean_up_tokenization_spaces": False,
    })  # fmt: skip
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    _save_processor(path)
    _save_model(path, tokenizer, seed, heads)
    return path


def tiny_tokenizer() -> Tokenizer:
    """Byte-level BPE over the colour task's words; every other text falls apart into bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=460, min_frequency=1, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, *CONTROLS)])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return tokenizer


def _corpus() -> list[str]:
    questions = [QUESTION.format(shape=shape) for shape in SHAPES]
    replies = [text for colour in COLOURS for text in (colour, f" {colour}", answer(colour))]
    return ["system\n", "user\n", "assistant\n", *questions, *replies, "0 1 2 3 4 5 6 7 8 9"] * 4


def _save_processor(path: Path) -> None:
    # Complete, as in published folders: vLLM normalises with what stands here, and not at all where it is silent.
    _write(path / "preprocessor_config.json", {
        "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "merge_size": 2,
        "temporal_patch_size": 2, "size": {"shortest_edge": 56 * 56, "longest_edge": 448 * 448},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    })  # fmt: skip


def _save_model(path: Path, tokenizer: Tokenizer, seed: int, heads: int) -> None:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.utils import logging

    half = 32 // heads
    sections = [half // 4, half * 3 // 8, half * 3 // 8]
    text = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": heads // 2,
        "max_position_embeddings": 2048, "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(END), "pad_token_id": tokenizer.token_to_id(PAD),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": sections},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 64,
        "patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [1],
    }  # fmt: skip
    ids = {"image": IMAGE, "video": VIDEO, "vision_start": VISION_START, "vision_end": VISION_END}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True,
        **{f"{name}_token_id": tokenizer.token_to_id(token) for name, token in ids.items()},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(str(path))
    if bar:
        logging.enable_progress_bar()


def _write(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n")
