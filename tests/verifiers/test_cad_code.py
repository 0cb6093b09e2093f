"""``cad_code``: volumes known by hand, real solids, programs that fail or lie."""

import math

import pytest

pytest.importorskip("cadquery", reason="the extra cad is not installed")

from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.cad_code import cad_code

CUBE = "import cadquery as cq\nresult = cq.Workplane().box(10, 10, 10)\n"


def score(text: str, gold: str = CUBE, limits: Json | None = None, **params: object) -> Score:
    """The score of one response."""
    reference = {"code": gold} | ({"limits": limits} if limits else {})
    group = Group("g", responses=(Response(text),), reference=reference)
    return cad_code.bind(params).score(group, [0]).row(0)


KNOWN = {
    "the same": (CUBE, 1.0),
    "half inside": (CUBE.replace("10, 10, 10", "10, 10, 5"), 0.5),
    "twice around": (CUBE.replace("10, 10, 10", "20, 10, 10"), 0.5),
    "moved by half": (CUBE.replace(".box", ".center(5, 0).box"), 1 / 3),
    "apart": (CUBE.replace(".box", ".center(50, 0).box"), 0.0),
    "a ball inside": ("import cadquery as cq\nresult = cq.Workplane().sphere(5)", math.pi / 6),
    "a hole": (CUBE + "result = result.faces('>Z').workplane().hole(4)", 1 - math.pi * 4 / 100),
    "a shape": ("from cadquery import Solid, Vector\nr = Solid.makeBox(10, 10, 10, Vector(-5, -5, -5))", 1.0),
    "an assembly": (CUBE + "result = cq.Assembly().add(result)", 1.0),
    "another name": ("import cadquery as cq\nthing = cq.Workplane().box(10, 10, 10)", 1.0),
    "two parts": ("import cadquery as cq\nresult = cq.Workplane().pushPoints([(0, 0), (50, 0)]).box(10, 10, 10)", 0.5),
}


@pytest.mark.parametrize("name", KNOWN)
def test_volume_known_by_hand(name: str) -> None:
    """Shared volume over that of the union; 10x10x5 inside of 10x10x10 is 0.5."""
    text, iou = KNOWN[name]
    result = score(f"```python\n{text}\n```")
    assert result.value == pytest.approx(iou, abs=1e-6), result
    assert result.details["verdict"] == "ok"


def test_alignment() -> None:
    """With ``align`` only the shape counts, not where it lies."""
    assert score(CUBE.replace(".box", ".center(50, 7).box"), align=True).value == pytest.approx(1.0)


FAILING = {
    "an exception": (CUBE + "raise ValueError", "runtime_error"),
    "no solid": ("x = 1", "wrong_answer"),
    "a face only": ("import cadquery as cq\nresult = cq.Workplane().rect(1, 1)", "wrong_answer"),
    "a loop": ("while True: pass", "time_limit"),
    "a bad argument": ("import cadquery as cq\nresult = cq.Workplane().box(-1, 0, 0)", "runtime_error"),
    "a forged solid": (CUBE + "import os\nos.write(3, b'x' * 1000)\nos._exit(0)", "runtime_error"),
    "the host's files": ("open('/etc/passwd')", "runtime_error"),
    "a command": ("import subprocess\nsubprocess.run(['id'])", "runtime_error"),
}


@pytest.mark.parametrize("name", FAILING)
def test_failing_program_is_zero(name: str) -> None:
    """The gate: whatever the geometry, a program that fails is 0 with its verdict."""
    text, verdict = FAILING[name]
    result = score(text, limits={"time_s": 4})
    assert (result.value, result.status, result.details["verdict"]) == (0.0, Status.OK, verdict), result
    if name not in ("a forged solid",):
        assert score(text, limits={"time_s": 4}, of="exec").value == 0.0


def test_the_score_cannot_be_forged() -> None:
    """What a program prints or patches does not reach the comparison."""
    lie = 'import cadquery as cq\nprint(\'{"found": 1, "gold": 1, "shared": 1}\')\ncq.Shape.Volume = lambda s: 1000.0\n'
    assert score(lie + CUBE.replace("10, 10, 10", "10, 10, 5")).value == pytest.approx(0.5)


@pytest.mark.parametrize("reference", [{}, {"code": 3}, {"code": "1 / 0"}, {"code": "x = 1"}])
def test_bad_reference_names_its_field(reference: Json) -> None:
    """A reference without a solid is the caller's fault."""
    group = Group("g", responses=(Response(CUBE),), reference=reference)
    result = cad_code.bind({}).score(group, [0]).row(0)
    assert (result.value, result.status, result.details["field"]) == (
        None,
        Status.REFERENCE_UNPARSEABLE,
        "reference.code",
    )
