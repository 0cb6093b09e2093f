"""Programs written for five problems of the Code Contests sample: all cases pass, mutants fail."""

import json
from pathlib import Path

import pytest

from rewardhub.types import Group, Response
from rewardhub.verifiers.code_exec import code

PROGRAMS = {
    2: (
        "s = input().strip()\nwhere = {}\nfor i, c in enumerate(s): where.setdefault(c, []).append(i)\n"
        "far = {0: 0}\nedge = [0]\nwhile len(s) - 1 not in far:\n    new = []\n    for i in edge:\n"
        "        for j in (i - 1, i + 1, *where.pop(s[i], ())):\n"
        "            if 0 <= j < len(s) and j not in far:\n                far[j] = far[i] + 1\n                new.append(j)\n"
        "    edge = new\nprint(far[len(s) - 1])\n",
        ("far[i] + 1", "far[i] + 2"),
    ),
    3: (
        "from collections import Counter\nn = int(input())\nold = Counter(input().strip() for _ in range(n))\n"
        "new = Counter(input().strip() for _ in range(n))\nprint(sum((old - new).values()))\n",
        ("(old - new)", "(old | new)"),
    ),
    10: (
        "n = int(input())\na = list(map(int, input().split()))\nl, r, last, out = 0, n - 1, 0, []\nwhile l <= r:\n"
        "    can_l, can_r = a[l] > last, a[r] > last\n    if not can_l and not can_r: break\n"
        "    if can_l and can_r and a[l] == a[r]:\n        x = 1\n        while l + x <= r and a[l + x] > a[l + x - 1]: x += 1\n"
        "        y = 1\n        while r - y >= l and a[r - y] > a[r - y + 1]: y += 1\n"
        "        out.append('L' * x if x > y else 'R' * y)\n        break\n"
        "    if can_l and (not can_r or a[l] < a[r]):\n        last = a[l]; l += 1; out.append('L')\n"
        "    else:\n        last = a[r]; r -= 1; out.append('R')\ns = ''.join(out)\nprint(len(s))\nprint(s)\n",
        ("print(len(s))", "print(len(s) + 1)"),
    ),
    17: (
        "n, m = input().strip(), input().strip()\nd = sorted(n)\nk = next((i for i, c in enumerate(d) if c > '0'), 0)\n"
        "d[0], d[k] = d[k], d[0]\nprint('OK' if ''.join(d) == m else 'WRONG_ANSWER')\n",
        ("== m", "!= m"),
    ),
    19: (
        "from itertools import accumulate\nfor _ in range(int(input())):\n    a, b, q = map(int, input().split())\n    p = a * b\n"
        "    t = [0, *accumulate(int(x % a % b != x % b % a) for x in range(p))]\n"
        "    f = lambda n: n // p * t[p] + t[n % p]\n    out = []\n    for _ in range(q):\n"
        "        l, r = map(int, input().split())\n        out.append(f(r + 1) - f(l))\n    print(*out, sep=chr(10))\n",
        ("f(r + 1)", "f(r + 2)"),
    ),
}

LAID_OUT_FREELY = {19}
SAME_WORDS = "import json, sys\nd = json.load(sys.stdin)\nprint(int(d['stdout'].split() == d['expected'].split()))"


@pytest.mark.parametrize("number", PROGRAMS)
def test_program_passes_all_cases(number: int, data_dir: Path) -> None:
    """The right program is 1.0 on every case of its problem, its mutant 0.0."""
    lines = (data_dir / "code_contests_sample/code_contests_sample.jsonl").read_text().splitlines()
    row = next(row for row in map(json.loads, lines) if row["id"] == number)
    tests = json.loads(row["test"]) if isinstance(row["test"], str) else row["test"]
    cases = [{"stdin": case["input"]["stdin"], "stdout": case["output"]["stdout"]} for case in tests]
    text, (old, new) = PROGRAMS[number]
    assert old in text
    responses = (Response(f"```python\n{text}```"), Response(f"```python\n{text.replace(old, new)}```"))
    reference = {"language": "python", "cases": cases}
    if number in LAID_OUT_FREELY:
        reference |= {"mode": "judge", "checker": SAME_WORDS}
    group = Group("g", responses=responses, reference=reference)
    column = code.bind({}).score(group, [0, 1])
    assert column.values == [1.0, 0.0], column.details
