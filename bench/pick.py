"""What choosing a replica costs, of 400, in the form in which gateways run.

    python bench/pick.py [--replicas 400] [--plain] [--json]

Microseconds, the median of rounds of 200 picks; each pick is begun and ended as a request's is, in turn by load alone,
with a session, with the prompt of a conversation whose beginning KNOWN replicas have (its end one of them), and with an
agent's of 142,000 tokens, 40 turns long.
`--plain`: plain Python, else the compiled form where it has been made (`make test-fast` does that).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from random import Random

KNOWN = 8
ROUNDS, PICKS = 60, 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, default=400)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.plain:
        from seawall.gateway import compiled

        assert compiled.use(), "the gateway is not compiled: scripts/compile_gateway.py, or --plain"
    from seawall.decide.route.pick import Ask, Router
    from seawall.decide.route.prefix import blocks_of
    from seawall.domain.seen import Replica

    router = Router(16, Random(1))
    router.update(
        Replica(name=f"r{i}", fleet="m", url=f"http://10.0.{i // 250}.{i % 250}:8000")
        for i in range(args.replicas)
    )
    system = Random(2).randbytes(6_000)
    talks = [system + Random(n).randbytes(3_000) for n in range(40)]
    asks = [Ask(2500, blocks=blocks_of(t), size=len(t)) for t in talks]

    def one(ask: Ask) -> float:
        began = time.perf_counter()
        picked = router.pick(ask, 1.0)
        took = time.perf_counter() - began
        assert picked is not None
        sent = ask.but(cached=picked.cached) if picked.cached else ask
        visit = router.start(picked.target, sent, picked.found)
        if visit is not None:
            router.prefix.told(visit, 2250, picked.cached, 100)
        router.end(picked.target, sent)
        return took

    for i, ask in enumerate(asks):  # the system's prompt is at KNOWN replicas, each talk at one
        target = router.targets[f"r{i % KNOWN}"]
        visit = router.start(target, ask, router.prefix.find(ask.blocks))
        assert visit is not None
        router.prefix.told(visit, 2250, 0, 100)
        router.end(target, ask)

    agent, turns = b"", Random(3)
    for _ in range(40):
        agent += turns.randbytes(14_250)
        long = Ask(145_000, blocks=blocks_of(agent), size=len(agent))
        visit = router.start(router.targets["r0"], long, router.prefix.find(long.blocks))
        assert visit is not None
        router.prefix.told(visit, len(agent) // 4, 0, 100)
        router.end(router.targets["r0"], long)

    kinds: dict[str, Callable[[int], Ask]] = {
        "by_load": lambda i: Ask(500),
        "by_session": lambda i: Ask(500, session=f"s{i % 50}"),
        "by_prefix": lambda i: asks[i % len(asks)],
        "by_agent": lambda i: long,
    }
    found = {
        name: statistics.median(
            statistics.median(one(make(i)) for i in range(PICKS)) * 1e6 for _ in range(ROUNDS)
        )
        for name, make in kinds.items()
    }
    if args.json:
        print(json.dumps({name: round(us, 3) for name, us in found.items()}))
        return
    for name, us in found.items():
        print(f"{name:12} {us:6.2f} us")


if __name__ == "__main__":
    main()
