"""Divide and verify: minus the number of false claims (RLAIF-V)."""

from rewardhub.judges.rubric import MAX_ITEMS, Rubric
from rewardhub.judges.verdict import claims

RUBRIC = Rubric(
    name="claim_verification",
    file=__file__,
    summary="Minus the number of claims in the response that are false.",
    form=lambda _: claims(MAX_ITEMS),
    value=lambda verdict, _: -float(verdict[1]),
    explain=lambda verdict, _: {"claims": verdict[0], "false": verdict[1]},
    range=(-float(MAX_ITEMS), 0.0),
)
