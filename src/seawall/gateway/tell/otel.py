"""OpenTelemetry spans, one per request, when the extra `seawall[otel]` is installed and an endpoint is set.

OTEL_EXPORTER_OTLP_ENDPOINT (or its traces form) switches it on. A span is made when its request is over, with
the client's traceparent as parent, and exported by a thread; names follow the GenAI semantic conventions.
Never a prompt or an answer.
"""

from __future__ import annotations

import os
import time
from typing import Any

from seawall.drivers.near import near
from seawall.errors import InputError
from seawall.gateway.tell.ended import Ended

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Spans:
    """Makes and exports spans."""

    def __init__(self, exporter: Any = None) -> None:
        """`exporter`: a SpanExporter; None: OTLP over HTTP as the environment says."""
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter(session=_session())
        except ImportError:
            raise InputError(
                "an OTLP endpoint is set, but OpenTelemetry is not installed.", "pip install 'seawall[otel]'"
            ) from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": "seawall-gateway"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("seawall.gateway")
        self._propagator = TraceContextTextMapPropagator()

    def note(self, e: Ended) -> None:
        """A request is over."""
        headers = e.headers
        carrier = {
            n: headers[n.encode()].decode("latin-1")
            for n in ("traceparent", "tracestate")
            if n.encode() in headers
        }
        end = time.time_ns()
        span = self._tracer.start_span(
            f"{e.path.decode('latin-1')} {e.fleet}",
            context=self._propagator.extract(carrier),
            start_time=end - int(e.seconds * 1e9),
            attributes={
                "gen_ai.request.model": e.model,
                "gen_ai.usage.input_tokens": e.tokens_in,
                "gen_ai.usage.output_tokens": e.tokens_out,
                "http.response.status_code": e.status,
                "seawall.outcome": e.outcome,
                "seawall.replica": e.replica,
                "seawall.resumed": e.resumed,
                "seawall.retried": e.retried,
                "seawall.request_id": e.id.decode("latin-1"),
            },
        )
        if e.first_s:
            span.add_event("first token", timestamp=end - int((e.seconds - e.first_s) * 1e9))
        span.end(end)

    def close(self) -> None:
        """Exports what is left."""
        self._provider.shutdown()


def _session() -> Any:
    """What asks the collector: with no proxy of the environment before one within the network."""
    import requests

    session = requests.Session()
    session.trust_env = not near(next(filter(None, map(os.environ.get, reversed(VARIABLES))), ""))
    return session


def from_environment() -> Spans | None:
    return Spans() if any(os.environ.get(v) for v in VARIABLES) else None
