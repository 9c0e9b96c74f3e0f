"""The desk of a fleet: who may come in, who waits, who goes to which replica, and which replicas are out.

One sans-IO object that the gateway's lane and the simulator both drive, so that what the simulator says of queues,
retries and evictions is what the gateway does. It knows every ticket from `offer` to `left`:

    offer     a request comes: a place at a replica, a place in the queue, or a refusal
    broke     its replica failed it: what that says about the replica is drawn, its place there is free again
    again     it is to be tried elsewhere: a place at once, or the head of the queue
    give_way  it waits: the line of a batch that is to end for it
    left      it is over, however it ended
    tick      time has passed: places for who waits, tickets that waited too long, second attempts that are due
    evict, proven, discovered     what is known about replicas from elsewhere

Nothing is forgotten: `tickets` holds who was admitted and has not left. Forbidden here: awaiting, clocks, the global
rng, and what a request says. `now` is in seconds of any monotonic clock, the same for all calls.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from seawall.decide.route.admit import DUE, SPARE, Admission, Bounds, Queued, Rejected, Ticket
from seawall.decide.route.breaks import Blame, Break
from seawall.decide.route.odd import OddPrompts
from seawall.decide.route.pick import Ask, Changes, Picked, Router, Target
from seawall.decide.route.poison import DEATHS, Quarantine, blame
from seawall.domain.seen import Replica

REST_S = 0.25
"""How long nothing goes to a replica that said 503."""
ERRORS_IN_A_ROW = 3
"""So many different prompts that one replica answered with 5xx, and none that it answered well: it is out. One odd
prompt fails wherever it is asked, however often it comes: that says nothing about the replicas."""
NEWS_S = 5.0
"""Between the loss of the last replica and the word of those who start it again, or of nobody."""
STUCK = 16
"""So many tickets that no free replica suits are passed over in one round."""
AVOIDED = 8
"""So many replicas that failed a request are remembered."""
SPARE_SHARE = 0.97
"""Of a replica's places, for lines of batches: the rest is free for who comes next. For who comes after that, a line
gives way (`Desk.give_way`)."""
EARNED = 0.05
BURST = 10.0
"""Second attempts that each first one earns, and how many can be saved up."""


class DeskRules(NamedTuple):
    """What a fleet's spec says about its desk."""

    cap: int
    """Requests at one replica at a time."""
    bounds: Bounds = Bounds()
    queue_s: float = math.inf
    """Seconds in the queue, at most."""
    hedge_s: float | None = None
    """Without a token for so long, a request may be asked of a second replica; None: never."""


class Placed(NamedTuple):
    """A ticket that waited has a place."""

    ticket: Ticket
    picked: Picked


class Tick(NamedTuple):
    """What time brought."""

    placed: list[Placed]
    late: list[Ticket]
    """They waited too long. They are at the desk until they `left`."""
    seconds: list[Placed]
    """Second attempts: `ticket.second` holds a place from now on."""
    verdicts: list[Ticket]
    """Convicts whose time for a verdict has come (`died_of`)."""


class Desk:
    """See the module."""

    def __init__(self, rules: DeskRules, rng: Random) -> None:
        self.router = Router(rules.cap, rng)
        self.admission = Admission(rules.bounds)
        self.quarantine = Quarantine()
        self.odd = OddPrompts()
        self.tickets: set[Ticket] = set()
        self.coming = False
        """Somebody is starting a replica of this fleet."""
        self.credit = 1.0
        """Second attempts that may be made now."""
        self._served_at = -math.inf
        """When a replica was last seen to serve."""
        self._due: deque[tuple[float, Ticket]] = deque()
        self._resting: dict[Target, float] = {}
        self._convicts: dict[Ticket, float] = {}
        self._spares: dict[Ticket, None] = {}
        """Lines of batches with a place that live on what others leave, those that came last at the end."""
        self._dues: dict[Ticket, None] = {}
        """Those whose time is short, likewise."""
        self.configure(rules)

    def configure(self, rules: DeskRules) -> None:
        """Takes new rules; who waits and who is at a replica stays there."""
        self.rules = rules
        self.admission.bounds = rules.bounds
        self.router.recap(rules.cap)

    # -- requests

    def offer(self, ticket: Ticket, now: float) -> Picked | Queued | Rejected:
        """A request comes."""
        admission = self.admission
        free = self.router.free()
        if ticket.priority >= SPARE:
            return self._spare(ticket, now)
        if free and (not admission.queued or (ticket.priority < DUE and admission.queued == admission.due)):
            self.tickets.add(ticket)
            picked = self._pick(ticket, ticket.ask, now)
            if picked is None:
                ticket.deadline = min(ticket.until, now + self.rules.queue_s)
                admission.force(ticket, now)
                return Queued(0, "no free replica suits it")
            self._start(ticket, picked)
            return picked
        ticket.deadline = min(ticket.until, now + self.rules.queue_s)
        verdict = admission.offer(ticket, free, now)
        if isinstance(verdict, Rejected):
            return verdict
        assert isinstance(verdict, Queued)
        self.tickets.add(ticket)
        return verdict

    def _spare(self, ticket: Ticket, now: float) -> Picked | Rejected:
        """A line of a batch: a place that nobody else wants, or none."""
        admission = self.admission
        if admission.queued or admission.others:
            return Rejected(1, "others wait")
        picked = self._pick(ticket, ticket.ask, now) if self.router.free() else None
        if picked is None:
            return Rejected(1, "no place is to spare")
        self.tickets.add(ticket)
        self._start(ticket, picked)
        return picked

    def give_way(self, waits: Ticket) -> Ticket | None:
        """The line of a batch that is to end now, so that `waits`, which has just come and found no place, has its: of
        those that it could take the place of, the one that has run the least, and one whose time is short only where
        there is no other. It leaves as any other (`left`). None: there is none, or a free place is there that does not
        suit."""
        if waits.priority >= DUE or self.router.free():
            return None
        for lines in (self._spares, self._dues):
            for line in reversed(lines):
                if line.target is not None and self.router.suits(line.target, waits.ask):
                    del lines[line]
                    return line
        return None

    def carried(self, ticket: Ticket) -> None:
        """Another desk had admitted it, and is no more: it is neither refused nor kept waiting behind others. `again`
        follows."""
        self.tickets.add(ticket)

    def broke(self, ticket: Ticket, what: Break, now: float) -> bool:
        """The replica of `ticket` failed it. True: the replica is out now, and must be asked for a proof."""
        target = ticket.target
        assert target is not None
        out = False
        if what.kind == "dead":
            self.died(target, now)
        match what.blame:
            case Blame.BROKEN | Blame.DEATH:
                out = self.evict(target, what.reason, sudden=what.blame is Blame.DEATH)
            case Blame.ERROR:
                out = self.erred(target, what.mark, now)
            case Blame.FULL:
                self._resting[target] = now + REST_S
                self.router.rest(target)
            case _:
                pass
        if what.blame is not Blame.NOTHING:
            failed = [*ticket.ask.avoid, target.name]
            if what.mark:
                failed += [t.name for t in self.odd.refusers(what.mark, now) if t.name not in failed]
            ticket.ask = ticket.ask.but(avoid=tuple(failed[-AVOIDED:]))
        self._leave(ticket)
        return out

    def again(self, ticket: Ticket, now: float) -> Picked | None:
        """It is tried elsewhere: at once where a replica has room (or a tenth above), else before everybody; a line of
        a batch behind everybody."""
        ticket.ask = ticket.ask.but(urgent=ticket.priority < SPARE)
        picked = self._place(ticket, now)
        if picked is None:
            ticket.deadline = min(ticket.until, now + self.rules.queue_s)
            if ticket.ask.urgent:
                self.admission.urgent(ticket, now)
            else:
                self.admission.force(ticket, now)
        return picked

    def convict(self, ticket: Ticket, until: float) -> None:
        """It waits for a verdict until then: for the proofs of the replicas that it is said to have killed."""
        self._convicts[ticket] = until

    def left(self, ticket: Ticket, now: float) -> None:
        """It is over: answered, failed, given up by its client, wherever it was."""
        self.tickets.discard(ticket)
        if ticket.priority >= DUE:
            self._lines(ticket).pop(ticket, None)
        if ticket.bucket >= 0:
            self.admission.cancel(ticket)
        if ticket.second is not None:
            self.drop_second(ticket)
        if ticket.convicted:
            self._convicts.pop(ticket, None)
        target = ticket.target
        self._forget_visit(ticket)
        if target is not None:
            ticket.target = None
            self.router.end(target, ticket.ask)
        self.admission.finished(now)

    def tick(self, now: float) -> Tick:
        """Call it at least every half a second, and every 50 ms while anything `waits`."""
        self.admission.tick(now)
        seconds = self._seconds(now) if self._due else []
        for target, until in list(self._resting.items()):
            if now >= until:
                del self._resting[target]
                self.router.wake(target)
        verdicts = [ticket for ticket, until in self._convicts.items() if now >= until]
        for ticket in verdicts:
            del self._convicts[ticket]
        if self.router.alive():
            self._served_at = now
        if not self.admission.queued:
            return Tick([], [], seconds, verdicts)
        late = [ticket for ticket in self.admission.expire(now) if not self._waits_on(ticket, now)]
        return Tick(self.pump(now), late, seconds, verdicts)

    def _waits_on(self, ticket: Ticket, now: float) -> bool:
        """Its time in the queue is over, but not its own deadline: it waits on while somebody starts a replica and none
        serves, or the last one has just been lost and that may not be known yet; and one that has begun also while some
        replica serves, for it is first in line there."""
        serves = self.router.alive() > 0
        coming = self.coming or now - self._served_at < NEWS_S
        if now >= ticket.until or not ((serves and ticket.begun) or (not serves and coming)):
            return False
        since, ticket.deadline = ticket.queued_at, min(ticket.until, now + self.rules.queue_s)
        if ticket.ask.urgent:
            self.admission.urgent(ticket, now)
        else:
            self.admission.force(ticket, now)
        ticket.queued_at = since
        return True

    def pump(self, now: float) -> list[Placed]:
        """Gives free places to those who wait, in the order of admission."""
        admission, router = self.admission, self.router
        placed: list[Placed] = []
        stuck: list[Ticket] = []
        while admission.queued and len(stuck) < STUCK:
            if not router.free() and not admission.has_urgent:
                break
            ticket = admission.next()
            if ticket is None:
                break
            picked = self._place(ticket, now)
            if picked is None:
                stuck.append(ticket)
            else:
                placed.append(Placed(ticket, picked))
        for ticket in reversed(stuck):
            admission.put_back(ticket, now)
        return placed

    @property
    def waits(self) -> bool:
        """Something waits for time to pass: a ticket, a replica that rests, a second attempt, a convict."""
        return bool(self.admission.queued or self._resting or self._due or self._convicts)

    def _place(self, ticket: Ticket, now: float) -> Picked | None:
        """Takes a place. `avoid` is a wish: when nobody else could serve it, who failed it may try again."""
        ask = ticket.ask
        picked = self._pick(ticket, ask, now)
        if picked is None:
            if not ask.avoid or self.router.others_serve(ask):
                return None
            picked = self._pick(ticket, ask.but(avoid=()), now)
            if picked is None:
                return None
        self._start(ticket, picked)
        return picked

    def _pick(self, ticket: Ticket, ask: Ask, now: float) -> Picked | None:
        """The best replica with room; lines of batches leave some of it."""
        picked = self.router.pick(ask, now)
        if picked is not None and ticket.priority >= DUE:
            target = picked.target
            if target.in_flight + 1 > max(1.0, target.cap * SPARE_SHARE):
                return None
        return picked

    def _start(self, ticket: Ticket, picked: Picked) -> None:
        ask = ticket.ask
        if (
            picked.cached != ask.cached and ticket.second is None
        ):  # a second place was taken, and is left, as it is
            ticket.ask = ask = ask.but(cached=picked.cached)
        ticket.target = picked.target
        ticket.visit = self.router.start(picked.target, ask, picked.found)
        if ticket.priority >= DUE:
            self._lines(ticket)[ticket] = None

    def _lines(self, ticket: Ticket) -> dict[Ticket, None]:
        return self._dues if ticket.priority == DUE else self._spares

    def told(self, ticket: Ticket, tokens: int, cached: int | None, answer: int) -> tuple[int, int] | None:
        """What its replica counted: tokens of the prompt, of them cached (None: it does not say), generated. The tokens
        that had been expected in the cache and those that were there; None: nobody can say."""
        visit = ticket.visit
        if visit is None:
            return None
        was = self.router.prefix.told(visit, tokens, cached, answer)
        return None if was is None else (visit.expected, was)

    def _forget_visit(self, ticket: Ticket) -> None:
        if ticket.visit is not None:
            ticket.visit.found = ()  # else each visit would keep the one before it
            ticket.visit = None

    def _leave(self, ticket: Ticket) -> None:
        target = ticket.target
        assert target is not None
        self._forget_visit(ticket)
        ticket.target = None
        ticket.awaits = False
        self.router.end(target, ticket.ask)

    # -- second attempts (Dean & Barroso, The Tail at Scale, 2013)

    def watch(self, ticket: Ticket, now: float) -> None:
        """It has just been sent for the first time, and may be hedged when its first token is late."""
        if self.rules.hedge_s is not None:
            self.credit = min(BURST, self.credit + EARNED)
            self._due.append((now + self.rules.hedge_s, ticket))

    def _seconds(self, now: float) -> list[Placed]:
        """Never while anybody waits, only at a replica that is less than half full, within the budget."""
        due, admission = self._due, self.admission
        placed: list[Placed] = []
        while due and due[0][0] <= now:
            ticket = due.popleft()[1]
            target = ticket.target
            if target is None or not ticket.awaits or ticket.ask.avoid or ticket.second is not None:
                continue
            if self.credit < 1 or admission.queued or admission.others:
                continue
            picked = self.lend(ticket.ask.but(avoid=(target.name,)), now)
            if picked is not None:
                self.credit -= 1
                ticket.second = picked.target
                placed.append(Placed(ticket, picked))
        return placed

    def drop_second(self, ticket: Ticket) -> None:
        """The second attempt lost, or broke: its place is free."""
        target, ticket.second = ticket.second, None
        assert target is not None
        self.router.end(target, ticket.ask)

    def take_second(self, ticket: Ticket) -> None:
        """The second attempt is the one that counts from now on; the first one's place, if it has one, is free."""
        if ticket.target is not None:
            self._leave(ticket)
        ticket.target, ticket.second = ticket.second, None

    # -- places for what is no request: copies to a canary

    def lend(self, ask: Ask, now: float) -> Picked | None:
        """A place at a replica that is less than half full, outside of all queues. Give it back."""
        picked = self.router.pick(ask, now)
        if picked is None or picked.target.in_flight * 2 >= picked.target.cap:
            return None
        self.router.start(picked.target, ask)
        return picked

    def give_back(self, target: Target, ask: Ask) -> None:
        self.router.end(target, ask)

    # -- replicas

    def discovered(self, replicas: Iterable[Replica], coming: bool = False) -> Changes:
        """The newest list of this fleet's replicas. Who is added or returned may have room: `pump`."""
        self.coming = coming
        return self.router.update(replicas)

    def evict(self, target: Target, reason: str, *, sudden: bool = False) -> bool:
        """Stops routing to `target`. `sudden`: it seems to have died. False: it was out already."""
        if sudden and target.state == "ready":
            waited = [t for t in self.tickets if t.target is target and t.awaits]
            for ticket in waited:
                ticket.died_on = (*ticket.died_on[1 - DEATHS :], target)
            convict = blame(waited)
            if convict is not None:
                convict.convicted = True
        return self.router.evict(target, reason)

    def settled(self, ticket: Ticket, mark: bytes, now: float) -> bool:
        """The replica of `ticket` has answered the prompt of this mark with 5xx: whether that is the prompt's own
        fault, and nobody need be asked again (`odd`)."""
        target, router, ask = ticket.target, self.router, ticket.ask.but(avoid=())
        if target is None or not self.odd.refusers(mark, now):
            return False
        return self.odd.settled(
            mark, target, [t for t in router.targets.values() if router.serves(t, ask)], now
        )

    def erred(self, target: Target, mark: bytes, now: float) -> bool:
        """A 5xx to the prompt of this mark (`odd.prompt_mark`), which may be its own fault: only several different
        ones in a row speak against the replica. True: it is out."""
        self.odd.note(mark, target, now)
        target.errors.add(mark)
        if len(target.errors) < ERRORS_IN_A_ROW:
            return False
        return self.evict(target, f"{ERRORS_IN_A_ROW} different prompts answered with 5xx in a row")

    def served(self, target: Target) -> None:
        """It has answered well."""
        if target.errors:
            target.errors.clear()

    def proven(self, target: Target, now: float) -> bool:
        """A real token came from it after it was evicted. True: it is in service again, and has room: `pump`."""
        if not self.router.restore(target):
            return False
        target.proven_at = now
        target.errors.clear()
        return True

    def died(self, target: Target, now: float) -> None:
        """There is evidence that it has died: it says so itself, or its port refuses."""
        target.died_at = now

    def doubt(self, target: Target, why: str) -> None:
        """It may hang: nothing new goes there, and it keeps what it has, until `trust`."""
        self.router.suspect(target, why)

    def trust(self, target: Target) -> None:
        """It has shown a sign of life. Who waits may have room: `pump`."""
        self.router.trust(target)

    def died_of(self, ticket: Ticket, since: float) -> bool | None:
        """Whether the replicas that a convict was on died of it: True where each is known to have died since `since`,
        or has left; False where one has given a token since (then only its connection had broken); None: not known."""
        known = True
        for target in ticket.died_on[-DEATHS:]:
            if target.proven_at > since:
                return False
            gone = self.router.targets.get(target.name) is not target
            known = known and (gone or target.died_at > since)
        return True if known else None
