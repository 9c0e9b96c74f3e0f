"""What is known of one request while it is relayed, and its one ending. `relay.Exchange` acts on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from seawall.decide.route.admit import Ticket
from seawall.decide.route.pick import Ask, Target
from seawall.decide.route.resume import StreamSession
from seawall.gateway.seam import Counted, error_event
from seawall.gateway.wire import Refusal

if TYPE_CHECKING:
    from seawall.gateway.client_side import Client
    from seawall.gateway.fleet import FleetRuntime
    from seawall.gateway.hedge import Hedge
    from seawall.gateway.request import Request
    from seawall.gateway.upstream import Upstream


# Phases of an exchange, in their order. Plain numbers: an enum's members are looked up anew at every use.
WAITING: Final = 0
CONNECTING: Final = 1
SENT: Final = 2
HOLDING: Final = 3
STREAMING: Final = 4
OVER: Final = 5


class Record:
    """The data of an exchange."""

    __slots__ = (
        "_answer",
        "_body",
        "_conn",
        "_content_type",
        "_held",
        "_last_event",
        "_path",
        "_retries",
        "_sse",
        "_usage",
        "client",
        "code",
        "committed",
        "cost_usd",
        "first_token_at",
        "fleet",
        "hedge",
        "outcome",
        "payload",
        "phase",
        "replica",
        "request",
        "resumed",
        "retried",
        "seconds",
        "session",
        "side",
        "started",
        "status",
        "ticket",
        "tokens_in",
        "tokens_out",
    )

    def __init__(
        self,
        client: Client,
        request: Request,
        fleet: FleetRuntime,
        session: StreamSession | None,
        payload: bytes,
        ask: Ask,
        deadline: float,
    ) -> None:
        self.client = client
        self.request = request
        self.fleet = fleet
        self.session = session
        self.phase: int = WAITING
        self.started = fleet.now()
        self.first_token_at = 0.0
        self.ticket = Ticket(
            ask,
            request.tenant.name,
            request.tenant.weight,
            request.priority,
            deadline,
            self,
        )
        self.status = 0
        self.outcome = ""
        self.code = ""
        """Of the gateway's own refusal, if there was one."""
        self.replica = ""
        self.side = "stable"
        """Of a canary split: the group of the replica that was tried last."""
        self.resumed = self.retried = 0
        self.cost_usd = 0.0
        self.seconds = 0.0
        self.tokens_in = self.tokens_out = 0
        self._path = request.path
        self.payload = self._body = payload
        self.hedge: Hedge | None = None
        """A second attempt, while both wait for a first token."""
        self._conn: Upstream | None = None
        self._retries = fleet.spec.retries
        self._held: list[bytes] = []
        self.committed = False
        self._sse = False
        self._answer = 0
        self._usage: Counted | None = None
        self._content_type = b""
        self._last_event = 0.0
        """When data last came, as seen by the sweep."""

    @property
    def target(self) -> Target | None:
        """The replica that it has a place at."""
        return self.ticket.target

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.detach()

    def pause(self) -> None:
        """The client reads slowly: stop reading from the replica."""
        if self._conn is not None:
            self._conn.pause()

    def resume(self) -> None:
        if self._conn is not None:
            self._last_event = self.fleet.now()
            self._conn.resume()

    def _finished(self) -> None:
        stats = self.fleet.stats
        stats.finished += 1
        if self.session is not None and self.status == 200:
            stats.first_token(self.first_token_at - self.started)
        self._over("finished" if self.status < 400 else "refused")

    def _failed(self, refusal: Refusal, event: bytes | None = None) -> None:
        """Not answered whole. What has begun ends so that nobody takes it for whole."""
        self.fleet.stats.failed += 1
        self.status, self.code = refusal.status, refusal.code
        client = self.client
        if not self.committed:
            client.answer_refusal(refusal)
        elif self.session is None:
            client.cut()
        else:
            client.break_stream(event or error_event(self.session, refusal))
        self._over("failed")

    def _over(self, outcome: str) -> None:
        self._close(outcome)
        self.client.over(self)

    def _close(self, outcome: str) -> None:
        """The one ending: counts what the request was and cost."""
        self.phase = OVER
        if self.hedge is not None:
            self.hedge.drop()
        fleet = self.fleet
        fleet.left(self.ticket)
        self.ticket.owner = None  # no cycle is left for the collector
        self.outcome = outcome
        usage = self._usage if self.session is None else self.session.usage
        if usage is not None:
            self.tokens_in, self.tokens_out = usage.prompt_tokens, usage.completion_tokens
            fleet.stats.tokens_in += self.tokens_in
            fleet.stats.tokens_out += self.tokens_out
            self.cost_usd = fleet.cost_usd(self.tokens_in, self.tokens_out)
            if self.tokens_out:
                fleet.learn_output(self.tokens_out)
        self.seconds = fleet.now() - self.started
        if fleet.canary_percent and outcome == "finished":
            self._account_side()
        fleet.stats.duration.add(self.seconds)

    def _account_side(self) -> None:
        """What the canary's analysis learns from an answer."""
        slo = self.fleet.fleet.spec.traffic.slo
        ttft = self.first_token_at - self.started if self.first_token_at else 0.0
        rest = self.tokens_out - 1
        tpot = (self.seconds - ttft) / rest if ttft > 0 and rest > 0 else 0.0
        self.fleet.stats.sides[self.side].served(ttft, tpot, ttft > slo.ttft or tpot > slo.tpot)
