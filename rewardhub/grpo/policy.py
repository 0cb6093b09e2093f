"""The policy: a vision-language model, prefilled once per prompt.

A prompt's images are encoded once and its KV cache is repeated over the group, in sampling and, with
gradients, in training: P + G·T token positions per group in place of G·(P + T). Shapes: R rows,
S positions so far, T new tokens, H hidden units, V token ids.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import DynamicCache

from rewardhub.grpo.sampling import chosen, log_distribution
from rewardhub.grpo.task import Example
from rewardhub.models.backbone import Backbone, load_backbone
from rewardhub.models.chat import CONTROLS
from rewardhub.models.checkpoint import TEXT_FILES
from rewardhub.models.inputs import Encoded, Encoder
from rewardhub.models.style import END
from rewardhub.models.tiny import build_tiny


@dataclass(slots=True)
class Prefix:
    """Rows read so far: their KV cache, attention mask [R, S], next rope positions [R] and last states [R, H]."""

    cache: DynamicCache
    mask: Tensor
    position: Tensor
    hidden: Tensor

    def repeat(self, times: int) -> "Prefix":
        """Each row ``times`` times, neighbours together; the cache is changed in place."""
        self.cache.batch_repeat_interleave(times)
        tensors = (each.repeat_interleave(times, dim=0) for each in (self.mask, self.position, self.hidden))
        return Prefix(self.cache, *tensors)

    def select(self, rows: Tensor) -> "Prefix":
        """Only these rows; the cache is changed in place."""
        self.cache.batch_select_indices(rows)
        return Prefix(self.cache, self.mask[rows], self.position[rows], self.hidden[rows])


class Policy:
    """A backbone with its language head, and the encoder of its checkpoint."""

    def __init__(self, backbone: Backbone, encoder: Encoder) -> None:
        self.backbone = backbone
        self.encoder = encoder
        self.device = backbone.device
        self.end_id = encoder.tokenizer.control(END)
        banned = [encoder.tokenizer.control(token) for token in CONTROLS if token != END]
        vocabulary = backbone.base.get_input_embeddings().num_embeddings
        self.forbidden = torch.tensor([*banned, *range(encoder.tokenizer.size, vocabulary)], device=self.device)

    def encode(self, example: Example) -> Encoded:
        """The example's prompt with the answer's turn opened."""
        return self.encoder.encode(example.prompt, example.media)

    def prefill(self, prompts: Sequence[Encoded]) -> Prefix:
        """Reads the prompts, one row each; their images are encoded once."""
        inputs = self.encoder.collate(prompts, side="left").to(self.device)
        prefix = Prefix(
            cache=DynamicCache(config=self.backbone.base.language_model.config),
            mask=inputs.attention_mask,
            position=torch.tensor([prompt.next_position for prompt in prompts], device=self.device),
            hidden=torch.empty(0),
        )
        prefix.hidden = self._read(prefix, self.backbone.embed(inputs), inputs.position_ids)[:, -1]
        return prefix

    def extend(self, prefix: Prefix, tokens_R_T: Tensor) -> Tensor:
        """Reads T more tokens per row, moves ``prefix`` behind them, and returns their states [R, T, H]."""
        count = tokens_R_T.shape[1]
        positions = prefix.position.unsqueeze(-1) + torch.arange(count, device=self.device)
        prefix.mask = torch.cat([prefix.mask, prefix.mask.new_ones(tokens_R_T.shape)], dim=-1)
        embeds = self.backbone.base.get_input_embeddings()(tokens_R_T)
        hidden = self._read(prefix, embeds, positions.expand(3, -1, -1))
        prefix.position, prefix.hidden = prefix.position + count, hidden[:, -1]
        return hidden

    def _read(self, prefix: Prefix, embeds: Tensor, positions: Tensor) -> Tensor:
        output = self.backbone.base.language_model(
            inputs_embeds=embeds, attention_mask=prefix.mask, position_ids=positions,
            past_key_values=prefix.cache, use_cache=True,
        )  # fmt: skip
        return output.last_hidden_state

    def log_distribution(self, hidden: Tensor, temperature: float) -> Tensor:
        """Log-probabilities [..., V] of the token behind each state."""
        return log_distribution(self.backbone.logits(hidden), temperature, self.forbidden)

    def logprobs(self, prompts: Sequence[Encoded], tokens_N_T: Tensor, temperature: float) -> Tensor:
        """Log-probabilities [N, T] of the tokens of N = P·G responses, group after group, with gradients.

        Rows are padded on the right; what stands at padding is of no meaning.
        """
        prefix = self.prefill(prompts).repeat(len(tokens_N_T) // len(prompts))
        states = prefix.hidden.unsqueeze(1)
        if tokens_N_T.shape[1] > 1:
            states = torch.cat([states, self.extend(prefix, tokens_N_T[:, :-1])], dim=1)
        return chosen(self.log_distribution(states, temperature), tokens_N_T)

    def save(self, path: Path) -> None:
        """Writes a checkpoint folder: the weights, and the text files of the folder it came from."""
        path.mkdir(parents=True, exist_ok=True)
        save_torch_state_dict(self.backbone.model.state_dict(), str(path))
        for file in (each for pattern in TEXT_FILES for each in self.encoder.path.glob(pattern)):
            if file.name != "model.safetensors.index.json":
                shutil.copyfile(file, path / file.name)


def load_policy(model: str, out: Path, *, seed: int, device: str) -> Policy:
    """The policy of a checkpoint folder, or of a tiny one that is built in ``out`` where ``model`` is empty.

    No system message is added to prompts. Raises ``ConfigError`` where the folder cannot be loaded.
    """
    path = Path(model) if model else build_tiny(out / "initial", seed)
    backbone = load_backbone(path, head=False, dtype="float32", device=device)
    return Policy(backbone, Encoder(path, system=""))
