"""Data files: what is read, and errors that say where."""

import pytest

from rewardhub.bench.benchmarks import benchmark_named
from rewardhub.bench.loaders import best_of_n, judgebench, mm_rlhf, pairs, rm_bench, vl_rewardbench
from rewardhub.bench.runner import read_items
from rewardhub.errors import InvalidInput, UnknownName
from rewardhub.types import Media

PAIR = {"prompt": "p", "chosen": "c", "rejected": "r"}
JUDGE = {
    "pair_id": "1",
    "source": "mmlu-pro-law",
    "question": "q",
    "response_A": "a",
    "response_B": "b",
    "label": "B>A",
}
MATRIX = {"id": "chat-1", "domain": "chat", "prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]}

BEST = {"question": "q", "response": ["a", "b"], "score": [True, False]}
MEDIA = {"id": "RLHF-1", "image": "mcq/1.png", "prompt": "p", "chosen": "c", "rejected": "r"}


def failure(load, path):
    with pytest.raises(InvalidInput) as caught:
        list(load(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("load", "good", "change", "field"),
    [
        (pairs.load, PAIR, {"chosen": 3}, "chosen"),
        (pairs.load, PAIR, {"rejected": None}, "rejected"),
        (pairs.load, PAIR, {"chosen_model": "x"}, "chosen_model"),
        (pairs.load, PAIR, {"tie": 1}, "tie"),
        (pairs.load, PAIR, {"prompt": [{"role": "user"}]}, "prompt"),
        (pairs.load, PAIR, {"media": [{"path": "missing.png"}]}, "media[0].path"),
        (pairs.load, PAIR, {"media": ["missing.png"]}, "media[0].path"),
        (judgebench.load, JUDGE, {"label": "A"}, "label"),
        (judgebench.load, JUDGE, {"source": "elsewhere"}, "source"),
        (judgebench.load, JUDGE, {"response_A": ["a"]}, "response_A"),
        (rm_bench.load, MATRIX, {"chosen": ["a", "b"]}, "chosen"),
        (rm_bench.load, MATRIX, {"rejected": ["a", "b", 3]}, "rejected"),
        (rm_bench.load, MATRIX, {"prompt": True}, "prompt"),
        (best_of_n.load, BEST, {"score": [1, 0]}, "score"),
        (best_of_n.load, BEST, {"score": [True]}, "score"),
        (best_of_n.load, BEST, {"pred_score": [0.5, True]}, "pred_score"),
        (best_of_n.load, BEST, {"pred": ["1"]}, "pred"),
        (mm_rlhf.load, MEDIA, {"image": None}, "image"),
        (vl_rewardbench.load, MEDIA, {"chosen": 1}, "chosen"),
    ],
)
def test_errors_name_file_line_and_field(write_lines, load, good, change, field):
    """A wrong field is refused with the file, the line and the field's name."""
    path = write_lines([good, "\n", good | change])
    message = failure(load, path)
    assert f"{path}:3: field {field!r}" in message


@pytest.mark.parametrize(
    "line",
    ["{", "[]\n", "3\n", '{"a": "\\ud800', "[" * 100_000, '{"prompt": "\\ud800", "chosen": "c", "rejected": "r"}'],
)
def test_broken_lines_are_named(write_lines, line):
    """A line that is no JSON object is refused with its number."""
    path = write_lines([PAIR, line])
    assert f"{path}:2:" in failure(pairs.load, path)


def test_invalid_utf8_is_named(tmp_path):
    """Bytes that are not UTF-8 are refused with the line's number."""
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}\n')
    assert f"{path}:1:" in failure(pairs.load, path)


def test_missing_data(tmp_path):
    """A missing path, an empty folder and an empty file are errors, not empty reports."""
    assert "no such file" in failure(pairs.load, tmp_path / "nowhere")
    assert "no .jsonl" in failure(pairs.load, tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InvalidInput, match="holds no item"):
        read_items(benchmark_named("pairs"), tmp_path)


def test_unknown_benchmark_names_the_nearest():
    """An unknown benchmark names the nearest known one."""
    with pytest.raises(UnknownName, match="judgebench"):
        benchmark_named("judge-bench")


def test_pairs_with_media_reference_and_chat(write_lines, tmp_path):
    """A pair may carry media beside the file, chat messages, a reference and a problem type."""
    (tmp_path / "red.png").write_bytes(b"png bytes")
    chat = [{"role": "user", "content": [{"type": "image", "media": 0}, {"type": "text", "text": "which?"}]}]
    line = PAIR | {"prompt": chat, "media": [{"path": "red.png"}], "reference": {"answer": "red"}, "id": 7,
                   "problem_type": "vqa", "category": "colour", "group": "g"}  # fmt: skip
    (item,) = pairs.load(write_lines([line]))
    assert (item.id, item.category, item.cluster) == ("7", "colour", "g")
    content = item.content((1, 0))
    assert content["media"] == (Media.from_bytes(b"png bytes"),)
    assert content["media"][0].data == b"png bytes"
    assert [response.text for response in content["responses"]] == ["r", "c"]
    assert content["prompt"] == tuple(chat)
    assert content["reference"] == {"answer": "red"}
    assert content["problem_type"] == "vqa"


def test_a_reference_of_pairs_may_be_the_answer(write_lines):
    """As in a group file; another kind is named in words."""
    (item,) = pairs.load(write_lines([PAIR | {"reference": "red"}]))
    assert item.content((0, 1))["reference"] == {"answer": "red"}
    with pytest.raises(InvalidInput, match="'reference' is an integer, expected text or an object"):
        list(pairs.load(write_lines([PAIR | {"reference": 5}])))


def test_pairs_without_id_are_named_by_line(write_lines):
    """A pair without an id is called by its file and line."""
    assert [item.id for item in pairs.load(write_lines([PAIR, PAIR]))] == ["pairs.jsonl:1", "pairs.jsonl:2"]


def test_judgebench_label(write_lines):
    """``B>A`` makes the second response the better one; the order of the responses stays."""
    (item,) = judgebench.load(write_lines([JUDGE], "gpt.jsonl"))
    assert item.responses == ("a", "b")
    assert item.comparisons[0][:2] == (1, 0)
    assert (item.split, item.category, item.labels["source"]) == ("gpt", "knowledge", "mmlu-pro-law")


def test_rm_bench_levels(write_lines):
    """Below the diagonal is easy, on it normal, above it hard."""
    (item,) = rm_bench.load(write_lines([MATRIX]))
    levels = {(c.better, c.worse - 3): c.level for c in item.comparisons}
    assert len(levels) == 9
    assert {levels[cell] for cell in ((1, 0), (2, 0), (2, 1))} == {"easy"}
    assert {levels[cell] for cell in ((0, 0), (1, 1), (2, 2))} == {"normal"}
    assert {levels[cell] for cell in ((0, 1), (0, 2), (1, 2))} == {"hard"}


def test_rm_bench_safety_domains_are_one(write_lines):
    """Refuse and response items are one domain, and a file without the field gives its own name."""
    plain = {key: value for key, value in MATRIX.items() if key != "domain"}
    lines = [MATRIX | {"domain": "safety-refuse"}, MATRIX | {"domain": "safety-response"}, plain]
    path = write_lines(lines, "chat_filtered.jsonl")
    assert [item.category for item in rm_bench.load(path)] == ["safety", "safety", "chat"]


@pytest.mark.parametrize("load", [mm_rlhf.load, vl_rewardbench.load])
def test_images_are_sent_where_they_are(load, write_lines, tmp_path):
    """An image beside the data file is sent; without it the item says that its media is missing."""
    path = write_lines([MEDIA, MEDIA | {"image": "mcq/2.png"}])
    (tmp_path / "mcq").mkdir()
    (tmp_path / "mcq/1.png").write_bytes(b"png bytes")
    found, missing = load(path)
    assert (found.content((0,))["media"], found.without_media) == ((Media.from_bytes(b"png bytes"),), False)
    assert (missing.media, missing.without_media) == ((), True)


def test_videos_are_not_sent_as_images(write_lines, tmp_path):
    """A video is counted as missing media even where its file exists."""
    (tmp_path / "video").mkdir()
    (tmp_path / "video/1.mp4").write_bytes(b"mp4 bytes")
    line = {key: value for key, value in MEDIA.items() if key != "image"} | {"video": "video/1.mp4"}
    (item,) = mm_rlhf.load(write_lines([line]))
    assert (item.media, item.without_media, item.category) == ((), True, "video")


def test_best_of_n_comparisons_and_votes(write_lines):
    """Every right response is compared with every wrong one; votes count equal answers."""
    line = {"question": "q", "response": ["a", "b", "c"], "score": [True, False, True], "pred": ["4", "5", "4"]}
    (item,) = best_of_n.load(write_lines([line]))
    assert [comparison[:2] for comparison in item.comparisons] == [(0, 1), (2, 1)]
    assert item.known == {"oracle": (1.0, 0.0, 1.0), "majority": (2.0, 1.0, 2.0)}


def test_json_list_files(tmp_path):
    """A ``.json`` file holding one list is read like lines."""
    import json

    (tmp_path / "total.json").write_text(json.dumps([MATRIX, MATRIX | {"chosen": []}]))
    assert "total.json:2: field 'chosen'" in failure(rm_bench.load, tmp_path / "total.json")


def test_limit_keeps_the_first_of_each_split(tmp_path, write_lines):
    """A limit keeps that many items of every split."""
    for name in ("gpt.jsonl", "claude.jsonl"):
        write_lines([JUDGE | {"pair_id": str(n)} for n in range(5)], name)
    items = read_items(benchmark_named("judgebench"), tmp_path, limit=2)
    assert [(item.split, item.id) for item in items] == [("claude", "0"), ("claude", "1"), ("gpt", "0"), ("gpt", "1")]
