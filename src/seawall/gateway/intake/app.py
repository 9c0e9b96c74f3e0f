"""The intake: which route, who asks, which fleet; then it makes an exchange. One per process.

Everything here is synchronous and happens between two reads. Routes that tenants may use are in `ROUTES`;
all others are 404, so that no admin route of an engine can be reached through the gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from random import Random
from time import time
from urllib.parse import unquote

import msgspec

from seawall.decide.route.admit import DUE, LEAST, SPARE
from seawall.decide.route.members import LARGE, TOO_DEEP, Members, Unreadable
from seawall.decide.route.refusal import Refusal, poisonous
from seawall.decide.route.resume import StreamSession
from seawall.decide.route.whole import Whole, streamed_form
from seawall.domain.seen import Replica, Replicas
from seawall.domain.spec import Fleet
from seawall.domain.units import parse_seconds
from seawall.gateway.edge.budget import StrangersBudget
from seawall.gateway.edge.caller import (
    IDLE_S,
    MAX_HEAD,
    REPLICA,
    SURE_S,
    Caller,
    Connected,
    Keep,
    Untaken,
)
from seawall.gateway.edge.request import Request
from seawall.gateway.edge.sink import Sink
from seawall.gateway.edge.through import Through
from seawall.gateway.edge.whole_sink import WholeSink
from seawall.gateway.exchange.accepted import Accepted, note_accepted
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.exchange.lane import FleetLane, Held, Road
from seawall.gateway.exchange.seam import session
from seawall.gateway.intake import responses
from seawall.gateway.intake.again import IDEMPOTENCY, Asked, key_of, keyed
from seawall.gateway.intake.asking import ask_of, form_of, forwarded_lines
from seawall.gateway.intake.body import Body
from seawall.gateway.intake.browser import ORIGIN, SITE, strayed
from seawall.gateway.intake.forms import is_form, with_model_name
from seawall.gateway.intake.headers import (
    ASKED_HEADERS,
    BATCH,
    BATCH_CLASS,
    BATCH_TENANT,
    CREDENTIALS,
    DEADLINE,
    ID_OK,
    PRIORITY,
    WANTED,
    path_of,
)
from seawall.gateway.intake.large import LargeBody, read_large
from seawall.gateway.intake.manners import (
    SALT,
    fields_of,
    manners_of,
    misses_manners,
    refuse_fields,
    salt_of,
    with_salt,
)
from seawall.gateway.intake.means import NOTHING, Means
from seawall.gateway.intake.pages import (
    VERSION_PAGE,
    Served,
    cannot_serve,
    model_card,
    models_page,
)
from seawall.gateway.intake.peek import (
    AGENTS,
    may_be_long,
    peek,
    with_member,
    with_model,
)
from seawall.gateway.intake.peers import BY_KEY, FORWARDED, Peers
from seawall.gateway.intake.routes import (
    BATCH_ROUTES,
    HEALTH,
    MODELS,
    OPEN,
    PING,
    READY,
    ROUTES,
    STREAMS,
    UNCACHED,
    VERSION,
    no_such,
)
from seawall.gateway.memory import LITTLE, HeldMemory
from seawall.gateway.replicas.upstream import Pool
from seawall.gateway.tell.ended import Ended, settle
from seawall.gateway.tell.keyring import Key, KeyRing
from seawall.gateway.tell.stats import Histogram
from seawall.gateway.tell.tenants import LIMIT_HEADERS, Tenant, limit_lines, pass_limits
from seawall.gateway.wire import JSON, DateHeader

CROWDED_S = 1.0
UNTAKEN_S = 1.0
"""An answer of which its client has taken nothing for so long may be given up for others."""
MAX_BODY = 32 * 2**20
"""`gateway.maxBody` unless the spec says otherwise: as vLLM's own."""
PREFLIGHT = b"access-control-allow-methods: GET, POST\r\naccess-control-max-age: 600\r\n"
EXPOSED = b", ".join((b"x-request-id", b"retry-after", REPLICA, *LIMIT_HEADERS))
LAST = b"100"
"""A batch's line in the engine's own order: whatever has no `priority` of its own comes before it."""
ONE_RESPONSE = responses.RESPONSES + b"/"


class App:
    """See the module. Implements `caller.Handler`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        means: Means = NOTHING,
    ) -> None:
        self.loop = loop
        self.now = means.now
        self.means = means
        self.peers = means.peers or Peers(None, 0, 1, loop, means.now)
        self._assembles = "assembly" not in means.without
        self.door = means.batch
        self.audit = means.audit
        self.spans = means.spans
        self.rng = rng
        self.clock = DateHeader()
        self.closing = False
        self.max_body = MAX_BODY
        self.idle_s = IDLE_S
        self.keep_alive = b""
        self.max_head = MAX_HEAD
        self.http2 = True
        self.wanted = WANTED
        self.clients: set[Connected] = set()
        self.memory = HeldMemory()
        self.budget = StrangersBudget()
        self.keep: Keep | None = None
        self.max_clients = means.max_clients
        self.lag = Histogram()
        """Seconds by which the loop was late for the sweep."""
        self._crowded_at = -math.inf
        self._body_reader = ThreadPoolExecutor(1, "large-bodies")
        self.fleets: dict[str, FleetLane] = {}
        self.models: dict[str, Served] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.refusals: dict[str, int] = {}
        self.keys: KeyRing | None = None
        """None: no keys file is configured."""
        self.keys_for_all = False
        self.created = int(time())
        self.origins: frozenset[str] = frozenset()
        """Web pages of these origins may use the gateway; `*`: of all."""
        self.local = False
        """It listens where only this machine can reach it."""
        self._road = Road(
            loop, means.now, rng, self._open_pool, means.on_evicted, self.done, self.memory,
            means.share, means.shelf, means.gateways, agrees=means.store is not None,
        )  # fmt: skip
        self._seen = Replicas()
        self._ids = itertools.count(rng.getrandbits(40))
        self._id_prefix = f"req-{rng.getrandbits(32):08x}-".encode()

    # -- configuration and discovery

    def configure(self, fleets: Iterable[Fleet], keys: KeyRing | None = None) -> None:
        """Takes the newest specs and keys. What runs goes on; fleets that are gone take no new requests."""
        self.keys = keys
        wanted = {f.name: f for f in fleets}
        for name in [n for n in self.fleets if n not in wanted]:
            self.fleets.pop(name).close()
        for name, fleet in wanted.items():
            known = self.fleets.get(name)
            if known is None:
                self.fleets[name] = FleetLane(fleet, self._road)
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
            headers.add(ASKED_HEADERS)
        self.wanted = frozenset(headers)
        self.keys_for_all = self.keys is not None
        self.http2 = all(f.spec.http2 for f in self.fleets.values())
        self.max_body = max((f.spec.max_body for f in self.fleets.values()), default=MAX_BODY)
        self.max_head = max((f.spec.max_head for f in self.fleets.values()), default=MAX_HEAD)
        self.idle_s = max((f.spec.idle_timeout for f in self.fleets.values()), default=IDLE_S)
        self.keep_alive = b"keep-alive: timeout=%d\r\n" % max(1, int(self.idle_s - SURE_S))
        self.discovered(self._seen)

    def _name_models(self, runtime: FleetLane) -> None:
        fleet = runtime.fleet
        names = fleet.served_names
        manners = manners_of(fleet.spec.gateway)
        for name in names:
            self.models[name] = Served(runtime, name, None, manners)
        for adapter in fleet.spec.model.adapters:
            self.models[adapter.name] = Served(runtime, adapter.name, adapter.name, manners)
        for alias, target in fleet.spec.gateway.aliases.items():
            found = self.models.get(target)
            if found is not None and found.fleet is runtime:
                self.models[alias] = found
            elif target == fleet.name:
                self.models[alias] = Served(runtime, names[0], None, manners)

    def discovered(self, seen: Replicas) -> None:
        """Takes the newest discovery document."""
        self._seen = seen
        by_fleet: dict[str, list[Replica]] = {}
        for replica in seen.replicas:
            by_fleet.setdefault(replica.fleet, []).append(replica)
        awaited = () if "await-return" in self.means.without else seen.coming
        for name, runtime in self.fleets.items():
            runtime.discovered(by_fleet.get(name, []), seen.canary_weights.get(name, 0), name in awaited)

    def _open_pool(self, url: str) -> Pool:
        means = self.means
        return Pool(url, self.loop, self.tasks, means.engine_key, means.engine_tls, means.now)

    # -- requests

    def meet(self, request: Request) -> None:
        request.path = path_of(request.url)
        if self.door is not None and request.path.startswith(BATCH_ROUTES):
            request.through = True
        if self.origins:
            request.cors = self._cors(request.headers, request.method == b"OPTIONS")
        given = request.headers.get(b"x-request-id", b"")
        if given and len(given) <= 128 and ID_OK.issuperset(given):
            request.id = given
        else:
            request.id = self._id_prefix + b"%x" % next(self._ids)

    def early(self, client: Caller, request: Request) -> Refusal | None:
        """Before the body is read: what can be refused by the head alone."""
        if self.keys is not None:
            request.key = self.key_of(request.headers)
            if (
                request.key is None
                and self.keys_for_all
                and request.path not in OPEN
                and not _preflight(request)
                and not self._of_lane(request)
            ):
                return _NO_KEY
        headers = request.headers
        of_browser = ORIGIN in headers or SITE in headers  # few are
        if of_browser and request.key is None and client.handler is self and request.path not in OPEN:
            return strayed(request.method, headers, self.origins, self.local)
        return None

    def _of_lane(self, request: Request) -> bool:
        """It is a line of a batch, whose owner has shown a key when he made it."""
        given = request.headers.get(BATCH)
        return given is not None and self.door is not None and self.door.knows(given)

    def hand_through(self, request: Request, transport: asyncio.Transport, data: bytes) -> Through | Refusal:
        """The batch lane answers it: on this connection, which ends with its answer."""
        key, door = request.key, self.door
        if key is None and any(f.tenants.required for f in self.fleets.values()):
            return _NO_KEY
        assert door is not None
        tenant = key.tenant if key is not None else ""
        return door.begin(self.loop, transport, data, tenant, key.models if key is not None else ())

    def key_of(self, headers: Mapping[bytes, bytes], fleet: str | None = None) -> Key | None:
        """The first valid key among the credentials that a client sent: one that opens `fleet`, or any at all."""
        if self.keys is None:
            return None
        now = time()
        for name in CREDENTIALS:
            given = headers.get(name)
            if given is not None:
                if name == b"authorization" and given[:7].lower() == b"bearer ":
                    given = given[7:].strip()
                key = self.keys.find(given, now, fleet)
                if key is not None:
                    return key
        return None

    def _cors(self, headers: Mapping[bytes, bytes], preflight: bool) -> bytes:
        """The header lines that let a web page of an allowed origin read the answer."""
        origin = headers.get(ORIGIN, b"")
        every = "*" in self.origins
        if not origin or not (every or origin.decode("latin-1") in self.origins):
            return b""
        lines = b"access-control-allow-origin: " + (b"*" if every else origin + b"\r\nvary: origin") + b"\r\n"
        if preflight:
            asked = headers.get(ASKED_HEADERS, b"authorization, content-type")
            return lines + PREFLIGHT + b"access-control-allow-headers: " + asked + b"\r\n"
        return lines + b"access-control-expose-headers: " + EXPOSED + b"\r\n"

    def handle(self, client: Caller, request: Request) -> None:
        """A whole request has come in."""
        if self.peers.count > 1 and self._passed_on(client, request):
            return
        path = request.path
        route = ROUTES.get(path)
        if request.cors and _preflight(request):
            client.answer(200, b"text/plain", b"")
        elif request.through:
            message = "Files and batches are sent over HTTP/1.1, on a connection of their own."
            client.decline(Refusal(400, "http_version", message))
        elif route is None or request.method != b"POST":
            of_one = path.startswith(ONE_RESPONSE)
            if not of_one or not responses.find(client, request, self._owned(request)):
                self._other(client, request, path)
        elif request.size > LARGE and not is_form(request.headers.get(b"content-type", b"")):
            self._read_large(client, request, route)
        else:
            refusal = self._serve(client, request, route)
            if refusal is not None:
                client.decline(refusal)

    def _passed_on(self, client: Caller, request: Request) -> bool:
        """Another process of this gateway keeps what the request comes for, and answers it."""
        headers, owner, hop = request.headers, self.peers.own, BY_KEY
        if FORWARDED in headers or request.method == b"HEAD":
            return False
        if request.path.startswith(ONE_RESPONSE):
            owner = self.peers.of_id(request.path[len(ONE_RESPONSE) :].decode("latin-1"))
        elif IDEMPOTENCY in headers and request.path in ROUTES:
            key = key_of(headers)
            owner = owner if isinstance(key, Refusal) else self.peers.of_key(key)
        if not self.peers.elsewhere(owner, request, hop):
            return False
        self.pass_on(owner, client, request, hop, lambda: self.handle(client, request))
        return True

    def pass_on(
        self, owner: int, client: Caller, request: Request, hop: bytes, here: Callable[[], None]
    ) -> None:
        """`owner` answers it; `here`: this process does, for that one cannot be reached."""

        def not_there() -> None:
            client.exchange = None
            request.headers[FORWARDED] = hop
            here()

        forward = self.peers.forward(owner, request, client, not_there, hop)
        client.serve(forward)
        forward.begin()

    def _peek(self, request: Request) -> Body | Refusal:
        body = peek(request.body)
        if isinstance(body, Refusal) and request.body.startswith(BOM_UTF8):
            request.body = request.body[len(BOM_UTF8) :]  # Python's JSON skips it, and so does the engine
            body = peek(request.body)
        return body

    def _read_large(self, client: Caller, request: Request, route: str) -> None:
        """It goes on in `_has_read`, in a turn of the loop to come."""
        reading = self.loop.run_in_executor(
            self._body_reader,
            read_large,
            request.path,
            request.body,
            lambda data, body: self._may_pass(data, body, route),
        )
        reading.add_done_callback(lambda done: self._has_read(client, request, route, done))

    def _may_pass(self, data: bytes, body: Body, route: str) -> Refusal | None:
        """In the thread."""
        served = self._served(body)
        return served if isinstance(served, Refusal) else misses_manners(data, served.manners, route)

    def _has_read(
        self, client: Caller, request: Request, route: str, done: asyncio.Future[LargeBody | Refusal]
    ) -> None:
        if client.gone or done.cancelled():
            client.next()
            return
        read = done.result()
        if isinstance(read, LargeBody):
            request.members, request.mark, request.body = read.members, read.mark, read.members.body
        refusal = self._serve(client, request, route, read.body if isinstance(read, LargeBody) else read)
        if refusal is not None:
            client.decline(refusal)

    def _other(self, client: Caller, request: Request, path: bytes) -> None:
        """What no engine is asked for, or too little to count."""
        if request.method in (b"GET", b"HEAD"):
            if path == MODELS or path.startswith(MODELS + b"/"):
                self._models(client, request, unquote(path[len(MODELS) + 1 :].decode("latin-1")))
                return
            if path in (HEALTH, PING):
                client.answer(200, JSON, b"{}")
                return
            if path == VERSION:
                client.answer(200, JSON, VERSION_PAGE)
                return
            if path == READY:
                why = cannot_serve(self.fleets.values(), self.closing)
                client.answer(
                    503 if why else 200, b"text/plain; charset=utf-8", (why or "ok").encode() + b"\n"
                )
                return
        elif path == PING and request.method == b"POST":
            client.answer(200, JSON, b"{}")
            return
        client.decline(no_such(path, request.method))

    def _models(self, client: Caller, request: Request, name: str) -> None:
        """The models that the client may use, or the one of that name."""
        unknown = [lane for lane in self.fleets.values() if not lane.asked_longest]
        if unknown and self.means.ask_longest is not None and request.tries == 0:
            request.tries = 1
            self.means.ask_longest(unknown, lambda: self._models(client, request, name))
            return
        seen = self.models
        if request.key is not None:
            keys = {fleet: self.key_of(request.headers, fleet) for fleet in self.fleets}
            seen = {n: s for n, s in seen.items() if self._may_use(keys[s.fleet.name], n, s)}
        if not name:
            client.answer(200, JSON, models_page(seen, self.created))
        elif name in seen:
            client.answer(200, JSON, msgspec.json.encode(model_card(name, seen[name], self.created)))
        else:
            client.decline(_unknown(name))

    def _owned(self, request: Request) -> list[responses.Owned]:
        """The fleets that the client may ask, each with the tenant that it is there."""
        found: list[responses.Owned] = []
        for lane in self.fleets.values():
            key = self.key_of(request.headers, lane.name)
            tenant = lane.tenants.of(key)
            if tenant is not None and (key is not None or not self.keys_for_all):
                found.append((lane, tenant.name))
        return found

    def _may_use(self, key: Key | None, name: str, served: Served) -> bool:
        tenant = served.fleet.tenants.of(key)
        return key is not None and tenant is not None and allowed(name, tenant, key)

    def meant(self, request: Request, body: Body | Refusal | None = None) -> tuple[Body, Served] | Refusal:
        """What a request asks of which model, and whether its key may. `body`: where it has been read."""
        form = form_of(request) if body is None else None
        if isinstance(form, Refusal):
            return form
        if form is not None:
            body = Body(model=form.model)
        elif body is None:
            body = self._peek(request)
        if isinstance(body, Refusal):
            return body
        served = self._served(body)
        if isinstance(served, Refusal):
            return served
        runtime = served.fleet
        name = body.model or served.engine_name
        request.model = name
        if request.key is not None and self.keys is not None and self.keys.divided:
            request.key = self.key_of(request.headers, runtime.name)
        line = BATCH in request.headers and self._of_lane(request)
        tenant = self._owner(runtime, request) if line else runtime.tenants.of(request.key)
        nobody = request.key is None and not line
        if tenant is None or (nobody and (runtime.tenants.required or self.keys_for_all)):
            return _NO_KEY
        request.tenant = tenant
        if not allowed(name, tenant, request.key):
            message = f"Your key may not use the model `{name[:100]}`."
            return Refusal(403, "model_not_allowed", message, param="model")
        if form is not None:
            request.form = True
            if name != served.engine_name:
                request.body = with_model_name(request.body, form, served.engine_name)
            refusal = refuse_fields(dict.fromkeys(form.names), served.manners)
            if refusal is not None:
                return refusal
        return body, served

    def _owner(self, runtime: FleetLane, request: Request) -> Tenant | None:
        """Whose line of a batch it is."""
        return runtime.tenants.known(unquote(request.headers.get(BATCH_TENANT, b"").decode("latin-1")))

    def _serve(
        self, client: Caller, request: Request, route: str, body: Body | Refusal | None = None
    ) -> Refusal | None:
        meant = self.meant(request, body)
        if isinstance(meant, Refusal):
            return meant
        body, served = meant
        runtime = served.fleet
        if request.size > runtime.spec.max_body:
            return _larger_than(runtime.spec.max_body)
        if request.members is None and not request.form:
            unmannerly = misses_manners(request.body, served.manners, route)
            if unmannerly is not None:
                return unmannerly
        if runtime.quarantine:
            left = runtime.quarantine.left_s(request.path, request.body, self.now(), request.mark)
            if left:
                return poisonous(left)
        if route == "responses" or (IDEMPOTENCY in request.headers and runtime.kept.keeps):
            asked = Asked(self, client, request, route, body, served)
            return responses.serve(asked) if route == "responses" else keyed(asked)
        return self.begin(client, request, route, body, served)

    def begin(
        self, client: Caller, request: Request, route: str, body: Body, served: Served
    ) -> Refusal | None:
        """A request whose answer only its client reads."""
        exchange = self.exchange(client, request, route, body, served)
        if isinstance(exchange, Refusal):
            return exchange
        if client.record is not None:
            note_accepted(client.record, exchange)
        client.serve(exchange)
        exchange.begin()
        return None

    def exchange(
        self,
        sink: Sink,
        request: Request,
        route: str,
        body: Body,
        served: Served,
        before: Accepted | None = None,
    ) -> Exchange | Refusal:
        """What serves a request that may come in, ready to begin. `before`: how a predecessor of this process had
        accepted it: its limits are not looked at again."""
        runtime, tenant = served.fleet, request.tenant
        deadline = math.inf
        if before is not None:
            deadline = before.deadline
        elif DEADLINE in request.headers:
            given = self._deadline(request.headers[DEADLINE])
            if isinstance(given, Refusal):
                return given
            deadline = given
        name = request.model
        members = request.members if not request.sent else None
        if members is not None:
            members = self._rewritten(members, request, route, served)
            payload = members.body
        else:
            payload = request.sent or request.body
            if name != served.engine_name and not request.form:
                payload = with_model(payload, served.engine_name)
            if served.manners.salted and route not in UNCACHED:
                payload = with_salt(payload, fields_of(payload), runtime.name, tenant.name)
            if self._comes_last(request, runtime):
                payload = with_member(payload, "priority", LAST)
        request.extra = forwarded_lines(request)
        request.priority = self._priority(request)
        ask = ask_of(runtime, served, request, body)
        limits = request.key is not None or tenant.meter.limits
        if before is None and limits and request.priority < SPARE:
            meters = [m for m in (tenant.meter, runtime.tenants.meter_of(request.key)) if m is not None]
            limited = pass_limits(meters, ask.tokens, self.now())
            request.limits = limit_lines(meters)
            if limited is not None:
                return limited
        stream: StreamSession | None = None
        request.streams = route in STREAMS and body.stream is True
        try:
            if request.streams:
                stream = session(request.path, payload, runtime.policy, self.rng, members)
            elif before.whole if before is not None else self._may_assemble(route, body, runtime):
                streamed, members = streamed_form(request.path.decode(), payload, members)
                if streamed is not None:
                    stream = session(request.path, streamed, runtime.policy, self.rng, members)
                    sink = WholeSink(sink, Whole(request.path.decode(), payload), payload)
                    payload = streamed
        except RecursionError:  # a field that `peek` just managed to skip
            return TOO_DEEP
        except Unreadable as e:  # of a large body
            return e.refusal
        if members is not None and stream is not None:
            payload = stream.first_request()
        exchange = Exchange(sink, request, runtime, stream, payload, ask, deadline)
        self._hand_over(request, exchange)
        return exchange

    def _hand_over(self, request: Request, exchange: Exchange) -> None:
        """The bodies are the exchange's from now on; of a large request, the form that the client sent can go."""
        payload, sent = exchange.payload, exchange.attempt.body
        if request.members is not None:
            request.members, request.body = None, payload
        size = len(payload)
        if request.body is not payload:
            size += len(request.body)
        if sent is not payload:
            size += len(sent)
        if isinstance(exchange.sink, WholeSink) and exchange.sink.body is not request.body:
            size += len(exchange.sink.body)
        self.memory.add(-request.held)
        request.held = 0
        exchange.hold(size)

    def _rewritten(self, members: Members, request: Request, route: str, served: Served) -> Members:
        """A large body as the engine gets it. Its old form can go."""
        new: dict[str, bytes] = {}
        if request.model != served.engine_name:
            new["model"] = msgspec.json.encode(served.engine_name)
        if served.manners.salted and route not in UNCACHED:
            members.small(SALT)
            salt = salt_of(served.fleet.name, request.tenant.name, members.fields.get(SALT))
            new[SALT] = msgspec.json.encode(salt)
        if self._comes_last(request, served.fleet):
            new["priority"] = LAST
        return members.with_fields(new) if new else members

    def _comes_last(self, request: Request, runtime: FleetLane) -> bool:
        """The engine, too, is to serve it after all others: a line of a batch."""
        return BATCH in request.headers and runtime.spec.batch is not None and self._of_lane(request)

    def _may_assemble(self, route: str, body: Body, lane: FleetLane) -> bool:
        return route in STREAMS and self._assembles and may_be_long(body, lane.typical_output)

    def _served(self, body: Body) -> Served | Refusal:
        if not body.model:
            if len(self.fleets) == 1:
                return next(iter(self.models.values()))
            return Refusal(
                400, "no_model", "Name a model in `model`; GET /v1/models lists them.", param="model"
            )
        return self.models.get(body.model) or _unknown(body.model)

    def _deadline(self, given: bytes) -> float | Refusal:
        try:
            return self.now() + parse_seconds(given.decode("latin-1"))
        except ValueError as e:
            return Refusal(400, "invalid_deadline", f"The header {DEADLINE.decode()} is not right: {e}.")

    def _priority(self, request: Request) -> int:
        """A client may rank its own requests lower than its tenant's priority, never higher."""
        given = request.headers.get(PRIORITY)
        own = request.tenant.priority
        if BATCH in request.headers and self._of_lane(request):
            kind = request.headers.get(BATCH_CLASS)
            return DUE if kind == b"due" else own if kind == b"ordinary" else SPARE
        return max(own, min(LEAST, int(given[-4000:]))) if given is not None and given.isdigit() else own

    def done(self, ended: Ended) -> None:
        """A request is over: account for it."""
        runtime = self.fleets.get(ended.fleet)
        if runtime is not None:
            settle(runtime.tenants, ended)
            if ended.streamed and ended.tokens_out > 1 and ended.first_s > 0.0:
                runtime.stats.tpot.add((ended.seconds - ended.first_s) / (ended.tokens_out - 1))
        if self.audit is not None:
            self.audit.note(ended)
        if self.spans is not None:
            self.spans.note(ended)

    def give_up_unread(self) -> None:
        """This process goes, and nobody can come any more for what it keeps."""
        for runtime in self.fleets.values():
            for record in runtime.kept.running:
                if not record.followed:
                    record.cancel()

    def refused(self, refusal: Refusal) -> None:
        self.refusals[refusal.code] = self.refusals.get(refusal.code, 0) + 1

    def crowded(self, now: float) -> bool:
        """Closes what has been idle for a second, but looks no more often than that."""
        if now - self._crowded_at < CROWDED_S:
            return False
        self._crowded_at = now
        idle = [c for c in self.clients if now - c.idle_since > CROWDED_S]
        for client in idle:
            client.cut()
        return bool(idle)

    # -- time

    def sweep(self, now: float) -> None:
        self.peers.sweep(now)
        for runtime in self.fleets.values():
            runtime.sweep(now)
        if self.memory.over:
            self._relieve(now)

    def _relieve(self, now: float) -> None:
        """More is held than may be: answers that nobody takes go, those that have lain the longest first, then the
        largest records, with what they are of."""
        short = self.memory.held - self.memory.bound
        lie = [one for client in self.clients for one in client.untaken if now - one.since > UNTAKEN_S]
        for one in sorted(lie, key=_since):
            if short <= 0:
                return
            one.cut()
            short -= one.size
        active = [e for f in self.fleets.values() for e in f.active if e.recorded > LITTLE]
        for exchange in sorted(active, key=_recorded, reverse=True):
            if not self.memory.over:
                break
            exchange.too_much()

    def sweep_clients(self, now: float) -> None:
        self.clock.tick()
        for client in list(self.clients):
            client.check(now)


def _recorded(exchange: Held) -> int:
    return exchange.recorded


def _since(lies: Untaken) -> float:
    return lies.since


def allowed(model: str, tenant: Tenant, key: Key | None) -> bool:
    """Whether both the tenant's and the key's list of models (empty: all) hold it."""
    if tenant.models and model not in tenant.models:
        return False
    return key is None or not key.models or model in key.models


def _preflight(request: Request) -> bool:
    """A browser asks whether a page may use the gateway, and it may."""
    return request.method == b"OPTIONS" and bool(request.cors)


_NO_KEY = Refusal(401, "invalid_api_key", "No valid API key. Send `Authorization: Bearer KEY`.")


def _larger_than(limit: int) -> Refusal:
    return Refusal(413, "body_too_large", f"The body is larger than {limit} bytes (gateway.maxBody).")


def _unknown(name: str) -> Refusal:
    shown = "".join(c if c.isprintable() else "?" for c in name[:100])
    return Refusal(
        404,
        "model_not_found",
        f"The model `{shown}` does not exist; GET /v1/models lists them.",
        param="model",
    )
