"""The source text of scorers, of which their fingerprints are made."""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any


@cache
def _module_bytes(module: str) -> bytes:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_bytes() if spec and spec.origin else b""


def source_bytes(module: str, function: Callable[..., Any]) -> bytes:
    """The file of a module, or of ``function``, which is of it; its code where it has no file."""
    if module == function.__module__ and isinstance(function, FunctionType):
        path = Path(function.__code__.co_filename)
        return path.read_bytes() if path.is_file() else function.__code__.co_code
    return _module_bytes(module)
