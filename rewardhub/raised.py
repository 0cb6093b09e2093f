"""What becomes of a response whose scorer raised, or gave what is no score: a failed score, never a number."""

import json

from rewardhub.errors import ReferenceUnparseable, RewardHubError
from rewardhub.flaws import is_interrupt, sound
from rewardhub.types import Json, Score, Status


def failure(error: BaseException) -> Score:
    """The score of a response whose scorer raised: never a number."""
    if isinstance(error, RewardHubError):
        try:
            score = sound(Score(None, error.status, details=error.details))
        except Exception:  # of a plugin's own making, without what ours have
            return fault(f"{type(error).__name__} in the scorer")
        return fault(score) if isinstance(score, str) else score
    return fault(f"{type(error).__name__} in the scorer")


def fault(reason: str) -> Score:
    return Score(None, Status.INTERNAL_ERROR, details={"reason": reason})


def raised(error: BaseException, reference: Json) -> Score:
    """The score of a response whose scorer raised; a text that is no UTF-8 can only be the reference's."""
    if is_interrupt(error):
        raise error
    if isinstance(error, UnicodeEncodeError):
        try:
            json.dumps(reference, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            error = ReferenceUnparseable("the reference holds half of a surrogate pair", field="reference")
        except (ValueError, RecursionError):  # it has no end, which the scorer did not mind
            pass
    _let_go(error)
    return failure(error)


def _let_go(error: BaseException) -> None:
    """Frames that hold an error, which holds them, would keep the group with its media until they are searched for."""
    each: BaseException | None = error
    while each is not None and each.__traceback__ is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
