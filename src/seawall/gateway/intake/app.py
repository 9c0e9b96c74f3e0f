"""The intake: which route, who asks, which fleet; then it makes an exchange. One per process.

Everything here is synchronous and happens between two reads. Routes that tenants may use are in `ROUTES`;
all others are 404, so that no admin route of an engine can be reached through the gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import ssl
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from random import Random
from time import monotonic, time
from typing import Literal, NamedTuple
from urllib.parse import unquote

import msgspec

from seawall.decide.route.pick import Ask, Target, side
from seawall.decide.route.prefix import BLOCK_BYTES
from seawall.decide.route.refusal import Refusal, poisonous
from seawall.decide.route.resume import StreamSession
from seawall.decide.route.whole import Whole, as_stream
from seawall.domain.seen import Replica, Replicas
from seawall.domain.spec import Fleet, FleetSpec
from seawall.domain.units import parse_seconds
from seawall.gateway.edge.client_side import Client
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import Sink
from seawall.gateway.edge.whole_sink import WholeSink
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.exchange.seam import session
from seawall.gateway.intake.peek import (
    AGENTS,
    TOO_DEEP,
    Body,
    blocks,
    made,
    may_be_long,
    output_of,
    peek,
    prompt_of,
    session_of,
    with_model,
)
from seawall.gateway.replicas.upstream import Pool
from seawall.gateway.tell.audit import Audit
from seawall.gateway.tell.ended import Ended, settle
from seawall.gateway.tell.keyring import Key, KeyRing
from seawall.gateway.tell.otel import Spans
from seawall.gateway.tell.tenants import Share, Tenant, pass_limits
from seawall.gateway.wire import Clock

ROUTES = {
    b"/v1/chat/completions": "chat",
    b"/v1/completions": "completions",
    b"/v1/embeddings": "embeddings",
    b"/v1/responses": "responses",
    b"/v1/messages": "messages",
    b"/v1/messages/count_tokens": "count",
    b"/v1/rerank": "rerank",
    b"/v2/rerank": "rerank",
    b"/rerank": "rerank",
    b"/v1/score": "score",
    b"/score": "score",
    b"/tokenize": "tokenize",
    b"/detokenize": "tokenize",
}
STREAMS = frozenset({"chat", "completions", "responses", "messages"})
MODELS = b"/v1/models"
MAX_READING = 256 * 2**20
"""Bytes of all bodies that are not whole yet. Over it, those that have taken the longest are given up."""
HEALTH = b"/health"
"""Load balancers ask for it, and vLLM, too, answers it without a key."""
ASKED_HEADERS = b"access-control-request-headers"
PREFLIGHT = b"access-control-allow-methods: GET, POST\r\naccess-control-max-age: 600\r\n"
DEADLINE = b"x-seawall-deadline"
PRIORITY = b"x-seawall-priority"
SIDE = b"x-seawall-group"
"""A route that splits for a canary (HTTPRoute, Istio) says here which side it chose."""
WANTED = frozenset(
    {
        SIDE,
        b"host",
        b"authorization",
        b"x-api-key",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        DEADLINE,
        PRIORITY,
    }
)
ID_OK = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")
ASK_LOAD = b"content-type: application/json\r\nendpoint-load-metrics-format: TEXT\r\n"


class Served(NamedTuple):
    """What one model name means."""

    fleet: FleetLane
    engine_name: str
    """The name to send to the engine."""
    adapter: str | None


def _unproved(fleet: FleetLane, target: Target) -> None:
    """Nobody asks an evicted replica for a proof."""


class Means(NamedTuple):
    """What an intake works with beside its loop: engines' secrets, and who wants to know what."""

    engine_key: str | None = None
    engine_tls: ssl.SSLContext | None = None
    on_evicted: Callable[[FleetLane, Target], None] = _unproved
    audit: Audit | None = None
    spans: Spans | None = None
    share: Share | None = None
    """With several processes: the accounts that they keep together."""
    now: Callable[[], float] = monotonic
    """Seconds of a monotonic clock: the one that everything in this process goes by."""


NOTHING = Means()


class App:
    """See the module. Implements `client_side.Handler`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        means: Means = NOTHING,
    ) -> None:
        self.loop = loop
        self.now = means.now
        self.means = means
        self.audit = means.audit
        self.spans = means.spans
        self.rng = rng
        self.clock = Clock()
        self.closing = False
        self.max_body = 8 * 2**20
        self.wanted = WANTED
        self.clients: set[Client] = set()
        self.fleets: dict[str, FleetLane] = {}
        self.models: dict[str, Served] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.refusals: dict[str, int] = {}
        self.keys: KeyRing | None = None
        """None: no keys file is configured."""
        self.keys_for_all = False
        self.origins: frozenset[str] = frozenset()
        """Web pages of these origins may use the gateway; `*`: of all."""
        self._seen = Replicas()
        self._models_body = b""
        self._ids = itertools.count(rng.getrandbits(40))
        self._id_prefix = f"req-{rng.getrandbits(32):08x}-".encode()

    # -- configuration and discovery

    def configure(self, fleets: Iterable[Fleet]) -> None:
        """Takes the newest specs. What runs goes on; fleets that are gone take no new requests."""
        wanted = {f.name: f for f in fleets}
        for name in [n for n in self.fleets if n not in wanted]:
            self.fleets.pop(name).close()
        for name, fleet in wanted.items():
            known = self.fleets.get(name)
            if known is None:
                self.fleets[name] = FleetLane(
                    fleet,
                    self.loop,
                    self.now,
                    self.rng,
                    self._open_pool,
                    self.means.on_evicted,
                    self.done,
                    self.means.share,
                )
            else:
                known.configure(fleet)
        self.models = {}
        headers = set(WANTED)
        for runtime in self.fleets.values():
            self._name_models(runtime)
            headers.add(runtime.spec.session_header.lower().encode())
            if runtime.spec.sessions == "auto":
                headers.update(AGENTS)
            canary = runtime.fleet.spec.rollout.canary
            if canary is not None and canary.sticky_header:
                headers.add(canary.sticky_header.lower().encode())
        self.origins = frozenset(o for f in self.fleets.values() for o in f.spec.allowed_origins)
        if self.origins:
            headers |= {b"origin", ASKED_HEADERS}
        self.wanted = frozenset(headers)
        self.keys_for_all = self.keys is not None
        self.max_body = max((f.spec.max_body for f in self.fleets.values()), default=8 * 2**20)
        self._models_body = _models_page(self.models)
        self.discovered(self._seen)

    def _name_models(self, runtime: FleetLane) -> None:
        fleet = runtime.fleet
        names = fleet.served_names
        for name in names:
            self.models[name] = Served(runtime, name, None)
        for adapter in fleet.spec.model.adapters:
            self.models[adapter.name] = Served(runtime, adapter.name, adapter.name)
        for alias, target in fleet.spec.gateway.aliases.items():
            found = self.models.get(target)
            if found is not None and found.fleet is runtime:
                self.models[alias] = found
            elif target == fleet.name:
                self.models[alias] = Served(runtime, names[0], None)

    def discovered(self, seen: Replicas) -> None:
        """Takes the newest discovery document."""
        self._seen = seen
        by_fleet: dict[str, list[Replica]] = {}
        for replica in seen.replicas:
            by_fleet.setdefault(replica.fleet, []).append(replica)
        for name, runtime in self.fleets.items():
            runtime.discovered(by_fleet.get(name, []), seen.canary_weights.get(name, 0), name in seen.coming)

    def _open_pool(self, url: str) -> Pool:
        means = self.means
        return Pool(url, self.loop, self.tasks, means.engine_key, means.engine_tls, means.now)

    # -- requests

    def early(self, client: Client, request: Request) -> Refusal | None:
        """Before the body is read: what can be refused by the head alone."""
        request.path = _path(request.url)
        if self.origins:
            request.cors = self._cors(request.headers, request.method == b"OPTIONS")
        given = request.headers.get(b"x-request-id", b"")
        if given and len(given) <= 128 and ID_OK.issuperset(given):
            request.id = given
        else:
            request.id = self._id_prefix + b"%x" % next(self._ids)
        if self.keys is not None:
            headers = request.headers
            given = headers.get(b"authorization", b"")
            given = given[7:].strip() if given[:7].lower() == b"bearer " else headers.get(b"x-api-key", b"")
            request.key = self.keys.find(given, time()) if given else None
            if (
                request.key is None
                and self.keys_for_all
                and request.path != HEALTH
                and not _preflight(request)
            ):
                return _NO_KEY
        return None

    def _cors(self, headers: Mapping[bytes, bytes], preflight: bool) -> bytes:
        """The header lines that let a web page of an allowed origin read the answer."""
        origin = headers.get(b"origin", b"")
        every = "*" in self.origins
        if not origin or not (every or origin.decode("latin-1") in self.origins):
            return b""
        lines = b"access-control-allow-origin: " + (b"*" if every else origin + b"\r\nvary: origin") + b"\r\n"
        if preflight:
            asked = headers.get(ASKED_HEADERS, b"authorization, content-type")
            return lines + PREFLIGHT + b"access-control-allow-headers: " + asked + b"\r\n"
        return lines + b"access-control-expose-headers: x-request-id, retry-after\r\n"

    def handle(self, client: Client, request: Request) -> None:
        """A whole request has come in."""
        path = request.path
        route = ROUTES.get(path)
        if request.cors and _preflight(request):
            client.answer(200, b"text/plain", b"")
        elif route is None:
            self._other(client, request, path)
        elif request.method != b"POST":
            client.decline(Refusal(405, "method_not_allowed", "Use POST for this route."))
        else:
            refusal = self._serve(client, request, route)
            if refusal is not None:
                client.decline(refusal)

    def _other(self, client: Client, request: Request, path: bytes) -> None:
        if request.method in (b"GET", b"HEAD"):
            if path == MODELS:
                if request.key is not None or self.closing:
                    names = {n: s for n, s in self.models.items() if self._may_use(request.key, n, s)}
                    client.answer(200, b"application/json", _models_page(names))
                else:
                    client.answer(200, b"application/json", self._models_body)
                return
            if path.startswith(MODELS + b"/"):
                self._one_model(client, request, unquote(path[len(MODELS) + 1 :].decode("latin-1")))
                return
            if path == HEALTH:
                client.answer(200, b"application/json", b"{}")
                return
        client.decline(Refusal(404, "unknown_route", "There is no such route here."))

    def _may_use(self, key: Key | None, name: str, served: Served) -> bool:
        tenant = served.fleet.tenants.of(key)
        return tenant is not None and allowed(name, tenant, key)

    def _one_model(self, client: Client, request: Request, name: str) -> None:
        served = self.models.get(name)
        if served is not None and (request.key is None or self._may_use(request.key, name, served)):
            client.answer(200, b"application/json", msgspec.json.encode(_card(name, served)))
        else:
            client.decline(_unknown(name))

    def _serve(self, client: Client, request: Request, route: str) -> Refusal | None:
        body = peek(request.body)
        if isinstance(body, Refusal) and request.body.startswith(BOM_UTF8):
            request.body = request.body[len(BOM_UTF8) :]  # Python's JSON skips it, and so does the engine
            body = peek(request.body)
        if isinstance(body, Refusal):
            return body
        served = self._served(body)
        if isinstance(served, Refusal):
            return served
        runtime = served.fleet
        name = body.model or served.engine_name
        request.model = name
        tenant = runtime.tenants.of(request.key)
        if tenant is None or (request.key is None and (runtime.tenants.required or self.keys_for_all)):
            return _NO_KEY
        request.tenant = tenant
        if not allowed(name, tenant, request.key):
            message = f"Your key may not use the model `{name[:100]}`."
            return Refusal(403, "model_not_allowed", message, param="model")
        if request.size > runtime.spec.max_body:
            limit = runtime.spec.max_body
            return Refusal(413, "body_too_large", f"The body is larger than {limit} bytes (gateway.maxBody).")
        if runtime.quarantine:
            left = runtime.quarantine.left_s(request.path, request.body, self.now())
            if left:
                return poisonous(left)
        deadline = math.inf
        if DEADLINE in request.headers:
            given = self._deadline(request.headers[DEADLINE])
            if isinstance(given, Refusal):
                return given
            deadline = given
        payload = request.body if name == served.engine_name else with_model(request.body, served.engine_name)
        request.extra = self._extra(request)
        request.priority = self._priority(request)
        ask = self._ask(runtime, served, request, body)
        if request.key is not None or tenant.meter.limits:
            meters = [m for m in (tenant.meter, runtime.tenants.meter_of(request.key)) if m is not None]
            limited = pass_limits(meters, ask.tokens, self.now())
            if limited is not None:
                return limited
        stream: StreamSession | None = None
        sink: Sink = client
        request.streams = route in STREAMS and body.stream is True
        try:
            if request.streams:
                stream = session(request.path, payload, runtime.policy, self.rng)
            elif route in STREAMS and may_be_long(body, runtime.typical_output):
                streamed = as_stream(request.path.decode(), payload)
                if streamed is not None:
                    stream = session(request.path, streamed, runtime.policy, self.rng)
                    sink = WholeSink(client, Whole(request.path.decode(), payload))
        except RecursionError:  # a field that `peek` just managed to skip
            return TOO_DEEP
        exchange = Exchange(sink, request, runtime, stream, payload, ask, deadline)
        client.serve(exchange)
        exchange.begin()
        return None

    def _served(self, body: Body) -> Served | Refusal:
        if not body.model:
            if len(self.fleets) == 1:
                return next(iter(self.models.values()))
            return Refusal(
                400, "no_model", "Name a model in `model`; GET /v1/models lists them.", param="model"
            )
        return self.models.get(body.model) or _unknown(body.model)

    def _ask(self, runtime: FleetLane, served: Served, request: Request, body: Body) -> Ask:
        headers = request.headers
        named = headers.get(runtime.session_key) if runtime.sessions != "off" else None
        group = None
        if runtime.has_canary:
            spec = runtime.fleet.spec
            group = canary_group(runtime.canary_percent, spec, headers, named or request.id)
        session = named.decode("latin-1") if named else None
        if session is None and runtime.sessions == "auto":
            session = session_of(body, headers)
        prompt = prompt_of(body)
        request.made = made(body, prompt, request.size)
        return Ask(
            runtime.rates.tokens(request.made) + output_of(body, runtime.typical_output),
            served.adapter,
            group,
            session,
            blocks(body, prompt, served.adapter) if len(prompt) >= BLOCK_BYTES else (),
            size=len(prompt),
        )

    def _deadline(self, given: bytes) -> float | Refusal:
        try:
            return self.now() + parse_seconds(given.decode("latin-1"))
        except ValueError as e:
            return Refusal(400, "invalid_deadline", f"The header {DEADLINE.decode()} is not right: {e}.")

    def _priority(self, request: Request) -> int:
        """A client may rank its own requests lower than its tenant's priority, never higher."""
        given = request.headers.get(PRIORITY)
        own = request.tenant.priority
        return max(own, min(9, int(given[-4000:]))) if given is not None and given.isdigit() else own

    def _extra(self, request: Request) -> bytes:
        out = ASK_LOAD + b"x-request-id: " + request.id + b"\r\n"
        trace = request.headers.get(b"traceparent")
        if trace is not None:
            out += b"traceparent: " + trace + b"\r\n"
            state = request.headers.get(b"tracestate")
            if state is not None:
                out += b"tracestate: " + state + b"\r\n"
        return out

    def done(self, ended: Ended) -> None:
        """A request is over: account for it."""
        runtime = self.fleets.get(ended.fleet)
        if runtime is not None:
            settle(runtime.tenants, ended)
        if self.audit is not None:
            self.audit.note(ended)
        if self.spans is not None:
            self.spans.note(ended)

    def refused(self, client: Client, refusal: Refusal) -> None:
        self.refusals[refusal.code] = self.refusals.get(refusal.code, 0) + 1

    # -- time

    def sweep(self, now: float) -> None:
        for runtime in self.fleets.values():
            runtime.sweep(now)

    def sweep_clients(self, now: float) -> None:
        self.clock.tick()
        for client in list(self.clients):
            client.check(now)
        held = sum([client.reading for client in self.clients])
        if held > MAX_READING:
            for client in sorted(self.clients, key=attrgetter("body_since")):
                if client.reading and held > MAX_READING:
                    held -= client.reading
                    client.refuse_connection(_TOO_MUCH)


def allowed(model: str, tenant: Tenant, key: Key | None) -> bool:
    """Whether both the tenant's and the key's list of models (empty: all) hold it."""
    if tenant.models and model not in tenant.models:
        return False
    return key is None or not key.models or model in key.models


def canary_group(
    percent: int, spec: FleetSpec, headers: Mapping[bytes, bytes], otherwise: bytes
) -> Literal["stable", "canary"]:
    """Which side of a canary serves a request: the route's word where a route splits, else our own share of
    the sticky header's value, or of `otherwise`. Clients cannot choose: routes overwrite the header."""
    if spec.gateway.route in ("gateway-api", "istio"):
        told = headers.get(SIDE)
        if told == b"canary":
            return "canary"
        if told == b"stable":
            return "stable"
    policy = spec.rollout.canary
    name = policy.sticky_header if policy else None
    sticky = headers.get(name.lower().encode()) if name else None
    return side(percent, (sticky or otherwise).decode("latin-1"))


def _models_page(models: dict[str, Served]) -> bytes:
    return msgspec.json.encode({"object": "list", "data": [_card(n, s) for n, s in models.items()]})


def _card(name: str, served: Served) -> dict[str, object]:
    card = {"id": name, "object": "model", "created": 0, "owned_by": "seawall", "root": served.engine_name}
    length = served.fleet.fleet.spec.traffic.max_context
    return card if length is None else {**card, "max_model_len": length}


def _path(target: bytes) -> bytes:
    """The path of a request's target, which may be a whole URL (RFC 9112, 3.2.2), without its query."""
    path = target.partition(b"?")[0]
    if path[:1] != b"/" and path[:8].lower().startswith((b"http://", b"https://")):
        return b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path


def _preflight(request: Request) -> bool:
    """A browser asks whether a page may use the gateway, and it may."""
    return request.method == b"OPTIONS" and bool(request.cors)


_TOO_MUCH = Refusal(503, "overloaded", "Too many large bodies are on their way. Send it again.", 1)
_NO_KEY = Refusal(401, "invalid_api_key", "No valid API key. Send `Authorization: Bearer KEY`.")


def _unknown(name: str) -> Refusal:
    shown = "".join(c if c.isprintable() else "?" for c in name[:100])
    return Refusal(
        404,
        "model_not_found",
        f"The model `{shown}` does not exist; GET /v1/models lists them.",
        param="model",
    )
