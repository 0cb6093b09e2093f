"""Digests of checkpoint folders, remembered so that weights are read once and not at every start."""

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from rewardhub.errors import ConfigError
from rewardhub.models.card import Card, load_card
from rewardhub.scorer import digest_of

SUFFIXES = (".safetensors", ".json", ".jinja", ".txt")
MODULES = "[0-9]*_*/*.json"
"""Settings of the modules of sentence-transformers, which stand in folders of their own."""


def tree_digest(path: Path, memory: Path | None = None) -> str:
    """SHA-256 over names and contents of a checkpoint's files.

    A file's digest is remembered in ``memory`` (by default in the user's cache folder) by its place,
    inode, size and time of change, and computed again when any of these differ.
    """
    memory = memory or default_memory()
    known = _read(memory)
    found: dict[str, str] = {}
    parts: list[str] = []
    for file in _files(path):
        key = _key(file)
        found[key] = known.get(key) or _file_digest(file)
        parts += [file.relative_to(path).as_posix(), found[key]]
    if found.keys() - known.keys():
        _write(memory, known | found)
    return digest_of(*parts)


def tree_stamp(path: Path | None) -> tuple[str, ...]:
    """Tells whether a checkpoint's files were changed or exchanged, without reading them; empty where there is none."""
    return tuple(_key(each) for each in _files(path)) if path is not None and path.is_dir() else ()


def card_stamp(card: Card) -> tuple[str, ...]:
    """:func:`tree_stamp` of all that a card's model is loaded from: its folder, a reference's, those of members."""
    found = _folder_stamps(card)
    for path in card.ensemble.members if card.ensemble else ():
        found += (str(path),)
        with suppress(OSError, ConfigError):  # the load says what is wrong with a member
            member = load_card(path)
            found += (member.as_loaded.model_dump_json(), *_folder_stamps(member))
    return found


def _folder_stamps(card: Card) -> tuple[str, ...]:
    return tree_stamp(card.path) + tree_stamp(card.implicit.reference if card.implicit else None)


def digest_as_loaded(path: Path, stamp: tuple[str, ...]) -> str:
    """:func:`tree_digest` of what was loaded when the files bore ``stamp``.

    Raises ``ConfigError`` where they were changed since: the digest is not that of what is in memory then.
    """
    digest = tree_digest(path)
    if tree_stamp(path) != stamp:
        raise ConfigError(f"{path}: the checkpoint was changed while it was loaded", field="path")
    return digest


def default_memory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rewardhub" / "digests.json"


def _files(path: Path) -> list[Path]:
    found = (each for pattern in ("*", MODULES) for each in path.glob(pattern))
    return sorted(each for each in found if each.is_file() and each.suffix in SUFFIXES)


def _key(file: Path) -> str:
    stat = file.stat()
    return f"{file.resolve()}|{stat.st_dev}|{stat.st_ino}|{stat.st_size}|{stat.st_mtime_ns}"


def _file_digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read(memory: Path) -> dict[str, str]:
    try:
        value = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _write(memory: Path, known: dict[str, str]) -> None:
    """Replaces the memory at once; a folder that cannot be written only costs the next start time."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False, encoding="utf-8") as opened:
            json.dump(dict(list(known.items())[-10_000:]), opened)
        Path(opened.name).replace(memory)
    except OSError:
        return
