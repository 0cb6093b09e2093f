"""Figures that are known from the data, computed with the official formulas."""

import json
from collections import Counter

import pytest

from rewardhub.bench import control, run
from rewardhub.bench.benchmarks import benchmark_named
from rewardhub.bench.runner import read_items
from rewardhub.types import Call


def length_report(name, data, out):
    return run(name, data, control("length"), Call(recipe="length"), out=out)


def slices(split, field):
    return {each.name: each.scorer.value for each in getattr(split, field)}


def test_judgebench_length_control(data_dir, tmp_path):
    """Length in characters gets 46.0 on the GPT pairs and 43.7 on the Claude pairs by the official metric."""
    report = length_report("judgebench", data_dir / "judgebench", tmp_path)
    assert {name: round(100 * value, 1) for name, value in report.official.items()} == {"gpt": 46.0, "claude": 43.7}
    sizes = {split.name: split.items for split in report.splits}
    assert sizes == {"gpt": 350, "claude": 270}
    assert not report.warnings


def test_judgebench_domains(data_dir, tmp_path):
    """The domains of the GPT pairs have their published sizes and sum to the official micro share."""
    report = length_report("judgebench", data_dir / "judgebench/gpt.jsonl", tmp_path)
    (split,) = report.splits
    counts = {each.name: each.scorer.count for each in split.categories}
    assert counts == {"knowledge": 154, "reasoning": 98, "math": 56, "coding": 42}
    right = sum(each.scorer.value * each.scorer.count for each in split.categories)
    assert right == pytest.approx(350 * split.figures[0].scorer.value) == pytest.approx(161)


def test_rm_bench_length_control(data_dir, tmp_path):
    """Length gets the known easy, normal and hard accuracies of the chat and code domains."""
    report = length_report("rm_bench", data_dir / "rm_bench", tmp_path)
    (split,) = report.splits
    cells = {name: round(value, 3) for name, value in slices(split, "cells").items()}
    assert cells == {
        "chat easy": 0.811, "chat normal": 0.284, "chat hard": 0.026,
        "code easy": 0.775, "code normal": 0.519, "code hard": 0.254,
    }  # fmt: skip
    domains = slices(split, "categories")
    assert split.figures[0].scorer.value == pytest.approx((domains["chat"] + domains["code"]) / 2)
    levels = slices(split, "levels")
    assert split.figures[0].scorer.value == pytest.approx(sum(levels.values()) / 3)
    assert any("math" in warning for warning in report.warnings)


def test_random_control_is_near_half(data_dir, tmp_path):
    """A random reward's interval covers one half on JudgeBench."""
    report = run(
        "judgebench", data_dir / "judgebench/gpt.jsonl", control("random"), Call(recipe="random"), out=tmp_path
    )
    estimate = report.splits[0].figures[0].scorer
    assert estimate.low < 0.5 < estimate.high
    assert report.splits[0].figures[0].controls["random"] == estimate


def test_mm_rlhf_length_control(data_dir, tmp_path):
    """Length gets Acc 71.8 over 170 pairs and Acc+ 47.8 over 46 ids."""
    report = length_report("mm_rlhf_rewardbench", data_dir / "mm_rlhf_rewardbench_text", tmp_path)
    official = {
        each.policy.name: (round(100 * each.scorer.value, 1), each.scorer.count)
        for each in report.splits[0].figures
        if each.official
    }
    assert official == {"Acc": (71.8, 170), "Acc+": (47.8, 46)}
    assert report.warnings == ("170 items lack their media: the scorer saw the text only",)


def test_vl_rewardbench_groups_and_length_control(data_dir, tmp_path):
    """Length gets 42.6; the official groups are 183/749/318, the lower-case ones 484/448/318."""
    report = length_report("vl_rewardbench", data_dir / "vl_rewardbench_text", tmp_path)
    (split,) = report.splits
    assert round(100 * split.figures[0].scorer.value, 1) == 42.6
    assert {each.name: each.scorer.count for each in split.categories} == {
        "general": 183, "hallucination": 749, "reasoning": 318,
    }  # fmt: skip
    items = read_items(benchmark_named("vl_rewardbench"), data_dir / "vl_rewardbench_text")
    wrong = Counter(item.labels["lower-case groups"] for item in items)
    assert wrong == {"general": 484, "hallucination": 448, "reasoning": 318}
    macro, confused = (split.figures[number].scorer.value for number in (1, 2))
    assert macro != confused


def test_vl_rewardbench_groups_agree_with_the_file(data_dir):
    """The groups computed from the ids are those that the data file states."""
    path = data_dir / "vl_rewardbench_text/data.jsonl"
    items = read_items(benchmark_named("vl_rewardbench"), path)
    stated = [json.loads(line)["group"] for line in path.read_text().splitlines()]
    assert [item.category for item in items] == stated


def test_best_of_eight(data_dir, tmp_path):
    """The published scores give RM@8 94, the votes Maj@8 93, the labels pass@8 96; one response 91 on average."""
    report = length_report("best_of_n", data_dir / "best_of_8_math", tmp_path)
    (split,) = report.splits
    main = split.figures[0]
    known = {name: 100 * main.controls[name].value for name in ("published", "majority", "oracle")}
    assert known == pytest.approx({"published": 94, "majority": 93, "oracle": 96})
    items = read_items(benchmark_named("best_of_n"), data_dir / "best_of_8_math")
    assert sum(map(sum, (item.correct for item in items))) / 8 == pytest.approx(91)
    figures = {each.policy.name: each for each in split.figures}
    assert figures["pairs of right and wrong"].controls["oracle"].value == 1.0
