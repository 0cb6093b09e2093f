"""How well CAD code meets the design intent: 0 to 10, as n / 10, with failure tags (CAD-RL)."""

from rewardhub.judges.rubric import Rubric
from rewardhub.judges.verdict import tagged

TAGS = ("frame_misaligned", "wrong_parameter", "missing_feature", "extra_feature", "wrong_operation", "incomplete")

RUBRIC = Rubric(
    name="cad_intent",
    file=__file__,
    summary="Fulfilment of the design intent from 0 to 10, as n / 10, with failure tags.",
    form=lambda _: tagged(0, 10, TAGS),
    value=lambda verdict, _: verdict[0] / 10,
    explain=lambda verdict, _: {"tags": verdict[1], "faults": len(verdict[1])},
)
