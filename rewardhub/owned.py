"""What is handed over is its receiver's own: who changes it changes nothing of anybody else's."""

from dataclasses import replace

from rewardhub.json_values import copied
from rewardhub.types import Column, Group, Response, Score


def own_response(response: Response) -> Response:
    """The response with turns and signals that may be changed."""
    return replace(response, messages=copied(response.messages), signals=copied(response.signals))


def own_beginning(group: Group) -> Group:
    """The group with a prompt, a reference and metadata that may be changed."""
    reference, metadata = copied(group.reference), copied(group.metadata)
    return replace(group, prompt=copied(group.prompt), reference=reference, metadata=metadata)


def own_score(score: Score) -> Score:
    """The score with details that may be changed."""
    return replace(score, details=copied(score.details)) if score.details else score


def own_column(column: Column) -> Column:
    """The column with details that may be changed, of each row by itself."""
    if not column.details:
        return column
    return replace(column, details=[copied(each) if each else each for each in column.details])
