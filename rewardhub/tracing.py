"""OpenTelemetry traces, on where the standard variable OTEL_EXPORTER_OTLP_ENDPOINT says where they go.

A trace holds a span per group and, below it, one per term: names, counts and statuses, never a prompt, a
response or a key. A caller's ``traceparent`` becomes the parent. Switched off, a span costs nothing worth
measuring. Needs the ``tracing`` extra.
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
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # pragma: no cover - the extra is in every development environment
    trace = None  # type: ignore[assignment]

LAST_SPANS_S = 2.0
"""What the end of the process waits at most for a collector that does not answer."""
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_on = False


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
    global _on
    if provider is not None:
        trace.set_tracer_provider(provider)
    _on = provider is not None


def on() -> bool:
    """Whether spans go anywhere."""
    return _on


def span(name: str, **attributes: str | int) -> AbstractContextManager[Any]:
    """A span around what is in the ``with``; gives the span, or None while traces are off."""
    if not _on:
        return nullcontext()
    return trace.get_tracer("rewardhub").start_as_current_span(f"rewardhub.{name}", attributes=attributes)


@contextmanager
def caller(headers: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Makes the ``traceparent`` among a caller's headers the parent of the spans in the ``with``.

    A caller's baggage is not read: nothing here uses it, and what is malformed in it would be logged word for word.
    """
    if not _on:
        yield
        return
    token = context.attach(TraceContextTextMapPropagator().extract(dict(headers)))
    try:
        yield
    finally:
        context.detach(token)
