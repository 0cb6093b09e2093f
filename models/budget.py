"""How many tokens a batch may hold: what is free on the device, over what one token was measured to take; and how many
it never could, were all of the device free.
"""

import resource
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from rewardhub.models.inputs import Encoded

SHARE = 0.6
"""The share of free memory that a batch may fill."""

CGROUP = Path("/sys/fs/cgroup")
"""Where a container finds its own group."""

PROBE = 512
"""Tokens of the row that is measured on a GPU."""


class Runs(Protocol):
    backbone: Any
    encoder: Any

    def padded(self, rows: list[Encoded], places: list[tuple[int, ...]]) -> Any: ...


class Room(NamedTuple):
    """Tokens of a batch: ``now``, in a share of what is free, and ``ever``, in all that the device has beside weights.

    The second does not depend on what others hold at the moment.
    """

    now: int
    ever: int


@torch.inference_mode()
def measured_room(runner: Runs) -> Room:
    """The most tokens of a batch on the runner's device."""
    device, model = runner.backbone.device, runner.backbone.model
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        taken = _per_token_on_gpu(runner, device)
    else:
        free, total, taken = _available(), _installed(), per_token(runner.backbone)
    weights = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    return Room(max(1, int(free * SHARE / taken)), max(0, int((total - weights) / taken)))


def per_token(backbone: Any) -> float:
    """Bytes that a token takes in a layer at most: the states, the queries, keys and values, the feed-forward part."""
    config = backbone.text_config
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = 2 * (getattr(config, "num_key_value_heads", None) or heads)
    numbers = 6 * config.hidden_size + 3 * (heads + keys) * width + 3 * config.intermediate_size
    kept = keys * width * config.num_hidden_layers
    return float((numbers + kept) * torch.finfo(backbone.dtype).bits / 8)


def blank(tokens: int) -> Encoded:
    """A row of so many tokens that say nothing."""
    return Encoded(np.zeros(tokens, np.int64), np.tile(np.arange(tokens), (3, 1)), (), (), tokens)


def _per_token_on_gpu(runner: Runs, device: torch.device) -> float:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    runner.padded([blank(PROBE)], [(PROBE - 1,)])
    return max(1.0, (torch.cuda.max_memory_allocated(device) - before) / PROBE)


def _meminfo(name: str) -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _available() -> int:
    """Bytes that this process may still take: of the machine, of its control group, of its own limit."""
    return max(0, min(_meminfo("MemAvailable"), _left_to_group(CGROUP), _left_to_process()))


def _installed() -> int:
    """Bytes that this process could have were nobody else there: of the machine, its control group, its own limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    own = sys.maxsize if limit == resource.RLIM_INFINITY else limit
    return min(_meminfo("MemTotal"), _group_of(CGROUP)[0], own)


def _left_to_group(folder: Path) -> int:
    return _group_of(folder)[1]


def _group_of(folder: Path) -> tuple[int, int]:
    """A container's limit and what it leaves, files that the kernel would drop not counted; none is a large number."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        kept = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return limit, limit - used + int(kept["inactive_file"])
    except (OSError, ValueError, KeyError):
        return sys.maxsize, sys.maxsize


def _left_to_process() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - pages * resource.getpagesize()
