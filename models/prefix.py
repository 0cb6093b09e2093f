"""Running many rows through a backbone, sharing what they have in common."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rewardhub.models.backbone import Backbone
from rewardhub.models.batching import in_batches
from rewardhub.models.inputs import Encoded, Encoder


class RowRunner:
    """Gives the hidden state of each row's last token, batched by a token budget."""

    attention = "rows"

    def __init__(self, backbone: Backbone, encoder: Encoder, token_budget: int) -> None:
        self.backbone = backbone
        self.encoder = encoder
        self.token_budget = token_budget

    @torch.inference_mode()
    def last_hidden(self, rows: Sequence[Encoded]) -> Tensor:
        """The states [N, H] of N rows, in their order."""

        def run(batch: list[int]) -> Tensor:
            inputs = self.encoder.collate([rows[index] for index in batch])
            return self.backbone.last_hidden(inputs.to(self.backbone.device))

        return in_batches([len(row) for row in rows], self.token_budget, run)
