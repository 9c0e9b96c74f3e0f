"""Odd prompts: what every replica answers with 5xx. Asked everywhere each time, they cost three times the work.

A 5xx may be the replica's fault, so it is asked elsewhere (`attempt.SECOND_OPINIONS`). Once a prompt has been refused
so often, and by every replica that could serve it, its repetitions are asked once: nobody is left who might answer.
That holds for ODD_S after a replica's last refusal; one that is new, or has proved itself since, is asked, and so is
everybody while the replica fails other prompts, too. Forbidden here: awaiting, clocks, keeping any prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from seawall.decide.route.pick import Target
from seawall.decide.route.poison import fingerprint

ODD_S = 30.0
"""A refusal is remembered for so long."""
TIMES = 3
"""A prompt that was refused so often within that time is odd, if every replica has refused it."""
MOST = 1024
"""Prompts remembered; the oldest leaves first."""
MOST_EACH = 64
"""Replicas remembered of one prompt."""


class OddPrompts:
    """Marks of prompts -> who has answered them with 5xx, and when."""

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: OrderedDict[bytes, tuple[int, dict[Target, float]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refused)

    def note(self, mark: bytes, target: Target, now: float) -> None:
        """`target` has answered the prompt of this mark with 5xx."""
        times, refusers = self._refused.pop(mark, (0, {}))
        if refusers and now - max(refusers.values()) > ODD_S:
            times, refusers = 0, {}
        refusers.pop(target, None)
        refusers[target] = now
        if len(refusers) > MOST_EACH:
            del refusers[next(iter(refusers))]
        self._refused[mark] = (times + 1, refusers)
        if len(self._refused) > MOST:
            self._refused.popitem(last=False)

    def refusers(self, mark: bytes, now: float) -> list[Target]:
        """Who has refused it lately, and has not proved itself since."""
        _, refusers = self._refused.get(mark, (0, {}))
        return [t for t, at in refusers.items() if now - at <= ODD_S and t.proven_at <= at]

    def settled(self, mark: bytes, target: Target, able: Iterable[Target], now: float) -> bool:
        """Whether a 5xx of `target` to it is the prompt's own fault. `able`: the replicas that could serve it."""
        times, _ = self._refused.get(mark, (0, {}))
        if times + 1 < TIMES or target.errors - {mark}:
            return False
        return set(able) <= {*self.refusers(mark, now), target}


class _Said(msgspec.Struct):
    """All that an engine makes a prompt of."""

    prompt: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


_said = msgspec.json.Decoder(_Said)


def prompt_mark(path: bytes, body: bytes) -> bytes:
    """The mark of a request's prompt, whatever else it asks for; of a body without one, of all of it."""
    try:
        said = _said.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return fingerprint(path, body)
    parts = (said.prompt, said.messages, said.input, said.system, said.instructions, said.tools)
    if not any(bytes(part) for part in parts[:3]):
        return fingerprint(path, body)
    return blake2b(b"\0".join([path, *(bytes(part) for part in parts)]), digest_size=16).digest()
