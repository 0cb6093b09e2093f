"""Whether the stated answer follows from the reasoning before it: +1 or -1 (R1-Reward)."""

import re2

from rewardhub.judges.prompt import Block, response_text
from rewardhub.judges.rubric import Case, Rubric, nothing_shared
from rewardhub.judges.verdict import whole

LINES_SHOWN = 3
_TAG = re2.compile(r"</?[A-Za-z_]{1,32}>")


def _split(case: Case) -> tuple[str, str]:
    """The last lines of the reasoning and the stated answer: the answer tag's content, else the last line."""
    text = response_text(case.response)
    before, tag, after = text.rpartition("<answer>")
    if not tag:
        before, _, after = text.rstrip().rpartition("\n")
    lines = [line for line in _TAG.sub("", before).split("\n") if line.strip()]
    return "\n".join(lines[-LINES_SHOWN:]), _TAG.sub("", after.partition("</answer>")[0]).strip()


def _graded(case: Case) -> tuple[Block, ...]:
    reasoning, answer = _split(case)
    return Block("END OF THE REASONING", reasoning), Block("STATED ANSWER", answer)


def _refuse(case: Case) -> str:
    reasoning, answer = _split(case)
    return "" if reasoning and answer else "no reasoning before the answer" if answer else "no stated answer"


RUBRIC = Rubric(
    name="reasoning_answer_consistency",
    file=__file__,
    summary="+1 where the stated answer agrees with the end of the reasoning, else -1.",
    form=lambda _: whole(0, 1),
    value=lambda verdict, _: 1.0 if verdict else -1.0,
    shared=nothing_shared,
    graded=_graded,
    refuse=_refuse,
    range=(-1.0, 1.0),
)
