"""TRL's own GRPOTrainer with the adapter as its reward function."""

import os

import pytest

from rewardhub.client.adapters import trl as adapter

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def tiny_model(folder):
    """A random Qwen2 of about 30,000 parameters and a tokenizer of single characters, saved together."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    words = ["<pad>", "<eos>", "<unk>", *"0123456789+=? abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder), fast


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
