"""What programs that run ask for in vain, again and again, in their logs: rights, services, resources. Pure rules.

Nothing has died and no probe need fail: a router without the right to list Pods is Ready and finds no engine. Only
signs that say so of themselves (`Sign.alive`) count here, and only while the log still ends with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, name_of, part
from seawall.diagnose.states import ended, statuses
from seawall.engines.vllm.parts import part_of
from seawall.engines.vllm.raised import Raised, exception
from seawall.engines.vllm.signs import read_alive

TAIL = 60
"""Lines at a log's end that tell of now; what stands before may be over."""


@rule
def complaints(facts: Facts) -> Iterator[Cause]:
    """Containers that run, have not died lately, and write what they lack."""
    for pod in facts.pods:
        for status, _, init in statuses(pod):
            if init or not part(status, "state", "running") or (ended(status) and not status.get("ready")):
                continue
            name = str(status.get("name"))
            log = facts.logs.get(f"{name_of(pod)}/{name}", "")
            tail = "\n".join(log.splitlines()[-TAIL:])
            said = read_alive(tail)
            if said is not None:
                yield Cause(
                    id=said.sign.id,
                    certainty="likely",
                    subject=f"Pod/{name_of(pod)}",
                    weight=said.sign.weight - 5,
                    what=said.what,
                    evidence=(f"{name} runs, and its log says: {said.line}",),
                    do=said.do,
                    kind="risk" if said.sign.request else "cause",
                )
            elif _REQUEST_FAILED.search(tail) and (raised := exception(tail)) is not None:
                yield _request(name_of(pod), name, raised)


_REQUEST_FAILED = re.compile(
    r"Error in (?:chat completion|completion|preprocessing|response|transcription)|Exception in ASGI application"
)
"""What an API server writes before the traceback of a request that it could not serve."""


def _request(pod: str, container: str, raised: Raised) -> Cause:
    """Requests that fail in the API server of an engine that is well."""
    part = part_of(raised)
    return Cause(
        id="engine/request-fails",
        certainty="possible",
        subject=f"Pod/{pod}",
        weight=45,
        what=f"the engine runs, and requests of some kind fail with {raised.line}",
        evidence=(f"log of {container}: {raised.line}",),
        do=(f"{part.without}; " if part else "")
        + "find what these requests have in common (tools, pictures, a schema, a template); a newer vLLM image, or "
        "the one before: look for these words among vLLM's issues",
        kind="risk",
    )
