"""Run at the start of each of vLLM's processes, in vLLM's environment: nothing of RewardHub is at hand here.

Each process ends with the one that started it, even where that is killed. Beside torch for CPUs, torchvision asks
for two operators that it does not bring.
"""

import contextlib
import ctypes

PR_SET_PDEATHSIG, SIGTERM = 1, 15

# Before torch is imported, which takes a while.
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)

import torch  # noqa: E402

if not torch.cuda.is_available():
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
