"""Structured logs: one JSON object per line, with names and numbers, never prompts, texts or keys."""

import json
import logging
import sys
import threading
import time
import uuid
import warnings
from types import TracebackType
from typing import Any, TextIO

logger = logging.getLogger("rewardhub.server")
_OTHERS = ("asyncio", "grpc", "opentelemetry", "uvicorn")
TOLD_S, MOST_TOLD = 60.0, 1_000


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message", …}``; further fields come from ``extra={"fields": …}``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = _frames(record.exc_info[0], record.exc_info[2])
        return json.dumps(line, default=str)


class _Seldom(logging.Filter):
    """Passes what one of ``_OTHERS`` repeats once in ``TOLD_S`` seconds: callers without a key can have it said."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _OTHERS:
            return True
        said, now = (record.name, _message(record)), time.monotonic()
        if now - self._told.get(said, -TOLD_S) < TOLD_S:
            return False
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told[said] = now
        return True


def _message(record: logging.LogRecord) -> str:
    # What others say of a fault goes on, line by line, with the objects at hand, whose texts may be a response's.
    text = record.getMessage()
    return text if record.name.startswith("rewardhub") else text.partition("\n")[0]


def _frames(kind: type[BaseException] | None, trace: TracebackType | None) -> list[str]:
    # An exception's message may quote a response, so only its type and places are kept.
    places = [kind.__name__ if kind else ""]
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends the logs of ``rewardhub``, and the warnings of all others, to ``stream`` (standard error by default),
    replacing earlier handlers. What a server's library repeats is told once a minute.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(_Seldom())
    for name in ("rewardhub", *_OTHERS):
        each = logging.getLogger(name)
        each.handlers[:] = [handler]
        each.setLevel(level if name == "rewardhub" else logging.WARNING)
        each.propagate = False
    root = logging.getLogger()
    root.handlers[:] = [*(each for each in root.handlers if not isinstance(each.formatter, JsonLines)), handler]


def take_hooks(*, last: bool = False) -> None:
    """Logs what Python itself would print of warnings and of exceptions that nobody catches: kinds and places only.

    With ``last`` also the exception that ends this process, which is no operator's to read.
    """

    def warned(_: Warning | str, category: type[Warning], file: str, line: int, *__: Any, **___: Any) -> None:
        logger.warning("%s at %s:%d", category.__name__, file, line)

    def lost(kind: type[BaseException] | None, trace: TracebackType | None) -> None:
        logger.error("an exception was not caught", extra={"fields": {"trace": _frames(kind, trace)}})

    warnings.showwarning = warned  # type: ignore[assignment]
    threading.excepthook = lambda args: lost(args.exc_type, args.exc_traceback)
    sys.unraisablehook = lambda args: lost(args.exc_type, args.exc_traceback)
    if last:
        sys.excepthook = lambda kind, _, trace: lost(kind, trace)


def fault(event: str, error: Exception, **fields: Any) -> str:
    """Logs an exception that is no error of ours and gives the id that the caller may be told."""
    error_id = uuid.uuid4().hex[:12]
    logger.error(event, exc_info=error, extra={"fields": {"error_id": error_id, **fields}})
    return error_id
