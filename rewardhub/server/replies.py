"""Errors and score lines as HTTP answers."""

import math
from typing import Any

from starlette.responses import Response

from rewardhub.errors import RewardHubError, TooLarge, Unauthenticated
from rewardhub.types import GroupScores
from rewardhub.wire import lines, score_text

PROGRAM_ROUTES = frozenset({"/run_code", "/submit", "/submit_batch"})


def encode(value: Any) -> bytes:
    """JSON text; half of a surrogate pair becomes its JSON escape."""
    return lines.dumps(value).encode("utf-8", "backslashreplace")


def json_reply(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def score_line(scores: GroupScores, *, details: bool) -> bytes:
    return score_text.scores_text(scores, details=details).encode("utf-8", "backslashreplace")


def scores_reply(answers: list[GroupScores], *, details: bool) -> Response:
    body = b",".join(score_line(each, details=details) for each in answers)
    return Response(b'{"groups":[' + body + b"]}", media_type="application/json")


def error_body(error: RewardHubError) -> dict[str, Any]:
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "field": error.field,
            "retryable": error.retryable,
        }
    }


def error_reply(error: RewardHubError, path: str = "") -> Response:
    """The error of a whole request. Clients of a sandbox come again after 504, and count a program that met any other
    refusal as one that failed.
    """
    again = path in PROGRAM_ROUTES and error.http in {429, 503}
    reply = json_reply(error_body(error), 504 if again else error.http)
    if error.retry_after_s > 0:
        reply.headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, Unauthenticated):
        reply.headers["www-authenticate"] = "Bearer"
    if isinstance(error, TooLarge) or error.http in {501, 505}:
        reply.headers["connection"] = "close"
    if error.http == 415:
        reply.headers["accept-encoding"] = "identity"
    return reply


def route_error_reply(status: int, code: str, message: str) -> Response:
    """The error of a request that reached no route."""
    return json_reply({"error": {"code": code, "message": message, "field": "", "retryable": False}}, status)
