"""Attention over packed rows: no mask is built, and what rows share is attended to once for all of them.

A row's own tokens attend to the shared tokens without a mask and to themselves causally; the two
parts are merged by their log-sum-exp, which is exact (as in ring attention, arXiv 2310.01889).
Shapes: queries [S, heads, D]; keys and values [S, key heads, D].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from rewardhub.models.packing import Family
from rewardhub.models.prefixes import Prefix
from rewardhub.models.spans import Spans, attend_spans


@dataclass(frozen=True)
class Plan:
    """How a packed sequence attends.

    ``pasts`` holds what comes before each family without being in the sequence; ``keeps`` are spans of
    the sequence whose keys and values are to be remembered. The states at the places ``read`` are asked
    for; with ``ends_only`` those are the last tokens of all rows, in order. ``padding`` tokens stand behind the last
    row and see one another.
    """

    families: Sequence[Family]
    pasts: Sequence[Prefix | None]
    read: Sequence[int]
    keeps: Sequence[tuple[slice, Prefix]] = ()
    ends_only: bool = False
    padding: int = 0

    def remember(self, key: Tensor, value: Tensor) -> None:
        """Adds one layer's keys and values to the prefixes to be kept."""
        for span, prefix in self.keeps:
            prefix.keys.append(key[span].clone())
            prefix.values.append(value[span].clone())

    @cached_property
    def segments(self) -> Spans:
        """The shared tokens of each family, the own tokens of each row and the padding, which fill the sequence."""
        lengths = [length for family in self.families for length in (family.shared, *family.own)]
        return Spans(tuple(filter(None, [*lengths, self.padding])))

    @cached_property
    def contexts(self) -> "Contexts":
        """What tokens see beside their own segment."""
        found: list[Context] = []
        for shared, own, past in self._placed():
            found += [Context(shared, past, slice(0, 0)), Context(own, past, shared)]
        return Contexts(found)

    @cached_property
    def end_contexts(self) -> "Contexts":
        """The same for the last tokens of all rows, taken out of the sequence."""
        counts = accumulate((len(family.own) for family in self.families), initial=0)
        placed = zip(pairwise(counts), self._placed(), strict=True)
        return Contexts([Context(slice(*rows), past, shared) for rows, (shared, _, past) in placed])

    @cached_property
    def own(self) -> list[slice]:
        """Where the rows' own tokens stand, family by family."""
        return [own for _, own, _ in self._placed()]

    @cached_property
    def rows(self) -> Spans:
        """The own tokens of each row."""
        return Spans(tuple(length for family in self.families for length in family.own))

    def _placed(self) -> Iterator[tuple[slice, slice, Prefix | None]]:
        """Each family's shared tokens, its rows' own tokens, and what comes before them."""
        at = 0
        for family, past in zip(self.families, self.pasts, strict=True):
            split, stop = at + family.shared, at + family.tokens
            yield slice(at, split), slice(split, stop), past
            at = stop


@dataclass(frozen=True, slots=True)
class Context:
    """The tokens ``asks`` see all of a past, and all of the sequence's tokens ``shared``."""

    asks: slice
    past: Prefix | None
    shared: slice

    @property
    def asking(self) -> int:
        return int(self.asks.stop - self.asks.start)

    @property
    def asked(self) -> int:
        return int(self.shared.stop - self.shared.start) + (len(self.past.keys[0]) if self.past else 0)

    def seen(self, layer: "Layer") -> tuple[Tensor, Tensor]:
        """The keys and values of a layer that are seen."""
        key, value = layer.key[self.shared], layer.value[self.shared]
        if self.past is None:
            return key, value
        return torch.cat([self.past.keys[layer.index], key]), torch.cat([self.past.values[layer.index], value])


class Contexts:
    """Contexts of tokens that follow one another; those where nothing is asked or seen are left out."""

    def __init__(self, contexts: Sequence[Context]) -> None:
        self.all = [each for each in contexts if each.asking and each.asked]
        self.asks = [each.asks for each in self.all]
        self.asking = Spans(tuple(each.asking for each in self.all))
        self.asked = Spans(tuple(each.asked for each in self.all))


@dataclass(frozen=True, slots=True)
class Layer:
    """The queries, keys and values of layer ``index``; the logits are multiplied by ``scaling``."""

    index: int
    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float

    def all_tokens(self, plan: Plan) -> Tensor:
        """The attention [S, heads, D] of every token."""
        own = plan.segments
        parts = attend_spans(self.query, self.key, self.value, own, own, self.scaling, causal=True)
        return self._with(plan.contexts, *parts)

    def ends(self, plan: Plan) -> Tensor:
        """The attention [rows, heads, D] of each row's last token; the queries are those of these tokens only."""
        key, value = (_joined([each[own] for own in plan.own]) for each in (self.key, self.value))
        alone = Spans((1,) * len(self.query))
        parts = attend_spans(self.query, key, value, alone, plan.rows, self.scaling, causal=False)
        return self._with(plan.end_contexts, *parts)

    def _with(self, contexts: Contexts, out: Tensor, weight: Tensor) -> Tensor:
        """The attention ``out`` with that to the contexts merged into it."""
        if not contexts.all:
            return out
        seen = [each.seen(self) for each in contexts.all]
        key, value = _joined([key for key, _ in seen]), _joined([value for _, value in seen])
        query = _joined([self.query[span] for span in contexts.asks])
        parts = attend_spans(query, key, value, contexts.asking, contexts.asked, self.scaling, causal=False)
        for span, *more in zip(contexts.asks, *(each.split(contexts.asking.lengths) for each in parts), strict=True):
            merge(out[span], weight[span], *more)
        return out


def merge(out: Tensor, weight: Tensor, more: Tensor, its_weight: Tensor) -> None:
    """Makes ``out`` the attention over both key sets, from the attention over each and its log-sum-exp."""
    share = torch.sigmoid(its_weight - weight).unsqueeze(-1)
    if out.dtype == torch.float32:
        out.lerp_(more, share)
    else:
        out.copy_(torch.lerp(out.float(), more.float(), share))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
