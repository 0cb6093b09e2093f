"""Judges: language models that grade by a rubric, behind any OpenAI-compatible endpoint."""

from rewardhub.judges.judge import BoundJudge, JudgeScorer, judge_scorers
from rewardhub.judges.pool import JudgePool
from rewardhub.judges.rubric import Rubric, rubric_names
from rewardhub.judges.settings import Endpoint, JudgeSettings

__all__ = [
    "BoundJudge",
    "Endpoint",
    "JudgePool",
    "JudgeScorer",
    "JudgeSettings",
    "Rubric",
    "judge_scorers",
    "rubric_names",
]
