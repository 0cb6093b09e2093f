"""The group file: one JSON object per line."""

from collections.abc import Callable, Iterator
from pathlib import Path

from rewardhub.errors import InvalidInput
from rewardhub.types import Group
from rewardhub.wire.lines import group_from_json, loads

MAX_MEDIA_BYTES = 64 * 2**20


def read_group_file(path: str | Path) -> Iterator[Group]:
    """Yields the groups in the order of their lines; empty lines are passed over.

    A missing id is the line number, counted from 1. The ``path`` of a media is read relative to the
    file. Raises ``InvalidInput`` that begins with file and line number, for a doubled id as well.
    """
    path = Path(path)
    lines_of: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            group = group_from_json(loads(line), read_path=_reader(path.parent), default_id=str(number))
        except InvalidInput as error:
            raise InvalidInput(f"{path}:{number}: {error.message}", field=error.field) from None
        first = lines_of.setdefault(group.id, number)
        if first != number:
            raise InvalidInput(f"{path}:{number}: id {group.id!r} is doubled, see line {first}", field="id")
        yield group


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="file") from None


def _reader(folder: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            if not (folder / name).is_file() or (folder / name).stat().st_size > MAX_MEDIA_BYTES:
                raise ValueError(f"not a file of at most {MAX_MEDIA_BYTES} bytes")
            return (folder / name).read_bytes()
        except (OSError, ValueError) as error:
            raise InvalidInput(f"media path {name!r} cannot be read: {error}", field="media.path") from None

    return read
