"""Text that a model writes behind a row, several continuations side by side on one cache of what they share."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache

from rewardhub.errors import InternalError
from rewardhub.models.cached import repeated
from rewardhub.models.checkpoint import read_config
from rewardhub.models.inputs import Encoded, Inputs
from rewardhub.models.model import Loaded
from rewardhub.models.progress import progress


def named_ends(path: Path) -> list[int]:
    """The ids at which a checkpoint's ``generation_config.json`` has a text end."""
    named = read_config(path, "generation_config.json").get("eos_token_id")
    return [each for each in (named if isinstance(named, list) else [named]) if type(each) is int]


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A text of ``tokens`` tokens, whether it came to an end within them, and the state [H] at its end."""

    text: str
    tokens: int
    ended: bool
    state: Tensor


class Writer:
    """Continues rows until the end of a turn, or another end that the checkpoint names; no further control tokens."""

    def __init__(self, loaded: Loaded, *, max_tokens: int, temperature: float) -> None:
        self.loaded = loaded
        self.max_tokens = max_tokens
        self.temperature = temperature
        tokenizer, family = loaded.encoder.tokenizer, loaded.encoder.family
        self.end_id = tokenizer.control(family.style.end)
        self.ends = {self.end_id, *named_ends(loaded.path)}
        controls = {tokenizer.control(token) for token in family.tokens}
        rows = loaded.backbone.base.get_input_embeddings().num_embeddings
        self.forbidden = sorted((controls | set(range(tokenizer.size, rows))) - self.ends)

    @torch.inference_mode()
    def write(
        self, row: Encoded, count: int, most: int | None = None, complete: Callable[[str], bool] | None = None
    ) -> list[Written]:
        """``count`` continuations of at most ``most`` tokens, by default the writer's own limit.

        One also ends where ``complete`` says so of its text so far. Sampled with a seed drawn from the row, so that the
        same row is continued alike whatever it is asked with.
        Raises ``InternalError`` where the model computes what is no number.
        """
        most = self.max_tokens if most is None else most
        progress.holds(count * (len(row) + most))
        backbone = self.loaded.backbone
        cache = DynamicCache(config=backbone.text_config)
        inputs = self.loaded.encoder.collate([row]).to(backbone.device)
        states = backbone.run(backbone.embedded(inputs), inputs, past_key_values=cache, use_cache=True)[:, -1]
        cache, states = repeated(cache, count), states.repeat(count, 1)
        seed = int.from_bytes(hashlib.sha256(row.ids.tobytes()).digest()[:7], "big")
        generator = torch.Generator(backbone.device).manual_seed(seed)
        ids: list[list[int]] = [[] for _ in range(count)]
        ends: dict[int, Written] = {}
        for step in range(most + 1):
            chosen = self._next(states, generator) if step < most else [self.end_id] * count
            # The state is that behind the turn's end, whichever end was written.
            chosen = [self.end_id if each in self.ends else each for each in chosen]
            token = self._token(torch.tensor(chosen, device=backbone.device), row.next_position + step)
            states = backbone.run(*token, past_key_values=cache, use_cache=True)[:, 0]
            for index in (each for each in range(count) if each not in ends):
                if chosen[index] == self.end_id:
                    text = self.loaded.encoder.tokenizer.decode(ids[index])
                    ends[index] = Written(text, len(ids[index]), step < most, states[index])
                    continue
                ids[index].append(chosen[index])
                if complete and complete(text := self.loaded.encoder.tokenizer.decode(ids[index])):
                    ends[index] = Written(text, len(ids[index]), True, states[index])
            if len(ends) == count:
                break
        return [ends[index] for index in range(count)]

    def _next(self, states: Tensor, generator: torch.Generator) -> list[int]:
        logits = self.loaded.backbone.logits(states)
        if not logits.isfinite().all():
            raise InternalError("the model computed a non-finite number")
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
