"""Cutting rows into batches by tokens."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices of rows in batches of at most ``token_budget`` padded tokens, longest rows first.

    Rows of like length share a batch, so little is padded. A row over the budget is a batch alone.
    """
    batch: list[int] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        if batch and width * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        width = width if batch else lengths[index]
        batch.append(index)
    if batch:
        yield batch


def in_batches(lengths: Sequence[int], token_budget: int, run: Callable[[list[int]], Tensor]) -> Tensor:
    """The rows that ``run`` gives per batch of indices [b, …], put back in the order of ``lengths``."""
    order: list[int] = []
    results: list[Tensor] = []
    for batch in batches(lengths, token_budget):
        order += batch
        results.append(run(batch))
    joined = torch.cat(results)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return joined[back.to(joined.device)]
