"""Installed distributions that the programs of a language may import, with all that those require."""

import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def lacking(names: Sequence[str]) -> list[str]:
    """Which of these distributions are not installed."""
    return [name for name in names if _found(name) is None]


def shown(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders to import from, and the files and folders in them that these distributions need.

    A requirement that is not installed is left out: which ones a platform needs only the distribution knows.
    """
    folders: dict[str, None] = {}
    paths: dict[str, None] = {}
    for each in _closure(names):
        folders[str(each.locate_file(""))] = None
        for path in _tops(each):
            paths[path] = None
    return tuple(folders), tuple(paths)


def versions(names: Sequence[str]) -> list[str]:
    """The versions of those that are installed of these distributions and of all that they require."""
    return sorted({f"{each.name}=={each.version}" for each in _closure(names)})


def _found(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _closure(names: Sequence[str]) -> Iterator[metadata.Distribution]:
    waiting, seen = list(names), set[str]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        if each := _found(name):
            yield each
            required = (line for line in each.requires or () if "extra ==" not in line)
            waiting += [match[0] for line in required if (match := _NAME.match(line))]


def _tops(distribution: metadata.Distribution) -> Iterator[str]:
    """What the distribution put directly into its folder; scripts and what lies elsewhere are left out."""
    tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for top in sorted(tops):
        path = Path(str(distribution.locate_file(top)))
        if path.exists() and path.suffix != ".pth":
            yield str(path)
