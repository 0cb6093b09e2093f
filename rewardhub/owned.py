"""What is handed over is its receiver's own: who changes it changes nothing of anybody else's."""

from dataclasses import replace

from rewardhub.json_values import copied
from rewardhub.types import Column, Group, Json, Response, Score


def own_response(response: Response) -> Response:
    """The response with turns and signals that may be changed."""
    messages = copied(response.messages) if response.messages else ()
    signals = copied(response.signals) if response.signals else {}
    return Response(response.text, messages, response.tokens, signals, response.steps, response.media)


def own_beginning(group: Group, reference: Json) -> Group:
    """The group with this reference, and a prompt and metadata that may be changed."""
    return replace(group, prompt=copied(group.prompt), reference=reference, metadata=copied(group.metadata))


def own_score(score: Score) -> Score:
    """The score with details that may be changed."""
    return replace(score, details=copied(score.details)) if score.details else score


def own_column(column: Column) -> Column:
    """The column with details that may be changed, of each row by itself."""
    if not column.details:
        return column
    return replace(column, details=[copied(each) if each else each for each in column.details])
