"""One gateway process: sockets, signals, the sweep, and the order of coming up and going down.

SIGTERM: readiness turns false, the listening socket closes, streams finish within the grace, exit 0.
SIGHUP, or a changed spec file: the specs are read again and nothing in flight notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import random
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic, time

from seawall.decide.route.pick import Target
from seawall.decide.route.record import Shelf, ShelfRules
from seawall.decide.truth.sick import TAIL
from seawall.domain import labels
from seawall.domain.labels import (
    AUDIT_DROPPED_TOTAL,
    CARRIED_LOST_TOTAL,
    CARRIED_TOTAL,
    CONFIG_ERRORS_TOTAL,
    COUNTED_SINCE,
    DISCOVERY_ERRORS_TOTAL,
    KEEPER_CONNECTED,
    UNKEPT_TOTAL,
)
from seawall.domain.spec import Fleet
from seawall.drivers.kept_store import KeptStore
from seawall.drivers.store import SharedStore
from seawall.drivers.store_client import parse_address
from seawall.errors import InputError
from seawall.gateway.edge.caller import HEAD_S, HIGH_WATER
from seawall.gateway.edge.client_side import client_factory
from seawall.gateway.edge.through import BatchDoor
from seawall.gateway.exchange.exchange import Exchange
from seawall.gateway.exchange.lane import FleetLane
from seawall.gateway.exchange.written import KeptPages
from seawall.gateway.intake.app import App
from seawall.gateway.intake.means import Means
from seawall.gateway.intake.peers import Peers, socket_of
from seawall.gateway.process import usage
from seawall.gateway.process.admin import Admin
from seawall.gateway.process.board import Board
from seawall.gateway.process.certificates import Certificates
from seawall.gateway.process.configuration import Configuration
from seawall.gateway.process.console_pages import ConsolePages
from seawall.gateway.process.counts import CountsRecord
from seawall.gateway.process.custody import Custody, Estate, Holding
from seawall.gateway.process.last_read import read_or_last
from seawall.gateway.process.metrics import Line
from seawall.gateway.process.settings import Settings, keeps, read_specs
from seawall.gateway.process.sockets import (
    address_of,
    bind,
    clients_at_most,
    serves_at,
    serves_this_machine,
    steer_away,
    url_of,
)
from seawall.gateway.process.successor import RENEWED, end_with_parent, one_after_another
from seawall.gateway.process.takeover import TakeOver
from seawall.gateway.process.tls_front import TlsFront
from seawall.gateway.replicas.discovery import FileDiscovery, static
from seawall.gateway.replicas.longest import Longest
from seawall.gateway.replicas.probe import healthy, serves
from seawall.gateway.replicas.truth import TruthWatch
from seawall.gateway.replicas.watch import Watch
from seawall.gateway.tell import otel
from seawall.gateway.tell.audit import Audit
from seawall.gateway.tell.tenants import Share
from seawall.gateway.tier.adopt import adopt
from seawall.gateway.tier.kept import SharedRecord, SharedShelf
from seawall.gateway.tier.tier import Tier

log = logging.getLogger("seawall.gateway")
BACKLOG = 4096
SWEEP_S = 0.25
CLIENTS_EVERY = 4
"""Clients are looked at every fourth sweep."""
EXCHANGE_S = 0.05
"""Workers tell each other so often what they hold."""
NOTE_SHARE = 100
"""Counts are written down at every sweep, and in no more than a hundredth of the time: there may be many tenants."""
ORPHAN_S = 5.0
STREAMS_LOOKED_AT = 2
"""Of each fleet, at every sweep."""
MMAP_THRESHOLD = 256 * 1024


class Server:
    """Everything of one process. `run` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        ready: Callable[[str, str], None] = lambda url, admin: None,
        signals: bool = True,
        certificates: Certificates | None = None,
        renewed: Callable[[], None] = lambda: None,
    ) -> None:
        """`certificates`: as they were before this process began; None: they are read from the files. `renewed`: tells
        whoever gave them that there are newer ones."""
        self._signals = signals
        self._stale = certificates.renew_all() if certificates is not None else []
        self._certificates = certificates or certificates_of(settings)
        self._renewed = renewed
        self.settings = settings
        self._ready = ready
        self._began = time()
        self._stop = asyncio.Event()
        self._discovery: FileDiscovery | None = None
        self._kept: Custody | None = None
        self._take_over: TakeOver | None = None
        self._counts: CountsRecord | None = None
        self._pages = KeptPages()
        self._left: asyncio.Queue[tuple[Estate, Holding]] = asyncio.Queue()
        self._inherited: socket.socket | None = None
        self._orphan_since = 0.0
        self._greeting = False
        """It waits for what its keeper has for it."""
        self._greets = False
        """It asks its keeper for the listening socket of a predecessor."""
        self._fronts: list[asyncio.Server | TlsFront] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        s = self.settings
        self.truth = TruthWatch()
        self.watch = Watch(serves if "token-proof" not in s.without else healthy, s.patience, self.truth)
        self._board = Board(s.board, s.worker, s.workers) if s.board else None
        read = read_or_last(s)
        self.tier = self._join(s, read.fleets)
        means = Means(
            engine_key=s.engine_key,
            engine_tls=self._certificates.engines,
            on_evicted=self._evicted,
            audit=Audit(s.audit, must=not s.died) if s.audit else None,
            spans=otel.from_environment(),
            ask_longest=Longest(loop).ask,
            share=self._share(),
            gateways=self.tier.expected if self.tier is not None else 1,
            shelf=self._shelf_of,
            store=self.tier.told if self.tier is not None else None,
            name=self.tier.name if self.tier is not None else "",
            tallies=self.tier.tallies if self.tier is not None else {},
            peers=Peers(s.board.parent if s.board else None, s.worker, s.workers, loop, monotonic),
            without=s.without,
            max_clients=clients_at_most(),
            batch=BatchDoor(s.batch, s.batch_secret) if s.batch and s.batch_secret else None,
        )
        self.app = app = App(loop, Random(), means)
        self._tls = tls = self._certificates.clients is not None
        self.config = Configuration(s, app, self.truth, self._certificates, self._renewed)
        self.config.begin(read, self._stale)
        self._load_usage()
        self.console = ConsolePages(app, s.supervisor)
        self.admin = Admin(app, self.more_metrics, self.console, self.note_counts)
        listening = await self._keep(loop) or bind(s.listen, "clients")
        app.local = serves_this_machine(listening)
        self._spare = listening.dup()
        admin = bind(s.admin, "the admin port")
        if self._signals:
            for sig in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(sig, self._stop.set)
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        async with asyncio.TaskGroup() as background:
            helpers = [background.create_task(self._sweep()), background.create_task(self.config.follow())]
            helpers += await self._discover(background)
            if self.tier is not None:
                await self.tier.turn()
                helpers.append(background.create_task(self.tier.run()))
                helpers.append(background.create_task(self.tier.outbox.run()))
            await self._listen(listening)
            if self._kept is not None:
                self._kept.listens(self._spare)
                helpers.append(background.create_task(self._inherit()))
            back = await loop.create_server(client_factory(self.admin, loop), sock=admin)
            await self._hear_peers()
            _calm_collector()
            self._ready(url_of(listening, tls), url_of(admin, False))
            await self._stop.wait()
            code = await self._drain()
            await self.watch.close()
            if self.tier is not None:
                self.tier.closing = True
                await self.tier.outbox.close()
            back.close()
            for helper in helpers:
                helper.cancel()
        if self._kept is not None:
            self._kept.close()
        if self.tier is not None:
            await self.tier.store.close()
        if self._board is not None:
            self._board.close()
        for runtime in app.fleets.values():
            runtime.close()
        if s.usage:
            usage.save(s.usage, app)
        if app.audit is not None:
            await app.audit.close()
        if app.spans is not None:
            await loop.run_in_executor(None, app.spans.close)
        return code

    def _load_usage(self) -> None:
        """What tenants have used before. A successor of a gateway that died serves without, too: its own tenants' was
        carried over."""
        s = self.settings
        if not s.usage:
            return
        try:
            usage.load(s.usage, self.app)
        except InputError as e:
            if not s.died:
                raise
            self.config.errors += 1
            log.error("what was counted before this process began stays: %s", e)

    async def _hear_peers(self) -> None:
        """The other workers pass on what is kept here."""
        if self.settings.board is not None:
            loop = asyncio.get_running_loop()
            path = socket_of(self.settings.board.parent, self.settings.worker)
            path.unlink(missing_ok=True)
            self._fronts.append(await loop.create_unix_server(client_factory(self.app, loop), str(path)))

    def _join(self, s: Settings, fleets: Sequence[Fleet]) -> Tier | None:
        """What it has in common with other gateways, where a store is named."""
        specs = [f.spec.gateway for f in fleets]
        url = s.store or next((g.store for g in specs if g.store not in (None, "managed")), None)
        if url is None or "store" in s.without:
            return None
        gateways = max((g.replicas for g in specs), default=1) * s.workers
        address = parse_address(url)
        if not address.scope and s.discovery == "kubernetes":
            from seawall.drivers.kube_config import account_uid

            address = replace(address, scope=account_uid() or "")
        stores = (
            SharedStore(address, s.store_password, s.store_ca),
            KeptStore(address, s.store_password, s.store_ca),
        )
        return Tier(stores, monotonic, lambda: self.app.fleets, self.watch.heard, self._go_on, gateways)

    def _go_on(
        self, shelf: SharedShelf, record: SharedRecord, facts: dict[str, bytes], tape: list[bytes]
    ) -> None:
        adopt(self.app, shelf, record, facts, tape)

    def _shelf_of(self, fleet: str, rules: ShelfRules) -> Shelf:
        """Where answers are kept that their clients come again for: with other gateways, or with the keeper."""
        if self.tier is not None:
            return self.tier.shelf(fleet, rules)
        return self._pages.shelf(fleet, rules, monotonic)

    def _share(self) -> Share | None:
        tier, board = self.tier, self._board
        if tier is not None:
            return tier.share
        if board is not None:
            return lambda name, meter: meter.share(board.share(name))
        return None

    def stop(self) -> None:
        """As SIGTERM."""
        self._stop.set()

    def _evicted(self, fleet: FleetLane, target: Target) -> None:
        self.watch.evicted(fleet, target)
        self.console.evicted(fleet.name, target.name, target.reason)

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> socket.socket | None:
        """Greets the keeper -> the listening socket that a predecessor left, if one did."""
        s = self.settings
        if s.keeper is None or not keeps([f.fleet for f in self.app.fleets.values()]):
            return None
        self._kept = kept = Custody(loop, s.keeper, s.seat, self._adopt, self.app.memory.bound // 4)
        self._counts = CountsRecord(self.app, self._own_lines)
        self._take_over = TakeOver(self.app, kept, loop, self._counts, s.died)
        self._pages.open(lambda: kept.main.arena)
        self._greets = self._greeting = True
        await kept.greet()
        self._greets = self._greeting = False
        self.app.keep = kept
        if self._tls:
            log.warning("TLS ends in this process: its connections are not kept when it dies")
        return self._inherited

    def _adopt(self, estate: Estate) -> None:
        """Takes what a predecessor left; `_inherit` goes on with it."""
        assert self._take_over is not None
        listener, estate.listener = estate.listener, None
        if listener is not None and self._greets and serves_at(listener, self.settings.listen):
            self._greets = False
            self._inherited, listener = listener, None
        holding = self._take_over.adopt(estate, first=self._greeting)
        if holding is not None:
            estate.listener = listener
            self._left.put_nowait((estate, holding))

    async def _inherit(self) -> None:
        """Goes on with what predecessors in this seat left, those that die later too."""
        assert self._take_over is not None
        while True:
            estate, holding = await self._left.get()
            if estate.listener is not None:
                await self._listen(estate.listener)
            await self._take_over.take(estate, holding)

    async def _listen(self, sock: socket.socket) -> None:
        high = HIGH_WATER if "back-pressure" not in self.settings.without else 2**30
        clients = client_factory(self.app, asyncio.get_running_loop(), high)
        if self._tls:
            front = TlsFront(self.app, clients, sock, self._certificates)
            front.start(BACKLOG)
            self._fronts.append(front)
            return
        loop = asyncio.get_running_loop()
        self._fronts.append(await loop.create_server(clients, sock=sock, backlog=BACKLOG))

    async def _discover(self, background: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        kind, _, rest = self.settings.discovery.partition(":")
        app = self.app
        if kind == "static":
            app.discovered(static([u.strip() for u in rest.split(",") if u.strip()], list(app.fleets)))
            return []
        if kind == "file" and rest:
            self._discovery = FileDiscovery(Path(rest), app.discovered)
            return [background.create_task(self._discovery.run())]
        if kind == "kubernetes":
            spaces = {f.fleet.metadata.namespace for f in app.fleets.values()}
            return [background.create_task(self._follow_cluster(spaces if not rest else {rest}))]
        raise InputError(
            f"--discovery {self.settings.discovery!r} is not known.",
            "Write file:PATH, static:URL,URL or kubernetes.",
        )

    async def _follow_cluster(self, namespaces: set[str]) -> None:
        # Only here: the client and its HTTP library cost 15 MB and a third of the start-up.
        from seawall.drivers.kube import connect
        from seawall.gateway.replicas.kube_discovery import KubeDiscovery

        async with connect() as kube:
            await KubeDiscovery(kube, namespaces, self.app.discovered).run()

    async def _drain(self) -> int:
        """Stops listening, lets what runs finish within the grace, tells clients to go elsewhere."""
        app = self.app
        app.closing = True
        until = app.now() + self.settings.grace_s
        if self._kept is not None:
            self._kept.listens(None)
        if self._board is None:  # workers come and go one by one, and the others are many
            steer_away(self._spare)
        await asyncio.sleep(self.settings.hand_over_s)  # handshakes that began with us end with us
        for front in self._fronts:
            front.close()
        await self._accept_rest()
        # A client may be sending its next request on an idle connection: only quiet ones are closed, again and again.
        handed = app.means.batch.open if app.means.batch is not None else ()
        while (app.clients or handed or any(f.active for f in app.fleets.values())) and app.now() < until:
            app.sweep_clients(app.now())
            if not app.clients:
                app.give_up_unread()
            await asyncio.sleep(0.02)
        left = [e for f in app.fleets.values() for e in f.active]
        if left:
            log.warning("grace of %g s is over: %d requests are cut off", self.settings.grace_s, len(left))
        if self.tier is not None:
            self.tier.outbox.abandon()
        for exchange in left:
            exchange.shut_down()
        await asyncio.sleep(0)
        for client in list(app.clients):
            client.close()
        for _ in range(50):
            if not app.clients:
                break
            await asyncio.sleep(0.02)
        return 0

    async def _accept_rest(self) -> None:
        """Connections that the kernel has accepted for us would be reset with the socket: serve them, too. A new
        gateway on the same port (SO_REUSEPORT) gets all later ones."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = self._spare.accept()
            except OSError:
                break
            sock.setblocking(False)
            shake = HEAD_S if self._tls else None
            clients = client_factory(self.app, loop)
            await loop.connect_accepted_socket(
                clients, sock, ssl=self._certificates.clients, ssl_handshake_timeout=shake
            )
        self._spare.close()

    def _orphaned(self) -> bool:
        """Nobody watches this process any more. With a keeper it serves on for a while: whoever kills it for that, or
        starts another one, does so first, and a drain before a kill would turn clients away."""
        s, now = self.settings, self.app.now()
        if not s.parent or self._stop.is_set() or os.getppid() == s.parent:
            return False
        self._orphan_since = self._orphan_since or now
        return self._kept is None or now - self._orphan_since > ORPHAN_S

    async def _sweep(self) -> None:
        loop, n, note_at = asyncio.get_running_loop(), 0, 0.0
        while True:
            pause = SWEEP_S if self._board is None else EXCHANGE_S
            for _ in range(round(SWEEP_S / pause)):
                due = loop.time() + pause
                await asyncio.sleep(pause)
                self.app.lag.add(max(0.0, loop.time() - due))
                if self._board is not None:
                    self._board.exchange(self.app, places=self.tier is None)
            n += 1
            began = monotonic()
            if began >= note_at:
                self.note_counts()
                note_at = began + NOTE_SHARE * (monotonic() - began)
            if self._orphaned():
                log.error("the gateway's parent process is gone: this worker finishes what runs, and ends")
                self._stop.set()
            now = self.app.now()
            self.app.sweep(now)
            if "stall-watch" not in self.settings.without:
                for fleet in self.app.fleets.values():
                    self.watch.sweep(fleet, now)
            for fleet in self.app.fleets.values():
                self.watch.patrol(fleet, now)
                self._look_at_streams(fleet)
            if self.app.audit is not None:
                self.app.audit.flush(loop)
            if self.settings.usage and n % round(usage.SAVE_S / SWEEP_S) == 0:
                usage.save(self.settings.usage, self.app)
            if n % CLIENTS_EVERY == 0:
                self.app.sweep_clients(now)
                for client in list(self.admin.clients):
                    client.check(now)
                if self._board is None:  # several workers have one console, their parent's
                    self.console.look()

    def _look_at_streams(self, fleet: FleetLane) -> None:
        """Whether one that runs says what no sane model does. A few a second, whatever their number: about 10 us each
        of what their record holds anyway."""
        for target in fleet.shadow.take_differing() if fleet.shadow is not None else ():
            self.truth.sick(fleet, target, "of one request it and a sibling say different things")
        running = fleet.active
        if not running:
            return
        for one in random.sample(running, min(STREAMS_LOOKED_AT, len(running))):
            if not isinstance(one, Exchange) or one.session is None or one.target is None:
                continue
            self.truth.said(fleet, one.session.recent_ids(TAIL))
            why = one.session.looks_sick(TAIL)
            if why:
                self.truth.sick(fleet, one.target, why)

    def reload(self) -> None:
        """As SIGHUP."""
        self.config.ask_again()

    def more_metrics(self) -> list[Line]:
        """What is told of the process beside its fleets."""
        return self._own_lines() if self._counts is None else self._counts.lines()

    def note_counts(self) -> None:
        """What is counted is told from now on, whoever dies."""
        if self._counts is not None and self._kept is not None:
            self._counts.note(self._kept.main.arena)

    def _own_lines(self) -> list[Line]:
        since = self._counts.since if self._counts is not None else self._began
        out: list[Line] = [
            (COUNTED_SINCE, {}, round(since, 3)),
            (CONFIG_ERRORS_TOTAL, {}, self.config.errors),
        ]
        if self.tier is not None:
            out.append((labels.STORE_UP, {}, int(self.tier.up)))
            out.append((labels.STORE_ALONE_SECONDS_TOTAL, {}, round(self.tier.alone_s, 3)))
            out.append((labels.STORE_GATEWAYS, {}, self.tier.gateways))
            out.append((labels.STORE_ROUND_SECONDS, {}, round(self.tier.round_s, 4)))
            out.append((labels.STORE_TAKEN_OVER_TOTAL, {}, self.tier.outbox.taken))
        out += self.truth.lines(self.app.fleets.values())
        if self._discovery is not None:
            out.append((DISCOVERY_ERRORS_TOTAL, {}, self._discovery.errors))
        if self._kept is not None and self._take_over is not None:
            took = self._take_over
            out.append((KEEPER_CONNECTED, {}, int(self._kept.connected)))
            out += [(UNKEPT_TOTAL, {"why": why}, n) for why, n in self._kept.unkept.items()]
            out += [(CARRIED_TOTAL, {"what": what}, n) for what, n in took.carried.items()]
            out += [(CARRIED_LOST_TOTAL, {"why": why}, n) for why, n in took.lost.items()]
        if self.app.audit is not None:
            out.append((AUDIT_DROPPED_TOTAL, {}, self.app.audit.lost))
        return out


def certificates_of(s: Settings) -> Certificates:
    """As the files are now. Raises InputError."""
    return Certificates(s.tls_cert, s.tls_key, s.engine_ca)


def _calm_collector() -> None:
    """Requests leave no cycles, so the collector need not look often, nor ever at what start-up made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _return_large_blocks() -> None:
    """Bodies go back to the kernel when they are let go. glibc learns otherwise from the first one that is freed: the
    next ones lie in the heap then, and one small thing behind them keeps all of it (M_MMAP_THRESHOLD in mallopt(3))."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(-3, MMAP_THRESHOLD)


def run(settings: Settings, ready: Callable[[str, str], None]) -> int:
    """Runs one gateway process to its end, on uvloop; with a keeper, one after another. Returns the exit code."""
    import uvloop

    # A stream takes two descriptors, and a shell's soft limit is mostly 1,024.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _return_large_blocks()

    def serve(settings: Settings, ready: Callable[[str, str], None], heirloom: Certificates | None) -> int:
        parent = os.getppid()

        def renewed() -> None:
            if heirloom is not None and os.getppid() == parent:
                os.kill(parent, RENEWED)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(Server(settings, ready, certificates=heirloom, renewed=renewed)))

    if settings.keeper is None:
        return serve(settings, ready, None)
    if settings.parent:
        end_with_parent()
    with contextlib.suppress(InputError):
        read_specs(settings.specs)  # what that imports, each process then has
    certificates = certificates_of(settings)
    with bind(settings.listen, "clients") as listen, bind(settings.admin, "the admin port") as admin:
        # Bound and never listening: all that come serve at the same ports.
        own = replace(settings, listen=address_of(listen), admin=address_of(admin))
        first = [ready]

        def one(served: Callable[[], None], died: float) -> int:
            def told(url: str, admin_url: str) -> None:
                served()
                if first:
                    first[0](url, admin_url)

            return serve(replace(own, parent=os.getppid(), died=died), told, certificates)

        def renew() -> None:
            with contextlib.suppress(InputError):  # its child says so
                certificates.renew()

        return one_after_another(one, served=first.clear, renewed=renew)


async def _serve(server: Server) -> int:
    try:
        return await server.run()
    except* InputError as group:
        raise group.exceptions[0] from None
