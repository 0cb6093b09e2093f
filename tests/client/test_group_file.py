"""The group file, line by line."""

import hashlib
import json

import pytest

from rewardhub.client import read_group_file
from rewardhub.errors import InvalidInput
from rewardhub.types import Response


def write(path, *lines) -> object:
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines), encoding="utf-8")
    return path


def test_groups_come_in_the_order_of_their_lines(tmp_path):
    """Given ids stay, missing ids are line numbers, empty lines count but are passed over."""
    file = write(tmp_path / "g.jsonl", {"id": "b", "responses": ["x"]}, "", {"prompt": ""}, {"id": 7, "reference": "5"})
    groups = list(read_group_file(file))
    assert [group.id for group in groups] == ["b", "3", "7"]
    assert groups[0].responses == (Response("x"),) and groups[2].reference == {"answer": "5"}


def test_a_path_is_read_relative_to_the_file(tmp_path):
    """The bytes of a path become a media of the group, known by their hash."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"png")
    file = write(tmp_path / "g.jsonl", {"media": [{"path": "images/a.png"}], "responses": [{"text": "t"}]})
    (group,) = read_group_file(str(file))
    assert group.media[0].data == b"png" and group.media[0].sha256 == hashlib.sha256(b"png").hexdigest()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not a JSON value"),
        ('["a list"]', "expected an object"),
        ({"reference": 5}, "reference is an integer, expected text or an object"),
        ({"prompt": 5}, "prompt is an integer, expected text or a list"),
        ({"responses": [5]}, "responses[0] is an integer, expected text or an object"),
        ({"prompt": [{"content": 5}]}, "prompt[0].content is an integer, expected text or a list"),
        ({"reponses": []}, "did you mean 'responses'"),
        ({"media": [{"path": "none.png"}]}, "cannot be read"),
        ({"media": [{"path": "a\0b"}]}, "cannot be read"),
        ({"id": "1"}, "id '1' is doubled, see line 1"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_an_unusable_line_is_named(tmp_path, line, said):
    """File, line number and what was expected stand in the message; earlier lines were yielded."""
    file = write(tmp_path / "g.jsonl", {"prompt": "fine"}, line)
    groups = read_group_file(file)
    assert next(groups).id == "1"
    with pytest.raises(InvalidInput, match=r"g\.jsonl:2: ") as caught:
        next(groups)
    assert said in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    """A line that is not UTF-8 is an error with its number."""
    file = tmp_path / "g.jsonl"
    file.write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(InvalidInput, match=r"g\.jsonl:1: not a JSON value"):
        list(read_group_file(file))


def test_a_missing_file_is_an_error(tmp_path):
    """The message names the file."""
    with pytest.raises(InvalidInput, match="absent.jsonl cannot be read"):
        list(read_group_file(tmp_path / "absent.jsonl"))
