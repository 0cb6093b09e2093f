"""OpenTelemetry traces, on where the standard variable OTEL_EXPORTER_OTLP_ENDPOINT says where they go.

A trace holds a span per whole group and, below it, one per term: names that the operator gave, counts, statuses and
kinds of errors, never a prompt, a response, a key or what an error says. The terms of an open group, which many calls
fill, stand right below the span of the caller that brought their responses. A caller's ``traceparent`` becomes the
parent. Switched off, a span costs nothing worth measuring. Needs the ``tracing`` extra.
"""

import atexit
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rewardhub.errors import ConfigError

try:
    from opentelemetry import context, trace
    from opentelemetry.trace import Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # pragma: no cover - the extra is in every development environment
    trace = None  # type: ignore[assignment]

LAST_SPANS_S = 2.0
"""What the end of the process waits at most for a collector that does not answer."""
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_tracer: Any = None


def configure() -> None:
    """Sends spans to where the environment says, if it does; raises ``ConfigError`` without the extra."""
    if not os.environ.get(ENDPOINT):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(f"{ENDPOINT} is set: install rewardhub[tracing]", field=ENDPOINT) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "rewardhub"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)  # for spans of an operator's plugins
    _send_last_at_exit(provider)
    use(provider)


def _send_last_at_exit(provider: Any) -> None:
    """Has the provider shut down as the process ends, on a thread that is not waited for without end."""
    ending = threading.Event()

    def shut_down() -> None:
        ending.wait()
        provider.shutdown()

    thread = threading.Thread(target=shut_down, name="last-spans", daemon=True)
    thread.start()  # now: a process that ends starts no threads

    def end() -> None:
        ending.set()
        thread.join(LAST_SPANS_S)

    atexit.register(end)


def use(provider: Any) -> None:
    """Spans go to ``provider`` from now on; None switches them off."""
    global _tracer
    _tracer = None if provider is None else provider.get_tracer("rewardhub")


def on() -> bool:
    """Whether spans go anywhere."""
    return _tracer is not None


def span(name: str, **attributes: str | int) -> AbstractContextManager[Any]:
    """A span around what is in the ``with``; gives the span, or None while traces are off."""
    return _open(name, attributes, None) if _tracer else nullcontext()


def past(name: str, since_ns: int, **attributes: str | int) -> None:
    """A span that began at ``since_ns``, in nanoseconds of ``time.time_ns``, and ends now."""
    if _tracer:
        with _open(name, attributes, since_ns):
            pass


@contextmanager
def _open(name: str, attributes: dict[str, str | int], since_ns: int | None) -> Iterator[Any]:
    with _tracer.start_as_current_span(
        f"rewardhub.{name}", attributes=attributes, start_time=since_ns,
        record_exception=False, set_status_on_exception=False,  # an error's words may quote a response
    ) as opened:  # fmt: skip
        try:
            yield opened
        except BaseException as error:
            opened.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


@contextmanager
def caller(headers: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Makes the ``traceparent`` among a caller's headers the parent of the spans in the ``with``.

    A caller's baggage is not read: nothing here uses it, and what is malformed in it would be logged word for word.
    """
    if _tracer is None:
        yield
        return
    token = context.attach(TraceContextTextMapPropagator().extract(dict(headers)))
    try:
        yield
    finally:
        context.detach(token)
