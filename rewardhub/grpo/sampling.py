"""From logits to tokens: one distribution, used to sample and to score what was sampled."""

import torch
from torch import Tensor


def log_distribution(logits: Tensor, temperature: float, forbidden: Tensor) -> Tensor:
    """Log-probabilities [..., V] at ``temperature``; the token ids in ``forbidden`` have none.

    A policy that samples an image placeholder makes a text that no forward pass accepts, so those
    ids are taken out of the distribution, here and in the loss alike.
    """
    return (logits.float() / temperature).index_fill(-1, forbidden, -torch.inf).log_softmax(-1)


def draw(logp_R_V: Tensor, generator: torch.Generator | None) -> Tensor:
    """One token id per row [R]; the most likely one without a generator."""
    if generator is None:
        return logp_R_V.argmax(-1)
    return torch.multinomial(logp_R_V.exp(), 1, generator=generator).squeeze(-1)


def chosen(logp: Tensor, tokens: Tensor) -> Tensor:
    """The log-probabilities of these tokens: [..., V] and [...] make [...]."""
    return logp.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
