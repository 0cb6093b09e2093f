"""Critique, then score: the model writes what is wrong with an answer, and its head reads the critique's end.

MM-RLHF-Reward, arXiv 2502.10391: the value is the mean of the head's output over several critiques.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from rewardhub.models.cached import repeated
from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded, Inputs
from rewardhub.models.rows import Row, RowModel
from rewardhub.types import Group, Response, Score


class CritiqueModel(RowModel):
    """Critiques of one answer are written side by side, on one cache of what they share."""

    has_language_head = True

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        self.head.check_outputs(1)
        self.spec = card.critique
        encoder = self.loaded.encoder
        turn = encoder.template.turn("user", [self.spec.question])
        self.asking = encoder.pieces([*turn, *encoder.template.opening()], ())
        self.end_id = encoder.tokenizer.control(encoder.family.style.end)
        controls = {encoder.tokenizer.control(token) for token in encoder.family.tokens}
        rows = self.loaded.backbone.base.get_input_embeddings().num_embeddings
        self.forbidden = sorted((controls - {self.end_id}) | set(range(encoder.tokenizer.size, rows)))

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        """The question behind the answer, with room left for a critique."""
        encoded = super().row(prefix, group, response).encoded + self.asking
        self.loaded.check_length(encoded, more=self.spec.max_tokens + 1)
        return Row(encoded, (len(encoded) - 1,))

    def readings(self, rows: Sequence[Row], kin: Sequence[Sequence[int]]) -> list[Score]:
        return [self._score(row.encoded) for row in rows]

    def _score(self, row: Encoded) -> Score:
        texts, values = self.critiques(row)
        score = self.calibrated(sum(values) / len(values))
        return score if score.value is None else Score(score.value, details={"critiques": texts, "values": values})

    @torch.inference_mode()
    def critiques(self, row: Encoded) -> tuple[list[str], list[float]]:
        """The critiques of an asked row and the head's output at the end of each."""
        backbone, count = self.loaded.backbone, self.spec.count
        cache = DynamicCache(config=backbone.text_config)
        inputs = self.loaded.encoder.collate([row]).to(backbone.device)
        states = backbone.run(backbone.embedded(inputs), inputs, past_key_values=cache, use_cache=True)[:, -1]
        cache, states = repeated(cache, count), states.repeat(count, 1)
        seed = int.from_bytes(hashlib.sha256(row.ids.tobytes()).digest()[:7], "big")
        generator = torch.Generator(backbone.device).manual_seed(seed)
        written: list[list[int]] = [[] for _ in range(count)]
        values: dict[int, float] = {}
        for step in range(self.spec.max_tokens + 1):
            chosen = self._next(states, generator) if step < self.spec.max_tokens else [self.end_id] * count
            at = torch.tensor(chosen, device=backbone.device)
            states = backbone.run(*self._token(at, row.next_position + step), past_key_values=cache, use_cache=True)[
                :, 0
            ]
            outputs = self.head(states)
            for index, chosen_id in enumerate(chosen):
                if index in values:
                    continue
                if chosen_id == self.end_id:
                    values[index] = float(outputs[index])
                else:
                    written[index].append(chosen_id)
            if len(values) == count:
                break
        texts = [self.loaded.encoder.tokenizer.decode(ids) for ids in written]
        return texts, [values[index] for index in range(count)]

    def _next(self, states: Tensor, generator: torch.Generator) -> list[int]:
        logits = self.loaded.backbone.logits(states)
        logits[:, self.forbidden] = -torch.inf
        if not self.spec.temperature:
            return [int(index) for index in logits.argmax(-1)]
        chances = torch.softmax(logits / self.spec.temperature, -1)
        return [int(index) for index in torch.multinomial(chances, 1, generator=generator)[:, 0]]

    def _token(self, ids: Tensor, position: int) -> tuple[dict[str, Tensor], Inputs]:
        """One token per row at a position, embedded."""
        column = ids.unsqueeze(-1)
        inputs = Inputs(
            column, torch.ones_like(column), torch.full((3, len(ids), 1), position, device=ids.device),
            torch.zeros_like(column), (), (), self.loaded.encoder.reader,
        )  # fmt: skip
        return self.loaded.backbone.embedded(inputs), inputs
