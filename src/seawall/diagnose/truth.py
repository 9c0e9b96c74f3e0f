"""Replicas that answer, and wrongly, as the gateways that asked them say; and replicas that do not agree.

Forbidden here: an opinion of its own about answers.
"""

from __future__ import annotations

from collections.abc import Iterator

from seawall.decide.truth.fingerprint import WORDS
from seawall.decide.truth.standing import WRONG
from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts
from seawall.domain.told import read

DO = {
    "template": "compare its --chat-template and the tokenizer_config.json of its weights with its siblings'",
    "revision": "compare --revision, --quantization and rope settings with its siblings', and its files with the "
    "lockfile: seawall pull --check",
    "weights": "compare every byte: seawall pull --check --to DIR --lock FLEET.lock; then delete the Pod",
    "numeric": "look for Xid errors of its GPU, and for another dtype, kernel or driver; then delete the Pod",
}
"""Kind -> what to do about it."""
IDS = {
    "template": "truth/template",
    "revision": "truth/revision",
    "weights": "truth/weights",
    "numeric": "truth/numeric",
    "": "truth/unclear",
}


@rule
def answers_wrongly(facts: Facts) -> Iterator[Cause]:
    """Replicas whose answers are not those of the fleet's weights."""
    for name, (kind, said) in sorted(_blamed(facts).items()):
        yield Cause(
            id=IDS[kind],
            certainty="certain" if kind else "possible",
            subject=f"Pod/{name}",
            weight=92,
            what=f"it answers, and wrongly: {WORDS[kind]}"
            if kind
            else "one of its answers is not the known one",
            evidence=said,
            do=f"{DO[kind]} (kubectl delete pod {name}); docs/reference/truth.md"
            if kind
            else "look again in a minute: it is asked other prompts now",
        )


def _blamed(facts: Facts) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Replica -> the kind of what is wrong, and what each gateway says of it."""
    found: dict[str, tuple[str, list[str]]] = {}
    for gateway, document in {**facts.gateways, "gateway": facts.gateway}.items():
        if gateway == "gateway" and facts.gateways:
            continue  # the sum of the others
        try:
            replicas = read(document).replicas
        except ValueError:
            continue
        for name, replica in replicas.items():
            said = next((s for s in (replica.reason, replica.suspect) if WRONG in s), "")
            if said:
                kind = next((k for k, words in WORDS.items() if words in said), "")
                before = found.get(name, ("", []))
                found[name] = (kind or before[0], [*before[1], f"{gateway}: {said}"])
    return {name: (kind, tuple(said[:3])) for name, (kind, said) in found.items()}
