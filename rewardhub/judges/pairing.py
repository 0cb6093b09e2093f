"""Two responses put to a judge in both orders.

A judge favours a position, so a verdict that follows the position counts as a tie.
"""

from statistics import fmean

from rewardhub.judges.grading import Asker, described, together
from rewardhub.judges.lane import Answer
from rewardhub.judges.prompt import Block, response_text
from rewardhub.judges.rubric import Case
from rewardhub.raised import failure
from rewardhub.types import Group, Response, Score


async def both_orders(asker: Asker, group: Group, shared: str, pair: tuple[int, int]) -> tuple[Score, Score]:
    """The points of either response of the pair, whose sum is 1; the failure of one order is that of both."""
    left, right = (group.responses[index] for index in pair)
    try:
        forth, back = await together(
            [_ask_pair(asker, group, shared, left, right), _ask_pair(asker, group, shared, right, left)]
        )
    except Exception as error:
        return failure(error), failure(error)
    case = Case(group, left)
    there = fmean(asker.rubric.value(answer.verdict, case) for answer in forth)
    again = 1.0 - fmean(asker.rubric.value(answer.verdict, case) for answer in back)
    details = described(forth[0]) | {
        "orders": [[each.verdict for each in forth], [each.verdict for each in back]],
        "position_bias": abs(there - again) == 1.0,
    }
    value = (there + again) / 2
    return Score(value, details=details), Score(1.0 - value, details=details)


async def _ask_pair(asker: Asker, group: Group, shared: str, first: Response, second: Response) -> list[Answer]:
    blocks = Block("RESPONSE A", response_text(first)), Block("RESPONSE B", response_text(second))
    shown = Case(group, Response(media=first.media + second.media))
    return await asker.ask(await asker.question(shown, shared, blocks))
