"""Run at the start of each of vLLM's processes, in vLLM's environment: nothing of RewardHub is at hand here.

Each process ends with the one that started it, even where that is killed. Beside torch for CPUs, torchvision asks
for two operators that it does not bring.
"""

import contextlib
import ctypes

import torch

PR_SET_PDEATHSIG, SIGTERM = 1, 15

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)
if not torch.cuda.is_available():
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
