"""Whether an agent's question to its user was worth asking: 1 or 0 (Ask-to-Act)."""

from rewardhub.judges.rubric import Rubric
from rewardhub.judges.verdict import whole

RUBRIC = Rubric(
    name="question_usefulness",
    file=__file__,
    summary="1 where the question asked narrows down what the agent has to do, else 0.",
    form=lambda _: whole(0, 1),
)
