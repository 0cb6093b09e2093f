"""What programs run on: another interpreter, compiler, package or server may give another verdict."""

import os
import sys
from functools import cache
from pathlib import Path

from rewardhub.sandbox import packages
from rewardhub.sandbox.languages import distributions, tools
from rewardhub.sandbox.runner import settings


def place() -> str:
    """The address of the server where programs run, else what is installed here, which takes a while to find out."""
    return f"remote {settings.remote_url}" if settings.remote_url else _here()


@cache
def _here() -> str:
    # two versions of a compiler differ in the size of its command, which costs less to know than its version
    sizes = [f"{path.name} {path.stat().st_size}" for path in map(Path.resolve, map(Path, tools()))]
    return "\n".join([f"Python {sys.version}", os.uname().machine, *sizes, *packages.versions(distributions())])
