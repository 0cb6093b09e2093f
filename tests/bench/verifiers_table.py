"""The table of verifiers: range, speed, and errors beside the public implementations they replace.

    make verifiers-table        (installs the public ones into an environment of their own)
    REWARDHUB_PEERS_PYTHON=… .venv/bin/python -P tests/bench/verifiers_table.py

Writes ``tests/bench/VERIFIERS.md``. An implementation that is not installed is left out, with a line that says so.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
import verifier_pairs as made
from hub_process import hardware
from verifier_pairs import Maker, Pair

from rewardhub.registry import default_registry
from rewardhub.scorer import BoundVerifier, Verifier
from rewardhub.types import Group, Response, Status

HERE = Path(__file__).parent
OUT = HERE / "VERIFIERS.md"
PYTHON = os.environ.get("REWARDHUB_PEERS_PYTHON", sys.executable)
REGISTRY = default_registry()

VERDICTS: list[tuple[str, str, Maker, str, dict[str, object]]] = [
    ("math", "answers of every kind, in a box", made.math_table, "math_verify", {}),
    ("math", "other people's formats; hedges", made.math_formats, "math_verify", {}),
    ("math", "GSM8K solutions, right and off by one", made.gsm8k, "gsm8k_hashes", {}),
    ("math", "the same", made.gsm8k, "math_verify", {}),
    ("math", "MATH-500 solutions, own and another's answer", made.math500, "math_verify", {}),
    ("math", "best of 8, published labels", made.best_of_8, "math_verify", {}),
    ("numeric", "other people's formats; hedges", made.math_formats, "last_number", {}),
    ("mcq", "letters stated, several, denied", made.choices, "first_character", {}),
    ("mcq", "the same", made.choices, "last_capital", {}),
    ("yes_no", "stated, both, denied", made.affirmations, "contains", {}),
    ("tags", "layouts kept and broken", made.layouts, "tag_prefix", {}),
    ("chart_relaxed", "3 % and 20 % off, hedged, years", made.chart_values, "relaxed", {}),
    ("grid_puzzle", "sudoku solved, blank, foreign digits, givens changed", made.sudokus, "no_doubles", {}),
    ("ifeval", "25 types followed and violated", made.instructions, "ifeval", {}),
]
VALUES: list[tuple[str, Maker, str, dict[str, object]]] = [
    ("rouge", made.sentences, "rouge_score", {}),
    ("ocr_wer", made.sentences, "jiwer", {}),
    ("ocr_edit", made.sentences, "levenshtein", {}),
    ("box_iou", made.box_pairs, "shapely_boxes", {}),
    ("mask_iou", made.masks, "coco_masks", {}),
]


def bound(name: str, params: dict[str, object]) -> BoundVerifier:
    scorer = REGISTRY.get(name)
    assert isinstance(scorer, Verifier)
    return scorer.bind(params)


def ours(verifier: BoundVerifier, pairs: Sequence[Pair]) -> tuple[list[float | None], float]:
    """Values as the hub reaches them, and the seconds of processor time, beyond a first warm scoring."""
    groups = [Group("g", "", (Response(pair.response),), pair.reference) for pair in pairs]
    values = []
    verifier.score(groups[0], [0])
    begun = time.process_time()
    for group in groups:
        column = verifier.try_fast(group, [0])
        if column is None or column.statuses[0] is Status.SKIPPED:
            column = verifier.score(group, [0])
        values.append(column.values[0])
    return values, time.process_time() - begun


def peers(name: str, pairs: Sequence[Pair], verifier: str) -> tuple[list[float | None], float] | None:
    """The same of a public implementation; None where it is not installed."""
    bare = verifier in {"math", "numeric"}
    asked = [[pair.reference["answer"] if bare else pair.reference, pair.response] for pair in pairs]
    found = subprocess.run(
        [PYTHON, "-P", str(HERE / "peer_verifiers.py")],
        input=json.dumps({"peer": name, "pairs": asked}), capture_output=True, text=True, check=False, timeout=1_800,
    )  # fmt: skip
    if found.returncode:
        return None
    answer = json.loads(found.stdout)
    return answer["values"], answer["seconds"]


def errors(values: Sequence[float | None], pairs: Sequence[Pair]) -> str:
    """Wrong ones taken for right, and right ones for wrong, in percent of each."""
    shares = []
    for label in (0.0, 1.0):
        of_label = [value == 1.0 for value, pair in zip(values, pairs, strict=True) if pair.label == label]
        shares.append(100 * sum(right == (label == 0.0) for right in of_label) / len(of_label) if of_label else 0.0)
    return f"{shares[0]:.1f} | {shares[1]:.1f}"


def rate(count: int, seconds: float) -> str:
    return f"{count / max(seconds, 1e-9):,.0f}"


def verdict_rows() -> list[str]:
    found = [
        "| verifier | on | right, wrong | false + % | false − % | peer | its false + % | its false − % | per s | peer's |"
    ]
    found.append("|---|---|---|---|---|---|---|---|---|---|")
    for name, what, make, peer, params in VERDICTS:
        pairs = make()
        other = peers(peer, pairs, name) if pairs else None
        if other is None:
            print(f"{name}: {peer} is not installed, or the data of {what!r} is not there", file=sys.stderr)
            continue
        values, seconds = ours(bound(name, params), pairs)
        right = sum(pair.label == 1.0 for pair in pairs)
        speeds = f"{rate(len(pairs), seconds)} | {rate(len(pairs), other[1])}"
        counts = f"{right}, {len(pairs) - right}"
        answered = [(value, pair) for value, pair in zip(other[0], pairs, strict=True) if value is not None]
        raised = len(pairs) - len(answered)
        named = f"{peer}, raises on {raised}" if raised else peer
        theirs = errors([value for value, _ in answered], [pair for _, pair in answered])
        found.append(f"| `{name}` | {what} | {counts} | {errors(values, pairs)} | {named} | {theirs} | {speeds} |")
    return found


def value_rows() -> list[str]:
    found = ["| verifier | pairs | peer | largest difference | per s | peer's |", "|---|---|---|---|---|---|"]
    for name, make, peer, params in VALUES:
        pairs = make()
        other = peers(peer, pairs, name)
        if other is None:
            print(f"{name}: {peer} is not installed", file=sys.stderr)
            continue
        values, seconds = ours(bound(name, params), pairs)
        apart = max(abs((a or 0.0) - (b or 0.0)) for a, b in zip(values, other[0], strict=True))
        found.append(
            f"| `{name}` | {len(pairs)} | {peer} | {apart:.1e} | {rate(len(pairs), seconds)} | {rate(len(pairs), other[1])} |"
        )
    return found


def all_rows() -> list[str]:
    """Every verifier with its range, where it runs, and how many of its own examples it scores in a second."""
    found = ["| verifier | range | per | lane | examples | scorings per s |", "|---|---|---|---|---|---|"]
    for scorer in sorted(REGISTRY, key=lambda each: each.info.name):
        if not isinstance(scorer, Verifier):
            continue
        info = scorer.info
        low, high = info.range
        speed = "programs" if info.lane == "sandbox" else own_speed(scorer)
        found.append(
            f"| `{info.name}` | {low:g} … {high:g} | {info.scope} | {info.lane} | {len(scorer.examples)} | {speed} |"
        )
    return found


def difference_rows() -> list[str]:
    """Why `math` and Math-Verify differ on the recorded pairs, with one pair each."""
    seen: dict[str, tuple[int, list[str]]] = {}
    for theirs, ours_, reference, answer, *reason in made.rows("math_verify_pairs.tsv", head=0):
        if theirs != ours_ and reason:
            count, first = seen.get(reason[0], (0, [reference, answer, ours_, theirs]))
            seen[reason[0]] = (count + 1, first)
    found = ["| why | pairs | reference | answer | ours | Math-Verify |", "|---|---|---|---|---|---|"]
    for reason, (count, (reference, answer, mine, other)) in sorted(seen.items()):
        reference, answer = (f"`{text}`".replace("|", "\\|") for text in (reference, answer))
        found.append(f"| {reason} | {count} | {reference} | {answer} | {mine} | {other} |")
    return found


def own_speed(scorer: Verifier) -> str:
    cases = [(scorer.bind(each.params), each.as_group()) for each in scorer.examples]
    done, begun = 0, time.process_time()
    while time.process_time() - begun < 0.05:
        for verifier, group in cases:
            verifier.score(group, list(range(len(group.responses))))
            done += len(group.responses)
    return rate(done, time.process_time() - begun)


def main() -> None:
    text = [
        "# Verifiers: errors, speed, range", "",
        "Written by `make verifiers-table`. False +: wrong responses that earn 1, in percent of the wrong ones; false −: right",
        "ones that do not. Labels: the recorded tables of `tests/verifiers`, public data, and generated responses whose label",
        "follows from how they were made. Pairs on which a peer raises are left out of its errors. Peers are named in `tests/bench/peer_verifiers.py`: packages of the registry, and",
        "published rules written from their description.", "",
        f"{hardware()}; processor time of one core, parsing and extraction included.", "", "## Verdicts", "", *verdict_rows(), "",
        "## Values", "", *value_rows(), "", "## Where `math` and Math-Verify differ on purpose", "",
        "Every pair with its reason: `tests/verifiers/math_verify_pairs.tsv`, `tests/verifiers/math_pairs.tsv`.", "",
        *difference_rows(), "", "## All", "", *all_rows(), "",
    ]  # fmt: skip
    OUT.write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
