"""``chart_code``: draws the response's chart and compares it with the reference's."""

import base64
import binascii
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rewardhub.errors import InvalidInput, NoAnswer, ReferenceUnparseable, RewardHubError, Unavailable
from rewardhub.media.decode import inspect
from rewardhub.registry import Example, verifier
from rewardhub.sandbox.languages import languages, missing
from rewardhub.sandbox.place import place
from rewardhub.sandbox.runner import Program, isolation, run
from rewardhub.sandbox.verdicts import Limits, Run, Verdict
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.chartlib import probe
from rewardhub.verifiers.chartlib.compare import Figure, compare, read_figure
from rewardhub.verifiers.codelib.fences import extract_code
from rewardhub.verifiers.codelib.reference import MAX_TEXT, limits_of
from rewardhub.verifiers.codelib.sources import SANDBOX

LANGUAGE = "python_charts"
Of = Literal["text", "exec", "data", "type", "layout", "labels"]

_PARTS = ("data", "type", "layout", "text")
_KEPT = "import matplotlib.pyplot as _plt; _plt.close = lambda *_: None; del _plt\n"
_PROBE = Path(probe.__file__).read_text(encoding="utf-8") + "\ntell(figure_as_json())\n"

_BAR = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b', 'c'], [10, 20, 30])\nplt.ylabel('Sales')\nplt.show()\n"
_GOLD = {"code": _BAR}
_NEAR = _BAR.replace("10, 20, 30", "10.4, 21.2, 30")


@verifier(
    "chart_code",
    lane="sandbox",
    signals=False,
    place=place,
    time_limit_s=3600.0,
    sources=(*SANDBOX, "rewardhub.verifiers.chartlib.probe", "rewardhub.verifiers.chartlib.compare"),
    libraries=("matplotlib", "rapidfuzz"),
    examples=(
        Example(f"```python\n{_BAR}```", _GOLD, 1.0),
        Example(_NEAR, _GOLD, 2 / 3, {"of": "data"}),
        Example(_NEAR, _GOLD, 1.0, {"of": "data", "tolerance": 0.1}),
        Example(_NEAR, _GOLD, (2 / 3 + 3) / 4),
        Example(_BAR.replace("Sales", "Sale"), _GOLD, 0.95, {"of": "labels"}),
        Example(_BAR.replace("plt.bar", "plt.plot"), _GOLD, 0.0, {"of": "type"}),
        Example(_BAR.replace("plt.bar", "plt.subplot(1, 2, 1).bar"), _GOLD, 0.0, {"of": "layout"}),
        Example(_BAR + "1 / 0", _GOLD, 0.0, {"of": "exec"}),
        Example("print('no chart')", _GOLD, 0.0),
        Example("", _GOLD, None, status=Status.NO_ANSWER),
        Example(_BAR, {"code": "1 / 0"}, None, status=Status.REFERENCE_UNPARSEABLE),
        Example(_BAR, {}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def chart_code(
    response: Response, reference: Json, *,
    of: Of = "text",
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.05,
) -> Score:  # fmt: skip
    """How near the chart that the response's matplotlib code draws is to the one of ``reference.code``, in [0, 1].

    Both programs run in the sandbox without a display; the figure that is current at their end counts.
    ``of`` is ``text``, the mean of the four measures (MSRL's textual reward, arXiv 2508.13587, whose
    weights are not published), or one of them: ``data``, the share of points within ``tolerance``, relative;
    ``type`` and ``layout``, equal or not; ``labels``, the texts by edit distance; or ``exec``, whether the
    program draws a figure at all. A program that fails or draws none is 0. What the figure contains is read
    behind the program, in its process.

    Details: ``verdict``, ``data``, ``type``, ``layout``, ``labels``, and for a later term with ``input:``
    the code as ``text`` and the picture as ``image`` (PNG in base64). The reference may have ``limits``.
    """
    gold_code = reference.get("code")
    if not isinstance(gold_code, str) or not gold_code.strip() or len(gold_code) > MAX_TEXT:
        raise ReferenceUnparseable("reference.code must be a program that draws the chart", field="reference.code")
    limits = limits_of(reference)
    if LANGUAGE not in languages():
        raise Unavailable(f"{LANGUAGE} is not installed here: {missing(LANGUAGE)}", retry_after_s=300.0)
    gold = _gold(gold_code, limits)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    source = extract_code(response.text)
    try:
        result, figure = _drawn(source, limits)
    except _Undrawn as error:
        return Score(0.0, details=dict(error.result.details()) | {"isolation_level": isolation(), "exec": 0.0})
    measures = compare(figure, gold, tolerance)
    values = measures | {"labels": measures["text"], "text": sum(measures.values()) / len(_PARTS), "exec": 1.0}
    shown = {key: round(value, 6) for key, value in values.items() if key != "text"}
    details = dict(result.details()) | shown | {"isolation_level": isolation(), "text": source, "image": figure.image}
    return Score(values[of], details=details)


class _Undrawn(Exception):  # not remembered, unlike what a function returns
    """The program failed or drew nothing."""

    def __init__(self, result: Run) -> None:
        super().__init__(result.reason)
        self.result = result


def _gold(code: str, limits: Limits) -> Figure:
    try:
        return _drawn(code, limits)[1]
    except _Undrawn as error:
        reason = f"reference.code draws no chart: {error.result.reason or error.result.verdict}"
        raise ReferenceUnparseable(reason, field="reference.code") from None


@lru_cache(256)
def _drawn(code: str, limits: Limits) -> tuple[Run, Figure]:
    """The run of a program and its figure; raises ``_Undrawn``. The terms of a recipe share it."""
    result = run(Program(_KEPT + code, language=LANGUAGE, probe=_PROBE), "", limits)
    if result.verdict is not Verdict.OK:
        raise _Undrawn(result)
    try:
        figure = read_figure(result.told)
        if figure is not None:
            inspect(base64.b64decode(figure.image, validate=True))
    except (ValueError, binascii.Error, InvalidInput, RewardHubError) as error:
        raise _Undrawn(_failing(result, Verdict.PROTOCOL_ERROR, str(error))) from None
    if figure is None:
        raise _Undrawn(_failing(result, Verdict.WRONG_ANSWER, "it drew no figure"))
    return result, figure


def _failing(result: Run, verdict: Verdict, reason: str) -> Run:
    return Run(verdict, reason, result.stdout, result.stderr, result.wall_s, result.cpu_s, result.peak_mb)
