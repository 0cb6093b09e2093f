"""``cad_code``: builds the response's solid and compares its volume with the reference's."""

import base64
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Literal

from rewardhub.errors import InternalError, NoAnswer, ReferenceUnparseable, Unavailable
from rewardhub.registry import Example, verifier
from rewardhub.sandbox.languages import languages, missing
from rewardhub.sandbox.place import place
from rewardhub.sandbox.runner import Program, isolation, run
from rewardhub.sandbox.verdicts import Limits, Run, Verdict
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.cadlib import overlap, solid
from rewardhub.verifiers.codelib.fences import extract_code
from rewardhub.verifiers.codelib.reference import MAX_TEXT, limits_of
from rewardhub.verifiers.codelib.sources import SANDBOX

LANGUAGE = "python_cad"
_PROBE = Path(solid.__file__).read_text(encoding="utf-8") + "\ntell(brep(made))\n"
_OVERLAP = Path(overlap.__file__).read_text(encoding="utf-8")
_COMPARING = Limits(time_s=60.0, memory_mb=2048)
_SLACK = 1e-6

_BOX = "import cadquery as cq\nresult = cq.Workplane().box(10, 10, 10)\n"
_GOLD = {"code": _BOX}
_EXAMPLES = (
    Example(f"```python\n{_BOX}```", _GOLD, 1.0),
    Example(_BOX.replace("10, 10, 10", "10, 10, 5"), _GOLD, 0.5),
    Example(_BOX.replace("10, 10, 10", "10, 10, 5"), _GOLD, 1.0, {"of": "exec"}),
    Example(_BOX + "raise ValueError", _GOLD, 0.0),
    Example(_BOX + "raise ValueError", _GOLD, 0.0, {"of": "exec"}),
    Example("", _GOLD, None, status=Status.NO_ANSWER),
    Example(_BOX, {}, None, status=Status.REFERENCE_UNPARSEABLE),
)


@verifier(
    "cad_code",
    lane="sandbox",
    signals=False,
    place=place,
    time_limit_s=3600.0,
    sources=(*SANDBOX, "rewardhub.verifiers.cadlib.solid", "rewardhub.verifiers.cadlib.overlap"),
    examples=_EXAMPLES,
)
def cad_code(
    response: Response, reference: Json, *, of: Literal["iou", "exec"] = "iou", align: bool = False
) -> Score:  # fmt: skip
    """The volume that the solids of the response and of ``reference.code`` share over that of their union, in [0, 1].

    Both are CadQuery programs, run in the sandbox; the solid is ``result`` or another usual name, else
    the last one made. A program that fails, makes no valid solid or exceeds its limits is 0, so that a
    recipe may multiply by ``of: exec``, whether there is a solid (the gate of CAD-RL, arXiv 2508.10118).
    With ``align`` the centres of both bounding boxes are moved to the origin first. Solids leave the
    program as BREP and are compared in a run of their own, out of its reach; needs the extra ``cad``.

    Details: ``verdict``, ``iou``, ``volume``, ``reference_volume``, ``text`` (the code) for a later term
    with ``input:``. The reference may have ``limits`` as of ``code``.
    """
    gold_code = reference.get("code")
    if not isinstance(gold_code, str) or not gold_code.strip() or len(gold_code) > MAX_TEXT:
        raise ReferenceUnparseable("reference.code must be a program that makes a solid", field="reference.code")
    limits = limits_of(reference)
    if LANGUAGE not in languages():
        raise Unavailable(f"{LANGUAGE} is not installed here: {missing(LANGUAGE)}", retry_after_s=300.0)
    gold = _gold(gold_code, limits)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    source = extract_code(response.text)
    try:
        made, found = _built(source, limits)
        volumes = _volumes(found, gold, align)
    except _Unbuilt as error:
        return Score(0.0, details=dict(error.result.details()) | {"isolation_level": isolation()})
    iou = volumes["shared"] / (volumes["found"] + volumes["gold"] - volumes["shared"])
    iou = min(1.0, max(0.0, iou))
    details = dict(made.details()) | {
        "iou": iou, "volume": volumes["found"], "reference_volume": volumes["gold"], "isolation_level": isolation(),
        "text": source,
    }  # fmt: skip
    return Score(1.0 if of == "exec" else iou, details=details)


class _Unbuilt(Exception):  # not remembered, unlike what a function returns
    """There is no solid; the run says why."""

    def __init__(self, result: Run, verdict: Verdict | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.result = Run(
            verdict or result.verdict, reason or result.reason, result.stdout, result.stderr, result.wall_s,
            result.cpu_s, result.peak_mb,
        )  # fmt: skip


def _gold(code: str, limits: Limits) -> bytes:
    try:
        return _built(code, limits)[1]
    except _Unbuilt as error:
        reason = f"reference.code makes no solid: {error.result.reason or error.result.verdict}"
        raise ReferenceUnparseable(reason, field="reference.code") from None


@lru_cache(256)
def _built(code: str, limits: Limits) -> tuple[Run, bytes]:
    """The run of a program and its solid as BREP; raises ``_Unbuilt``. The terms of a recipe share it."""
    result = run(Program(code, language=LANGUAGE, probe=_PROBE), "", limits)
    if result.verdict is not Verdict.OK:
        raise _Unbuilt(result)
    if not result.told:
        raise _Unbuilt(result, Verdict.WRONG_ANSWER, "it made no solid")
    return result, result.told


def _volumes(found: bytes, gold: bytes, align: bool) -> dict[str, float]:
    """The volumes of both solids and of what they share; raises ``_Unbuilt`` where the response's is none."""
    solids = {"found": base64.b64encode(found).decode(), "gold": base64.b64encode(gold).decode()}
    result = run(Program(_OVERLAP, language=LANGUAGE), json.dumps(solids | {"align": align}), _COMPARING)
    if result.verdict is not Verdict.OK:
        raise _Unbuilt(result, result.verdict, f"its solid cannot be compared: {result.reason}")
    said = json.loads(result.stdout)
    if said.get("fault") == "gold":
        raise ReferenceUnparseable("reference.code makes no valid solid", field="reference.code")
    if "fault" in said:
        raise _Unbuilt(result, Verdict.WRONG_ANSWER, "its solid is not valid")
    volumes = {name: float(said[name]) for name in ("found", "gold", "shared")}
    least = min(volumes["found"], volumes["gold"])
    if not all(map(math.isfinite, volumes.values())) or volumes["shared"] > least * (1 + _SLACK):
        raise InternalError("the kernel shares more than there is")
    return volumes
