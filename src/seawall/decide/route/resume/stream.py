"""What both ways of resuming share about one client's stream. Data and two small verdicts, no decisions."""

from __future__ import annotations

from seawall.decide.route.resume import events
from seawall.decide.route.resume.events import Doc
from seawall.decide.route.resume.policy import Policy, Usage
from seawall.decide.route.resume.ways import BodyFields


class Stream:
    """The client's view: identity, finished choices, what went wrong with the present attempt."""

    __slots__ = (
        "answered",
        "ask",
        "attempt",
        "doubt",
        "failed",
        "fatal",
        "finished",
        "head",
        "policy",
        "sent",
        "sick",
        "usage",
        "usage_sent",
    )

    def __init__(self, ask: BodyFields, policy: Policy) -> None:
        self.ask = ask
        self.policy = policy
        self.attempt = 0
        """0: the first stream. A retry of which the client has seen nothing is a first stream again."""
        self.head: Doc | None = None
        self.sent = False
        """The client has received an event."""
        self.finished: set[int] = set()
        self.failed = ""
        """Why the present attempt is over, once it is."""
        self.answered = False
        """The end has come in another form than finish_reasons: a 4xx error event, another route's last event."""
        self.doubt = False
        """`failed` because two attempts differ, not because this one is bad."""
        self.fatal = False
        """No further attempt can help."""
        self.sick = ""
        """Why logprobs that its client has asked for look as no model's do."""
        self.usage: Usage | None = None
        self.usage_sent = False

    @property
    def complete(self) -> bool:
        """Every choice has ended with a finish_reason other than abort."""
        return len(self.finished) >= self.ask.choices

    def mismatch(self, what: str) -> bool:
        """The new attempt differs from what the client has. True: stop here (policy exact)."""
        if self.policy.mode == "best-effort":
            return False
        self.failed = f"the resumed stream differs from the one the client has ({what})"
        self.fatal = self.doubt = True
        return True

    def head_of(self, doc: Doc) -> None:
        if self.head is None and doc.get("id") is not None:
            self.head = {key: doc.get(key) for key in ("id", "created", "model")}

    def ending(self, prompt: int, completion: int) -> bytes:
        """What is missing behind the last finish chunk: the usage chunk, if it was asked for, and [DONE]."""
        if not self.ask.wants_usage or self.usage_sent:
            return events.DONE
        doc = events.chunk_doc(self.ask.kind, self.head or {}, None)
        doc["usage"] = events.usage_doc(prompt, completion)
        return events.write(doc) + events.DONE
