"""What an engine's whole answer says about the replica. The table of vLLM's ways to refuse; nothing acts here.

status  body says                                      verdict
503     (queue full, or engine dead for 0.1 s)          BUSY: elsewhere now, here again in a moment
500     cannot schedule new futures after shutdown      DRAINING: elsewhere, and out with the replica
500     EngineDeadError                                 DEAD: the same
200     finish_reason "abort"                           ABORTED: the same (a drain answers token prompts so)
200     a message without stop_reason                   ABORTED: the same (what an abort becomes on /v1/messages)
400     a float that JSON cannot hold (NaN logprobs)    SENSELESS: as an error of the engine
401/403                                                 LOCKED: the gateway's key is wrong; retrying is no use
else                                                    PASS: the client's answer
"""

from __future__ import annotations

from seawall.decide.route.attempt import Judgement
from seawall.decide.route.scan import holds


def judge(status: int, body: bytes, messages: bool = True) -> Judgement:
    """See the module. `messages`: it may be an answer of /v1/messages. `"finish_reason":"abort"` cannot
    occur inside a JSON string: its quotes would be escaped."""
    if status == 200:
        if (
            messages
            and holds(body[:200], b'"type":"message","role":')
            and not holds(body, b'"stop_reason":"')
        ):
            return Judgement.ABORTED
        return Judgement.ABORTED if holds(body, b'"finish_reason":"abort"') else Judgement.PASS
    if status == 503:
        return Judgement.BUSY
    if status == 400 and b"Out of range float values are not JSON compliant" in body:
        return Judgement.SENSELESS
    if status in (401, 403):
        return Judgement.LOCKED
    if status >= 500:
        if b"cannot schedule new futures after shutdown" in body:
            return Judgement.DRAINING
        if b"EngineDeadError" in body or b"EngineCore encountered an issue" in body:
            return Judgement.DEAD
    return Judgement.PASS
