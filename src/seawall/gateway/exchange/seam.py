"""The seam to `decide/route/resume`: what the gateway asks of it, and which policy a fleet means.

Every streamed request gets a `StreamSession`, also with `resume: off` (then it only judges the end and never
continues). Answers that are not streams need none: they are held whole and retried.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from seawall.decide.route.members import Members
from seawall.decide.route.refusal import Refusal
from seawall.decide.route.response import mark_of
from seawall.decide.route.resume import Policy, StreamSession, Usage
from seawall.domain.spec import Fleet
from seawall.gateway import wire
from seawall.gateway.edge.request import Request
from seawall.gateway.exchange.counted import USAGE, Counted, SamplingDefaults


def usage_in(answer: bytes) -> Counted | None:
    """`usage` of a whole JSON answer; None when it has none or is not JSON."""
    try:
        return USAGE.decode(answer).usage
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def cached_in(usage: Counted | Usage) -> int | None:
    """Tokens of the prompt that the engine had cached; None: it does not say."""
    if isinstance(usage, Usage):
        return usage.cached_tokens
    details = usage.prompt_tokens_details
    return details.cached_tokens if details is not None else None


def policy_of(fleet: Fleet) -> Policy:
    """How a fleet's broken streams are resumed."""
    spec = fleet.spec
    return Policy(
        mode=spec.gateway.resume,
        max_resumes=spec.gateway.retries,
        reasoning=any(a.startswith("--reasoning-parser") for a in spec.engine.extra_args),
        max_model_len=spec.traffic.max_context,
        most_tokens=most_tokens(spec.engine.extra_args),
    )


def most_tokens(flags: Sequence[str]) -> int | None:
    """`max_new_tokens` of `--override-generation-config JSON` among an engine's flags: vLLM bounds every answer by it,
    whatever the request asks for. None: it is not there."""
    name = "--override-generation-config"
    for flag, after in zip(flags, [*flags[1:], ""], strict=False):
        if flag == name or flag.startswith(name + "="):
            given = after if flag == name else flag.partition("=")[2]
            try:
                return msgspec.json.decode(given, type=SamplingDefaults).max_new_tokens
            except msgspec.MsgspecError:
                return None
    return None


def session(
    path: bytes, payload: bytes, policy: Policy, rng: Random, members: Members | None = None
) -> StreamSession:
    """One streamed request's session. `payload` is a JSON object (it has been peeked at); `members`: of a large one."""
    return StreamSession(path.decode(), payload, policy, rng, members)


def placed(body: bytes, request: Request, replica: str) -> bytes:
    """`body` as it is sent to `replica`: an id that tells where its response is kept names that one. It stands behind
    what its client has sent."""
    id = request.unplaced
    before, found, behind = body.rpartition(id)
    if not found:
        return body
    mark = mark_of(replica, request.tenant.name).encode()
    return b"%b%b%b%b" % (before, id[: -len(mark)], mark, behind)


def error_event(session: StreamSession, refusal: Refusal) -> bytes:
    """`refusal` inside a stream that has begun, in the shape the route's own clients read."""
    if session.route in ("/v1/messages", "/v1/responses"):
        return session.error_event(refusal.message, refusal.code, refusal.status)
    return wire.error_event(refusal)


def as_event(body: bytes) -> bytes:
    """An engine's refusal, for a stream whose head has gone out."""
    return b"data: " + body.strip().replace(b"\n", b" ") + b"\n\n"
