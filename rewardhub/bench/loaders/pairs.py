"""One's own preference pairs in JSONL.

A line is ``{"prompt", "chosen", "rejected"}`` and, optionally, ``id``, ``category``, ``group`` (pairs of
one group are not independent), ``tie`` (true: the label says that both are equal), ``media`` (list of
``{"path"}`` relative to the file), ``reference`` (an object, or the answer itself) and
``problem_type`` for scorers that read them.
``prompt`` is a string or a list of chat messages.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewardhub.bench.items import Comparison, Item
from rewardhub.bench.rows import Row, data_files, read_rows
from rewardhub.types import Message
from rewardhub.wire.samples import as_reference

FIELDS = {"id", "prompt", "chosen", "rejected", "media", "category", "group", "tie", "reference", "problem_type"}


def load(data: Path) -> Iterator[Item]:
    """The pairs in file order; the first response is the chosen one."""
    for path in data_files(data):
        for row in read_rows(path):
            yield _item(row)


def _item(row: Row) -> Item:
    unknown = sorted(set(row.data) - FIELDS)
    if unknown:
        raise row.fail(unknown[0], f"is not a field of a pair; the fields are {', '.join(sorted(FIELDS))}")
    return Item(
        id=row.name("id", f"{row.path.name}:{row.line}"),
        prompt=_prompt(row),
        responses=(row.text("chosen"), row.text("rejected")),
        comparisons=(Comparison(0, 1),),
        category=row.name("category"),
        cluster=row.name("group"),
        media=tuple(_media(row)),
        reference=as_reference(row.get("reference", (str, dict), {})),
        problem_type=row.name("problem_type"),
        tie=row.get("tie", bool, False),
    )


def _prompt(row: Row) -> str | tuple[Message, ...]:
    prompt: str | list[Any] = row.need("prompt", (str, list))
    if isinstance(prompt, str):
        return prompt
    if not all(isinstance(message, dict) and "role" in message and "content" in message for message in prompt):
        raise row.fail("prompt", "has a message without role and content")
    return tuple(prompt)


def _media(row: Row) -> Iterator[Path]:
    for number, entry in enumerate(row.get("media", list, [])):
        field = f"media[{number}].path"
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise row.fail(field, "is missing or not a string")
        path = row.path.parent / entry["path"]
        if not path.is_file():
            raise row.fail(field, f"names {entry['path']!r}, which is not a file")
        yield path
