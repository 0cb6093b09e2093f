"""The public implementations that verifiers replace, in an environment of their own (``make verifiers-table``).

Reads ``{"peer": name, "pairs": [[reference, response], …]}`` as JSON on standard input and writes ``{"values": […],
"seconds": s}``; a value is None where the implementation raised. Packages are called as their own documentation says;
what is only published as a rule of a few lines is written here from its description.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any


def math_verify() -> Callable[[Any, str], float]:
    """math-verify 0.9.0 with its defaults."""
    from math_verify import parse, verify

    return lambda reference, response: float(bool(verify(parse(f"${reference}$"), parse(response))))


def gsm8k_hashes() -> Callable[[Any, str], float]:
    """openai/grade-school-math: the number behind ``####``, compared as text without commas."""
    pattern = re.compile(r"#### (\-?[0-9.,]+)")

    def grade(reference: Any, response: str) -> float:
        match = pattern.search(response)
        return float(match is not None and match[1].replace(",", "") == str(reference).replace(",", ""))

    return grade


def last_number() -> Callable[[Any, str], float]:
    """The last number of the text, equal as a float: the usual flexible extraction."""
    pattern = re.compile(r"-?[\d,]*\.?\d+")

    def grade(reference: Any, response: str) -> float:
        found = pattern.findall(response)
        return float(bool(found) and float(found[-1].replace(",", "")) == float(str(reference).replace(",", "")))

    return grade


def first_character() -> Callable[[Any, str], float]:
    """SEED-Bench-R1: the first character of the answer is the first one of the reference."""
    return lambda reference, response: float(_tagged(response)[:1] == reference["answer"][:1])


def last_capital() -> Callable[[Any, str], float]:
    """Jigsaw-R1: the last capital letter of the answer."""

    def grade(reference: Any, response: str) -> float:
        return float(re.findall(r"[A-Z]", _tagged(response))[-1:] == [reference["answer"]])

    return grade


def contains() -> Callable[[Any, str], float]:
    """The reference's word occurs in the lower-cased response."""
    return lambda reference, response: float(reference["answer"] in response.lower())


def tag_prefix() -> Callable[[Any, str], float]:
    """SEED-Bench-R1, VLM-R1 and others: a match at the beginning, whatever follows."""
    pattern = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
    return lambda _reference, response: float(pattern.match(response) is not None)


def relaxed() -> Callable[[Any, str], float]:
    """ChartQA's relaxed accuracy: 5 % of the number, percent signs as hundredths, else equal lower-cased text."""

    def number(text: str) -> float | None:
        try:
            return float(text.rstrip("%")) / (100.0 if text.endswith("%") else 1.0)
        except ValueError:
            return None

    def grade(reference: Any, response: str) -> float:
        wanted, said = number(str(reference["answer"])), number(response)
        if wanted and said is not None:
            return float(abs(said - wanted) / abs(wanted) <= 0.05)
        return float(response.lower() == str(reference["answer"]).lower())

    return grade


def no_doubles() -> Callable[[Any, str], float]:
    """VGRP-Bench's sudoku: no digit twice in a row, column or block; blanks are passed over."""

    def grade(reference: Any, response: str) -> float:
        board = json.loads(response)
        size = len(board)
        side = int(size**0.5)
        units = [*board, *zip(*board, strict=True)]
        for top in range(0, size, side):
            for left in range(0, size, side):
                units.append([board[top + y][left + x] for y in range(side) for x in range(side)])
        filled = [[cell for cell in unit if cell] for unit in units]
        return float(all(len(set(unit)) == len(unit) for unit in filled))

    return grade


def ifeval() -> Callable[[Any, str], float]:
    """The instruction classes of google-research/instruction_following_eval, as if-verifiable 0.1.2 carries them."""
    from if_verifiable.ifeval import instructions_registry

    def grade(reference: Any, response: str) -> float:
        for name, given in zip(reference["instruction_id_list"], reference["kwargs"], strict=True):
            instruction = instructions_registry.INSTRUCTION_DICT[name](name)
            instruction.build_description(**given)
            if not (response.strip() and instruction.check_following(response)):
                return 0.0
        return 1.0

    return grade


def rouge_score() -> Callable[[Any, str], float]:
    """rouge-score 0.1.2: the mean F1 of ROUGE-1, -2 and -L with stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)

    def value(reference: Any, response: str) -> float:
        scores = scorer.score(reference["answer"], response)
        return sum(each.fmeasure for each in scores.values()) / 3

    return value


def jiwer() -> Callable[[Any, str], float]:
    """jiwer 4.0.0: max(0, 1 - WER)."""
    import jiwer as library

    return lambda reference, response: max(0.0, 1.0 - library.wer(reference["answer"], response))


def levenshtein() -> Callable[[Any, str], float]:
    """python-Levenshtein 0.27: 1 - distance over the longer length."""
    from Levenshtein import distance

    def value(reference: Any, response: str) -> float:
        one, two = reference["answer"].replace(" ", ""), response.replace(" ", "")
        return 1.0 - distance(one, two) / max(len(one), len(two))

    return value


def shapely_boxes() -> Callable[[Any, str], float]:
    """shapely 2.2.0: IoU of two boxes."""
    from shapely.geometry import box

    def value(reference: Any, response: str) -> float:
        one, two = box(*reference["box"]), box(*json.loads(response))
        shared = one.intersection(two).area
        return float(shared / (one.area + two.area - shared))

    return value


def coco_masks() -> Callable[[Any, str], float]:
    """pycocotools 2.0: IoU of two run-length masks."""
    from pycocotools import mask

    def value(reference: Any, response: str) -> float:
        coded = [mask.frPyObjects(each, *each["size"]) for each in (json.loads(response), reference["mask"])]
        return float(mask.iou([coded[0]], [coded[1]], [0])[0][0])

    return value


def _tagged(text: str) -> str:
    match = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return (match[1] if match else text).strip()


PEERS = {
    each.__name__: each
    for each in (
        math_verify, gsm8k_hashes, last_number, first_character, last_capital, contains, tag_prefix, relaxed, no_doubles,
        ifeval, rouge_score, jiwer, levenshtein, shapely_boxes, coco_masks,
    )
}  # fmt: skip


def main() -> None:
    logging.disable(logging.CRITICAL)
    asked = json.load(sys.stdin)
    grade = PEERS[asked["peer"]]()
    values: list[float | None] = []
    begun = time.process_time()
    for reference, response in asked["pairs"]:
        try:
            values.append(grade(reference, response))
        except Exception:
            values.append(None)
    json.dump({"values": values, "seconds": time.process_time() - begun}, sys.stdout)


if __name__ == "__main__":
    main()
