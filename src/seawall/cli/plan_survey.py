"""`seawall plan --gpus any`: one line for every GPU that holds a model, the cheapest first. Layout only."""

from __future__ import annotations

from collections.abc import Sequence

from seawall.domain.action import Plan
from seawall.domain.columns import ALWAYS, Column, lay_out, wrapped
from seawall.domain.units import show_seconds

MOST_NODES = 2
"""Replicas over more nodes are named, not laid out: few would run them."""
_COLUMNS = (
    Column("GPUs", ALWAYS),
    Column("", ALWAYS),
    Column("context", 90),
    Column("requests", 70),
    Column("tokens/s", 80),
    Column("first", 40),
    Column("each", 50),
    Column("$/h", 85),
    Column("$/M tokens", 60),
    Column("", ALWAYS),
)


def survey_table(plans: Sequence[Plan], width: int | None) -> str:
    """What holds the model, with its context, speed and cost; then what does not, in one paragraph."""
    first = plans[0]
    far = [p for p in plans if p.nodes_per_replica > MOST_NODES and p.verdict in ("fits", "tight", "unknown")]
    near = [p for p in plans if p not in far]
    held = [p for p in near if p.fits]
    maybe = [p for p in near if p.verdict in ("tight", "unknown")]
    lines = [
        f"{first.model}   {first.quantization or first.dtype}   {first.parameters / 1e9:,.1f} billion parameters",
        "",
    ]
    if held or maybe:
        lines += lay_out(_COLUMNS, [_row(p) for p in [*held, *maybe]], width).lines()
    else:
        lines += wrapped(f"no GPU of the catalogue holds it: {first.reason}", width)
    nowhere = [p for p in near if p not in held and p not in maybe]
    for told, some in ((f"only over more than {MOST_NODES} nodes", far), ("not even over 8 nodes", nowhere)):
        if some:
            lines += ["", *wrapped(f"{told}: " + ", ".join(p.gpu for p in some), width, "", "  ")]
    lines += [""]
    dated = next((p.prices_as_of for p in plans if p.prices_as_of), None)
    prices = f"; prices of {dated}, on demand" if dated else ""
    told = (
        "requests: how many of the whole context the cache holds; speed at saturation is a roofline estimate"
    )
    lines += wrapped(told + prices, width)
    if held:
        lines += ["", *wrapped(f"Next: seawall plan {first.model} --gpu {held[0].gpu}", width, "", "  ")]
    return "\n".join(lines)


def _row(p: Plan) -> tuple[str, ...]:
    word = "" if p.fits else p.verdict
    split = f"{p.gpus_per_replica} x {p.gpu}"
    nodes = f"{p.nodes_per_replica} nodes" if p.nodes_per_replica > 1 else ""
    slow = next((n for n in p.notes if n.startswith("the objective is not held")), "")
    fits = p.fits
    return (
        split,
        word,
        f"{p.max_model_len:,}",
        f"{p.max_concurrency:.1f}" if fits else "",
        f"{p.tokens_per_s:,.0f}" if fits else "",
        show_seconds(p.ttft_s) if fits else "",
        show_seconds(p.tpot_s) if fits else "",
        f"{p.usd_per_hour:.2f}" if p.usd_per_hour is not None else "",
        f"{p.usd_per_million_tokens:.2f}" if p.usd_per_million_tokens is not None else "",
        "; ".join(
            w
            for w in (nodes, "" if fits else p.reason, slow.replace("the objective is not held", "slow"))
            if w
        ),
    )
