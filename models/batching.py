"""Cutting rows into batches by tokens."""

from collections.abc import Iterator, Sequence


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
