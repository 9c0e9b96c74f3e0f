"""A request in the form in which it is put to the desk and to an engine."""

from __future__ import annotations

from seawall.decide.route.pick import Ask
from seawall.decide.route.prefix import BLOCK_BYTES
from seawall.decide.route.refusal import Refusal
from seawall.gateway.edge.caller import MESSAGES
from seawall.gateway.edge.request import Request
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.intake.body import Body
from seawall.gateway.intake.forms import Form, is_form, read_form
from seawall.gateway.intake.headers import (
    ASK_LOAD,
    LOAD,
    MAX_STATE,
    MAX_TRACE,
    canary_group,
)
from seawall.gateway.intake.manners import (
    ABOUT_MEDIA,
    salt_of,
)
from seawall.gateway.intake.pages import (
    Served,
)
from seawall.gateway.intake.peek import (
    blocks,
    made,
    output_of,
    prompt_of,
    session_of,
)
from seawall.gateway.intake.routes import (
    ROUTES,
)

FORM_TEXT = 6000
"""Bytes of text that cost what a form's file does, more or less: half a minute of speech is 1,500 tokens."""


def ask_of(runtime: FleetLane, served: Served, request: Request, body: Body) -> Ask:
    """What the desk must know of a request: its cost, and which replicas serve it best."""
    headers, tenant = request.headers, request.tenant.name
    named = headers.get(runtime.session_key) if runtime.sessions != "off" else None
    group = None
    if runtime.has_canary:
        spec = runtime.fleet.spec
        group = canary_group(runtime.canary_percent, spec, headers, named or request.id)
    session = named.decode("latin-1") if named else None
    if session is None and runtime.sessions == "auto":
        session = session_of(body, headers)
    prompt = prompt_of(body)
    size = FORM_TEXT if request.form else request.size
    request.made = made(body, prompt, size, request.path == MESSAGES)
    return Ask(
        runtime.rates.tokens(request.made) + output_of(body, runtime.typical_output),
        served.adapter,
        group,
        session,
        blocks(body, salt_of(runtime.name, tenant) if served.manners.salted else "", served.adapter, prompt)
        if len(prompt) >= BLOCK_BYTES
        else (),
        size=len(prompt),
        only=request.only,
    )


def forwarded_lines(request: Request) -> bytes:
    """Header lines that go to the engine with its body."""
    out = ASK_LOAD
    if request.form:
        out = b"content-type: " + request.headers[b"content-type"] + b"\r\n" + LOAD
    out += b"x-request-id: " + request.id + b"\r\n"
    trace = request.headers.get(b"traceparent")
    if trace is not None and len(trace) <= MAX_TRACE:
        out += b"traceparent: " + trace + b"\r\n"
        state = request.headers.get(b"tracestate")
        if state is not None and len(state) <= MAX_STATE:
            out += b"tracestate: " + state + b"\r\n"
    return out


def form_of(request: Request) -> Form | Refusal | None:
    """A form with files: only its model is read, and perhaps replaced. None: it is none."""
    if ROUTES.get(request.path) not in ABOUT_MEDIA:
        return None
    content_type = request.headers.get(b"content-type", b"")
    return read_form(content_type, request.body) if is_form(content_type) else None
