"""Judges: language models that grade by a rubric, behind any OpenAI-compatible endpoint."""

from rewardhub.judges.audit import Audit, audit_judge
from rewardhub.judges.judge import BoundJudge, JudgeScorer, judge_scorers
from rewardhub.judges.panel import BoundPanel, PanelScorer, PanelSettings, panel_scorers
from rewardhub.judges.pool import JudgePool
from rewardhub.judges.rubric import Rubric, rubric_names
from rewardhub.judges.settings import Endpoint, JudgeSettings

__all__ = [
    "Audit",
    "BoundJudge",
    "BoundPanel",
    "Endpoint",
    "JudgePool",
    "JudgeScorer",
    "JudgeSettings",
    "PanelScorer",
    "PanelSettings",
    "Rubric",
    "audit_judge",
    "judge_scorers",
    "panel_scorers",
    "rubric_names",
]
