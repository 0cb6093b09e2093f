"""A vision encoder whose passes are prepared by the sizes of the images, and on a GPU replayed as CUDA graphs.

A small image keeps a GPU busy for less time than its hundreds of kernels take to be launched.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rewardhub.models.vision import SpanAttention

Grids = tuple[tuple[int, ...], ...]
"""Time, height and width of each image, in patches."""

REMEMBERED = 32
"""Combinations of sizes whose pass is prepared."""

LAUNCH_BOUND = 8192
"""Patches of a pass, beyond which its kernels take longer than their launches."""

_log = logging.getLogger(__name__)


@dataclass
class Prepared:
    """What depends on the images' sizes alone: ``settings`` for the encoder's forward, then its graph."""

    settings: dict[str, Tensor]
    uses: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    pixels: Tensor | None = None
    output: Any = None


class Replay:
    """Stands for the forward of a Qwen vision encoder, for inference. Sizes seen before are replayed."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._forward: Callable[..., Any] = encoder.forward
        self._known: OrderedDict[Grids, Prepared] = OrderedDict()
        self._pool: Any = None
        self._graphs = True

    def __call__(self, hidden_states: Tensor, grid_thw: Tensor, **more: Any) -> Any:
        grids = tuple(tuple(grid) for grid in grid_thw.tolist())
        known = self._known.pop(grids, None) or self._prepare(grids, hidden_states.device)
        self._known[grids] = known
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

        def run(pixels: Tensor) -> Any:
            return self._forward(pixels, grid_thw=grid_thw, **known.settings, **more)

        known.uses += 1
        small = hidden_states.is_cuda and len(hidden_states) <= LAUNCH_BOUND
        if not (small and self._graphs and known.uses > 1 and torch.is_inference_mode_enabled()):
            return run(hidden_states)
        if known.graph is None and not self._capture(known, hidden_states, run):
            return run(hidden_states)
        assert known.graph is not None
        assert known.pixels is not None
        known.pixels.copy_(hidden_states)
        known.graph.replay()
        return type(known.output)(**{name: _copied(value) for name, value in known.output.items()})

    def _prepare(self, grids: Grids, device: torch.device) -> Prepared:
        return Prepared({name: each.to(device) for name, each in settings_of(self._encoder, grids).items()})

    def _capture(self, known: Prepared, pixels: Tensor, run: Callable[[Tensor], Any]) -> bool:
        """Records the pass; where the encoder does what a graph cannot hold, none are recorded again."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        still, graph = pixels.clone(), torch.cuda.CUDAGraph()
        try:
            run(still)
            with torch.cuda.graph(graph, pool=self._pool):
                output = run(still)
        except RuntimeError as error:
            self._graphs = False
            _log.warning("vision passes are launched kernel by kernel: %s", error)
            return False
        known.graph, known.pixels, known.output = graph, still, output
        return True


def replay_vision(model: nn.Module) -> int:
    """Lets the encoders of ``model`` whose attention is in spans run through a replay; returns how many."""
    count = 0
    for encoder in list(model.modules()):
        blocks: Any = getattr(encoder, "blocks", None)
        if blocks and isinstance(getattr(blocks[0], "attn", None), SpanAttention) and _usable(encoder):
            encoder.forward = Replay(encoder)
            count += 1
    return count


def _usable(encoder: Any) -> bool:
    """Whether this version of transformers lets its helpers be called beforehand."""
    side = 2 * int(encoder.spatial_merge_size)
    try:
        return bool(settings_of(encoder, ((1, side, side),)))
    except (AttributeError, ImportError, TypeError):
        return False


def settings_of(encoder: Any, grids: Grids) -> dict[str, Tensor]:
    """What the encoder's forward would compute from the sizes of the images, by its keyword arguments."""
    from transformers import vision_utils

    sizes = torch.tensor(grids)
    merge = encoder.spatial_merge_size
    found = {
        "position_ids": vision_utils.get_vision_position_ids(sizes, merge),
        "cu_seqlens": vision_utils.get_vision_cu_seqlens(sizes),
    }
    if hasattr(encoder, "window_size"):
        names = "window_index", "cu_window_seqlens"
        windows = vision_utils.get_vision_window_index(sizes, merge, encoder.window_size, encoder.patch_size)
        found |= dict(zip(names, windows, strict=True))
    if hasattr(encoder, "num_grid_per_side"):
        names = "interp_indices", "interp_weights"
        taps = vision_utils.get_vision_interpolation_indices_and_weights(
            sizes, encoder.num_grid_per_side, encoder.interpolation_mode, encoder.interpolation_align_corners, merge
        )
        found |= dict(zip(names, taps, strict=True))
    return found


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else [each.clone() for each in value]
