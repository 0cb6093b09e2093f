"""A guessed place: up to 0.5 for the address and 0.5 for the place's name (GLM-4.1V-Thinking)."""

from rewardhub.judges.prompt import final_text
from rewardhub.judges.rubric import Case, Rubric, question_and_answer
from rewardhub.judges.verdict import level_and_share

ADDRESS = {"none": 0.0, "country": 0.1, "province": 0.25, "city": 0.5}
LONGEST_GUESS = 50


def _too_long(case: Case) -> str:
    return f"a guess has at most {LONGEST_GUESS} characters" if len(final_text(case.response)) > LONGEST_GUESS else ""


RUBRIC = Rubric(
    name="geo_guess",
    file=__file__,
    summary="0, 0.1, 0.25 or 0.5 for the address, plus up to 0.5 for the name of the place.",
    form=lambda _: level_and_share(tuple(ADDRESS), 0.5),
    value=lambda verdict, _: ADDRESS[verdict[0]] + verdict[1],
    shared=question_and_answer,
    explain=lambda verdict, _: {"address": verdict[0], "place": verdict[1]},
    refuse=_too_long,
)
