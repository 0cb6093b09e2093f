"""Math answers per second on one core: the `math` verifier against Math-Verify, with equal verdicts.

Three sets, each half right and half wrong answers: a realistic mix (70 % integers and decimals, 15 %
fractions and surds, 15 % polynomials, sets, intervals and matrices), integers only, and the mix with 1 % of
pathological answers. The verifier runs as the hub runs it: its fast path in process, the rest by the full
function. Pairs on which the two disagree are counted and left out of both timings.

    .venv/bin/python -P tests/bench/math.py [PAIRS]
"""

import logging
import os
import random
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from hub_process import cores, hardware, report

from rewardhub.registry import default_registry
from rewardhub.types import Group, Response, Status

Pair = tuple[str, str]
FILLER = "We compute step by step, carefully. " * 20


def integer(rng: random.Random, right: bool) -> Pair:
    value = rng.randrange(-5_000, 100_000)
    return str(value), str(value if right else value + rng.choice([-1, 1, 10]))


def decimal(rng: random.Random, right: bool) -> Pair:
    value = rng.randrange(1, 10_000)
    return f"{value / 100:.2f}", f"{value / 100 + (0 if right else 0.13):.2f}"


def fraction(rng: random.Random, right: bool) -> Pair:
    a, b, k = rng.randrange(1, 40), rng.randrange(2, 40), rng.randrange(1, 5)
    return f"\\frac{{{a}}}{{{b}}}", f"\\frac{{{a * k + (0 if right else 1)}}}{{{b * k}}}"


def surd(rng: random.Random, right: bool) -> Pair:
    a, b = rng.randrange(2, 9), rng.choice([2, 3, 5, 7])
    return f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b + (0 if right else b)}}}"


def polynomial(rng: random.Random, right: bool) -> Pair:
    a, b = rng.randrange(1, 9), rng.randrange(1, 9)
    return f"(x+{a})(x-{b})", f"x^2 + {a - b}x - {a * b + (0 if right else 1)}".replace("+ -", "- ")


def several(rng: random.Random, right: bool) -> Pair:
    values = rng.sample(range(50), 3)
    other = values[::-1] if right else [values[0], values[1], values[2] + 51]
    return f"\\{{{', '.join(map(str, values))}\\}}", f"\\{{{', '.join(map(str, other))}\\}}"


def interval(rng: random.Random, right: bool) -> Pair:
    a, b = rng.randrange(10), rng.randrange(11, 30)
    return f"[{a}, {b})", f"[{a}, {b if right else b + 1})"


def matrix(rng: random.Random, right: bool) -> Pair:
    a, b, c, d = (rng.randrange(10) for _ in range(4))
    rows = "\\begin{{pmatrix}} {} & {} \\\\ {} & {} \\end{{pmatrix}}"
    return rows.format(a, b, c, d), rows.format(a, b, c, d if right else d + 1)


MIX = [
    *[integer] * 45,
    *[decimal] * 25,
    *[fraction] * 8,
    *[surd] * 7,
    *[polynomial] * 5,
    *[several] * 4,
    *[interval] * 3,
    *[matrix] * 3,
]
BAD = ["9^{9^{9^{9}}}", "99999999!", "2^{10^9}", "(" * 500 + "x" + ")" * 500, "\\sqrt{" * 300 + "2" + "}" * 300]


def pairs(count: int, makers: list, seed: int) -> list[Pair]:
    rng = random.Random(seed)
    return [rng.choice(makers)(rng, n % 2 == 0) for n in range(count)]


def response_of(answer: str) -> str:
    return f"{FILLER} Therefore the answer is $\\boxed{{{answer}}}$."


def ours(bound, groups: list[Group]) -> list[bool]:
    """Verdicts as the hub reaches them."""
    verdicts = []
    for group in groups:
        column = bound.try_fast(group, [0])
        if column is None or column.statuses[0] is Status.SKIPPED:
            column = bound.score(group, [0])
        verdicts.append(column.values[0] == 1.0)
    return verdicts


def theirs(items: list[tuple[str, str]]) -> list[bool]:
    from math_verify import parse, verify

    return [bool(verify(parse(f"${gold}$"), parse(text))) for gold, text in items]


def timed(run, *arguments) -> tuple[float, list[bool]]:
    started = time.process_time()
    verdicts = run(*arguments)
    return time.process_time() - started, verdicts


def compare(name: str, chosen: list[Pair], bound) -> tuple[float, float]:
    """Seconds of ours and theirs on the pairs where both agree."""
    items = [(gold, response_of(answer)) for gold, answer in chosen]
    groups = [Group("g", "", (Response(text),), {"answer": gold}) for gold, text in items]
    agree = [mine == other for mine, other in zip(ours(bound, groups), theirs(items), strict=True)]
    kept = [n for n, same in enumerate(agree) if same]
    print(f"{name}: {len(kept)} of {len(items)} verdicts agree")
    assert len(kept) >= 0.99 * len(items)
    mine = min(timed(ours, bound, [groups[n] for n in kept])[0] for _ in range(3))
    other = min(timed(theirs, [items[n] for n in kept])[0] for _ in range(2))
    print(
        f"{name}: ours {len(kept) / mine:,.0f}/s, Math-Verify {len(kept) / other:,.0f}/s, {len(FILLER)} characters each"
    )
    return mine, other


def main(count: int) -> None:
    print(f"{hardware()}; one core, process time")
    os.sched_setaffinity(0, {cores()[1]})
    logging.disable(logging.CRITICAL)
    bound = default_registry().get("math").bind({})
    mine, other = compare("mix", pairs(count, MIX, 1), bound)
    report("math.mix", other / mine, "Math-Verify")
    mine, other = compare("integers", pairs(count, [integer], 2), bound)
    report("math.integers", other / mine, "Math-Verify")
    plain = [Group("g", "", (Response(response_of(a)),), {"answer": g}) for g, a in pairs(20 * count, MIX, 3)]
    rng = random.Random(4)
    poisoned = list(plain)
    for n in rng.sample(range(len(plain)), len(plain) // 100):
        poisoned[n] = Group("g", "", (Response(response_of(rng.choice(BAD))),), {"answer": "7"})
    ours(bound, plain[:200])
    clean = min(timed(ours, bound, plain)[0] for _ in range(3))
    dirty = min(timed(ours, bound, poisoned)[0] for _ in range(3))
    report("math.one_percent_pathological", clean / dirty, "the same without")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 400)
