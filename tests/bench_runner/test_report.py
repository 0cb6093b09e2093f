"""The report as data, page and text."""

import json
import re
from html.parser import HTMLParser

import pytest

from rewardhub.bench import run
from rewardhub.types import Call, Status


class Reader(HTMLParser):
    """Collects tags and checks that they close."""

    VOID = {"meta", "line", "circle", "rect", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)


@pytest.fixture
def report(write_lines, hash_rewards, tmp_path):
    evil = "<script>alert(1)</script>"
    lines = [
        {"id": f"{evil}{n}", "prompt": "p", "chosen": "c" * (n + 1), "rejected": f"r{n}", "category": f"&{n % 2}<b>"}
        for n in range(30)
    ]
    lines += [{"prompt": "p", "chosen": "same", "rejected": "same", "tie": True, "category": "&0<b>"}]
    rewards = hash_rewards(fails={"r3": [Status.JUDGE_UNPARSEABLE] * 5})
    return run("pairs", write_lines(lines), rewards, Call(recipe='a"<i>b'), out=tmp_path / "out")


def test_page_stands_alone_and_escapes(report, tmp_path):
    """The page is well formed, loads nothing, runs nothing and shows texts of the data as text."""
    page = (tmp_path / "out/pairs.a__i_b.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert not {"script", "link", "img", "iframe", "i"} & set(reader.tags)
    assert not re.search(r"(src|href|url|@import)\s*[=(]", page)
    assert "http" not in page
    assert "$" not in page
    assert "&lt;script&gt;" in page


def test_page_shows_the_figures(report, tmp_path):
    """The page holds the official figure, its interval, the controls and the failed status."""
    page = (tmp_path / "out/pairs.a__i_b.html").read_text()
    estimate = report.splits[0].figures[0].scorer
    assert f"{100 * estimate.value:.1f} %" in page
    assert f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}" in page
    for word in ("length", "shortest", "random", "judge_unparseable", "invalid dropped", "labelled ties"):
        assert word in page


def test_json_holds_everything(report, tmp_path):
    """The JSON report names data, versions, fingerprints, policies, intervals, controls and statuses."""
    values = json.loads((tmp_path / "out/pairs.a__i_b.json").read_text())
    assert values["schema"] == "rewardhub.bench/1"
    assert len(values["data"]["pairs.jsonl"]) == 64
    assert set(values["versions"]) == {"rewardhub", "python"}
    assert values["fingerprints"] == ["hash-1"]
    split = values["splits"][0]
    assert split["figures"][0]["policy"]["invalid"] == "wrong"
    assert set(split["figures"][0]["scorer"]) == {"value", "low", "high", "count", "method"}
    assert set(split["figures"][0]["controls"]) == {"length", "shortest", "random"}
    assert split["statuses"] == {"ok": 61, "judge_unparseable": 1}
    assert (split["label_ties"], split["equal_label_ties"]) == (1, 1)
    assert [each["name"] for each in split["categories"]] == ["&0<b>", "&1<b>"]


def test_text_is_short_and_says_what_matters(report):
    """The text names the scorer, marks the official figure, and tells ties, statuses and files."""
    text = report.text()
    assert text.startswith('Preference pairs: a"<i>b')
    assert "* accuracy" in text
    assert "labelled ties: 1, scored equal: 1" in text
    assert "judge_unparseable 1; 1 pairs invalid" in text
    assert "pairs.a__i_b.html" in text
    assert len(text.splitlines()) < 25


def test_reports_are_reproducible(pairs, hash_rewards, tmp_path):
    """Two runs of the same scorer on the same data differ in nothing but the time."""
    first, second = (
        run("pairs", pairs, hash_rewards(), Call(recipe="hash"), out=tmp_path / name).as_json() for name in "ab"
    )
    for values in (first, second):
        values.pop("created")
        values.pop("files")
    assert first == second
