"""Text that a model writes behind a row, several continuations side by side on one cache of what they share."""

import hashlib

import torch
from torch import Tensor
from transformers import DynamicCache

from rewardhub.models.cached import repeated
from rewardhub.models.inputs import Encoded, Inputs
from rewardhub.models.model import Loaded


class Writer:
    """Continues rows until the end of a turn; control tokens but that one are never written."""

    def __init__(self, loaded: Loaded, *, max_tokens: int, temperature: float) -> None:
        self.loaded = loaded
        self.max_tokens = max_tokens
        self.temperature = temperature
        tokenizer, family = loaded.encoder.tokenizer, loaded.encoder.family
        self.end_id = tokenizer.control(family.style.end)
        controls = {tokenizer.control(token) for token in family.tokens}
        rows = loaded.backbone.base.get_input_embeddings().num_embeddings
        self.forbidden = sorted((controls - {self.end_id}) | set(range(tokenizer.size, rows)))

    @torch.inference_mode()
    def write(self, row: Encoded, count: int) -> tuple[list[str], Tensor]:
        """``count`` texts and the state [count, H] at the end of each.

        Sampled with a seed drawn from the row, so that the same row is continued alike whatever it is asked with.
        """
        backbone = self.loaded.backbone
        cache = DynamicCache(config=backbone.text_config)
        inputs = self.loaded.encoder.collate([row]).to(backbone.device)
        states = backbone.run(backbone.embedded(inputs), inputs, past_key_values=cache, use_cache=True)[:, -1]
        cache, states = repeated(cache, count), states.repeat(count, 1)
        seed = int.from_bytes(hashlib.sha256(row.ids.tobytes()).digest()[:7], "big")
        generator = torch.Generator(backbone.device).manual_seed(seed)
        written: list[list[int]] = [[] for _ in range(count)]
        ends: dict[int, Tensor] = {}
        for step in range(self.max_tokens + 1):
            chosen = self._next(states, generator) if step < self.max_tokens else [self.end_id] * count
            token = self._token(torch.tensor(chosen, device=backbone.device), row.next_position + step)
            states = backbone.run(*token, past_key_values=cache, use_cache=True)[:, 0]
            for index, chosen_id in enumerate(chosen):
                if index in ends:
                    continue
                if chosen_id == self.end_id:
                    ends[index] = states[index]
                else:
                    written[index].append(chosen_id)
            if len(ends) == count:
                break
        texts = [self.loaded.encoder.tokenizer.decode(ids) for ids in written]
        return texts, torch.stack([ends[index] for index in range(count)])

    def _next(self, states: Tensor, generator: torch.Generator) -> list[int]:
        logits = self.loaded.backbone.logits(states)
        logits[:, self.forbidden] = -torch.inf
        if not self.temperature:
            return [int(index) for index in logits.argmax(-1)]
        chances = torch.softmax(logits / self.temperature, -1)
        return [int(index) for index in torch.multinomial(chances, 1, generator=generator)[:, 0]]

    def _token(self, ids: Tensor, position: int) -> tuple[dict[str, Tensor], Inputs]:
        """One token per row at a position, embedded."""
        column = ids.unsqueeze(-1)
        inputs = Inputs(
            column, torch.ones_like(column), torch.full((3, len(ids), 1), position, device=ids.device),
            torch.zeros_like(column), (), (), self.loaded.encoder.reader,
        )  # fmt: skip
        return self.loaded.backbone.embedded(inputs), inputs
