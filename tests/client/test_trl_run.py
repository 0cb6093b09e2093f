"""TRL's own GRPOTrainer with the adapter as its reward function."""

import os

import pytest

from rewardhub.client.adapters import trl as adapter
from rewardhub.client.parts import as_media

os.environ.setdefault("HF_HUB_OFFLINE", "1")


WORDS = ["<pad>", "<eos>", "<unk>", "<image>", *"0123456789+=? abcdefghijklmnopqrstuvwxyz"]
TEMPLATE = "{% for m in messages %}{% for c in m['content'] %}{{ c['text'] if c['type'] == 'text' else '<image>' }}{% endfor %}{% endfor %}="


def tiny_tokenizer():
    """A tokenizer of single characters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip


def tiny_model(folder):
    """A random Qwen2 of about 30,000 parameters and its tokenizer, saved together."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    fast = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder), fast


def tiny_vision_model(folder):
    """A random LLaVA of about 20,000 parameters, which sees images of 28 pixels, and its processor."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images, tiny_tokenizer(), patch_size=14, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    vision = CLIPVisionConfig(hidden_size=16, image_size=28, patch_size=14, projection_dim=16, **sizes)
    text = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, max_position_embeddings=64, pad_token_id=0, eos_token_id=1,
        bos_token_id=None, **sizes,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=3, vision_feature_layer=-1)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder), processor


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [adapter.reward, adapter.sync_reward])
def test_grpo_trainer_hands_on_its_images(tmp_path, doors, fake, make):
    """A step of TRL's trainer on an image column: each group reaches the hub with its own image, sent once."""
    from datasets import Dataset, Image
    from PIL import Image as Pil
    from trl import GRPOConfig, GRPOTrainer

    path, processor = tiny_vision_model(tmp_path / "model")
    colours = ["red", "blue"]
    shown = {f"{n}+1": Pil.new("RGB", (28, 28), colour) for n, colour in enumerate(colours)}
    rows = [
        {"prompt": [{"role": "user", "content": text}], "image": image, "answer": "1"} for text, image in shown.items()
    ]
    config = GRPOConfig(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=4, num_generations=2, max_completion_length=4,
        max_steps=1, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, bf16=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=path,
        reward_funcs=[make("math", url=doors.url("grpc"))],
        args=config,
        train_dataset=Dataset.from_list(rows).cast_column("image", Image()),
        processing_class=processor,
    )
    trainer.train()
    assert len(fake.groups) == 2 and fake.uploads == 2
    for group in fake.groups.values():
        (message,) = group.prompt
        picture, text = message["content"]
        assert picture == {"type": "image", "media": 0} and len(group.responses) == 2
        assert [media.sha256 for media in group.media] == [as_media(shown[text["text"]]).sha256]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [adapter.reward, adapter.sync_reward])
def test_grpo_trainer_trains_on_the_hubs_rewards(tmp_path, doors, fake, make):
    """Two steps of TRL's trainer: it awaits the adapter, and logs the rewards of the hub under its name."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    path, tokenizer = tiny_model(tmp_path / "model")
    rows = [{"prompt": f"{n}+{n}=", "answer": str(2 * n)} for n in range(4)]
    config = GRPOConfig(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=8, num_generations=4, max_completion_length=6,
        max_steps=2, use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", disable_tqdm=True, bf16=False,
    )  # fmt: skip
    seen = []
    value = fake.value
    fake.value = lambda prompt, response: seen.append((prompt, response.text)) or value(prompt, response)
    trainer = GRPOTrainer(
        model=path,
        reward_funcs=[make("math", url=doors.url("grpc"), run="trl", reference="answer")],
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    assert len(seen) == 16 and {prompt for prompt, _ in seen} <= {row["prompt"] for row in rows}
    assert [call.step for call in fake.calls] == [0, 1] and {call.run for call in fake.calls} == {"trl"}
    logged = [entry["rewards/math/mean"] for entry in trainer.state.log_history if "rewards/math/mean" in entry]
    means = [sum(value(*_as_response(pair)) for pair in part) / 8 for part in (seen[:8], seen[8:])]
    assert logged == pytest.approx(means, abs=1e-6)


def _as_response(pair):
    from rewardhub.types import Response

    return pair[0], Response(pair[1])
