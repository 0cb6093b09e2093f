"""Structured logs: one JSON object per line, with names and numbers, never prompts, texts or keys."""

import json
import logging
import sys
import time
import uuid
from typing import Any, TextIO

logger = logging.getLogger("rewardhub.server")
_OTHERS = ("asyncio", "grpc", "opentelemetry", "uvicorn")


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message", …}``; further fields come from ``extra={"fields": …}``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = _frames(record)
        return json.dumps(line, default=str)


def _frames(record: logging.LogRecord) -> list[str]:
    # An exception's message may quote a response, so only its type and places are kept.
    kind, _, trace = record.exc_info or (None, None, None)
    places = [kind.__name__ if kind else ""]
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends the logs of ``rewardhub``, and the warnings of what serves it, to ``stream`` (standard error by default),
    replacing earlier handlers.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("rewardhub", *_OTHERS):
        each = logging.getLogger(name)
        each.handlers[:] = [handler]
        each.setLevel(level if name == "rewardhub" else logging.WARNING)
        each.propagate = False


def fault(event: str, error: Exception, **fields: Any) -> str:
    """Logs an exception that is no error of ours and gives the id that the caller may be told."""
    error_id = uuid.uuid4().hex[:12]
    logger.error(event, exc_info=error, extra={"fields": {"error_id": error_id, **fields}})
    return error_id
