"""Four grades of a free-form answer about a video, their mean from 0 to 10 (VideoEspresso)."""

from rewardhub.judges.rubric import Rubric, mean, named, question_and_answer
from rewardhub.judges.verdict import numbers

QUALITIES = ("logic", "factuality", "accuracy", "conciseness")

RUBRIC = Rubric(
    name="video_qa",
    file=__file__,
    summary="The mean of logic, factuality, accuracy and conciseness, 0 to 10 as it is.",
    form=lambda _: numbers(len(QUALITIES), 0, 10),
    value=mean,
    shared=question_and_answer,
    explain=named(QUALITIES),
    range=(0.0, 10.0),
)
