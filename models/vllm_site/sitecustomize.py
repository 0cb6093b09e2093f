"""Run at the start of each of vLLM's processes, in vLLM's environment: nothing of RewardHub is at hand here.

Each process ends with the one that started it, even where that is killed: asked to at once, and killed where it has not
after a while, as vLLM's server does that is asked while it starts. Beside torch for CPUs, torchvision asks
for two operators that it does not bring.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time

PR_SET_PDEATHSIG, SIGTERM = 1, 15
GRACE_S = 10.0

# Before torch is imported, which takes a while.
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()

import torch  # noqa: E402

if not torch.cuda.is_available():
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
