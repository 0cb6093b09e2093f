"""How like the true chart a rendered one is, on six axes (MSRL's visual reward); no image is 0."""

from rewardhub.judges.rubric import Case, Rubric, mean_over, named
from rewardhub.judges.verdict import numbers

AXES = ("chart_type", "layout", "text", "data", "style", "clarity")


def _no_render(case: Case) -> str:
    return "" if case.response.media else "nothing was rendered"


RUBRIC = Rubric(
    name="chart_similarity",
    file=__file__,
    summary="Likeness of the response's image to the group's image on six axes; 0 without an image.",
    form=lambda _: numbers(len(AXES), 0, 10),
    value=mean_over(10),
    explain=named(AXES),
    refuse=_no_render,
    needs_images=True,
)
