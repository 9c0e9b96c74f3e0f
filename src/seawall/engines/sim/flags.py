"""The command line of the simulated engine: vLLM's own flags, and `--sim-*` for what only a simulation has.

A flag that vLLM 0.32 knows and the simulation does not need is accepted; one that vLLM does not know is refused with
exit code 2, as vLLM does: a fleet whose flags are wrong fails here first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from seawall.domain.action import Timing
from seawall.engines.vllm import versions as catalogue

SIM_TIMING = Timing(
    base_s=0.004,
    prefill_token_s=2e-5,
    decode_seq_s=2e-5,
    weight_read_s=0.016,
    kv_token_s=1e-9,
    source="the simulated engine's default: 20 ms a step, about 50 tokens/s per stream",
)


def parser() -> argparse.ArgumentParser:
    """vLLM's flags and ours."""
    p = argparse.ArgumentParser(prog="seawall engine sim", allow_abbrev=False, description=__doc__)
    p.add_argument(
        "model_tag", nargs="?", default=None, help="as in `vllm serve MODEL`; only its name is used"
    )
    p.add_argument("--model", default=None)
    p.add_argument("--enable-request-id-headers", action="store_true")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=8000)
    p.add_argument("--served-model-name", "--model-name", nargs="+", default=None)
    p.add_argument("--api-key", default=None)
    p.add_argument("--max-model-len", default="4096")
    p.add_argument("--max-num-seqs", type=int, default=256)
    p.add_argument("--max-num-batched-tokens", type=int, default=8192)
    p.add_argument("--num-gpu-blocks-override", type=int, default=8192)
    p.add_argument("--block-size", type=int, default=16)
    p.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    p.add_argument("--max-num-queued-reqs", type=int, default=None)
    p.add_argument("--max-num-queued-tokens", type=int, default=None)
    p.add_argument("--scheduling-policy", choices=["fcfs", "priority"], default="fcfs")
    p.add_argument("--stream-interval", type=int, default=1)
    p.add_argument("--shutdown-timeout", type=float, default=0.0)
    p.add_argument("--sse-keep-alive-interval", type=float, default=0.0)
    p.add_argument("--allowed-media-domains", nargs="*", default=[])
    p.add_argument("--lora-modules", nargs="*", default=[], help="NAME=PATH")
    p.add_argument("--runner", choices=["auto", "generate", "pooling"], default="auto")
    p.add_argument("--sim-timing", default=None, help="calibration file, or JSON of Timing's fields")
    p.add_argument("--sim-step", type=float, default=None, help="every step takes so many seconds")
    p.add_argument(
        "--sim-prefill", type=float, default=0.0, help="with --sim-step: seconds more for each prompt token"
    )
    p.add_argument(
        "--sim-load", type=float, default=0.0, help="seconds of loading: connections are refused till then"
    )
    p.add_argument("--sim-sigterm", choices=["hang", "error", "abort", "random"], default="random")
    p.add_argument("--sim-fault", action="append", default=[], help='as POST /sim/fault: {"kind": "hang"}')
    p.add_argument("--sim-seed", type=int, default=None, help="of unseeded sampling and of random outcomes")
    own = {option for action in p._actions for option in action.option_strings}
    for flag in catalogue.flags().values():
        names = [n for n in (flag.name, *flag.aliases) if n not in own]
        if flag.name in own or not names or not flag.known_to(catalogue.LATEST):
            continue
        if flag.switch:
            negated = [f"--no-{n[2:]}" for n in names if n.startswith("--")]
            names += [n for n in negated if n not in own]
            p.add_argument(*names, action="store_true", help=argparse.SUPPRESS)
        else:
            many = "*" if flag.many else "?" if flag.optional else None
            p.add_argument(*names, default=None, nargs=many, help=argparse.SUPPRESS)
        own.update(names)
    return p


def timing(args: argparse.Namespace) -> Timing:
    """The step-time model: a fixed step, a calibration file, or the default."""
    if args.sim_step is not None:
        return Timing(
            base_s=args.sim_step,
            prefill_token_s=args.sim_prefill,
            decode_seq_s=0,
            weight_read_s=0,
            kv_token_s=0,
            source="--sim-step",
        )
    if args.sim_timing is None:
        return SIM_TIMING
    text = args.sim_timing
    if not text.lstrip().startswith("{"):
        text = Path(text).read_text()
    fields: dict[str, Any] = json.loads(text)
    known = {f.name for f in dataclasses.fields(Timing)}
    return dataclasses.replace(SIM_TIMING, **{k: v for k, v in fields.items() if k in known})


def length(text: str) -> int:
    """`--max-model-len`: 4096, 4k (thousands), 4K (1024s); auto and -1 are the default."""
    if text in ("auto", "-1"):
        return 4096
    scale = {"k": 1000, "K": 1024, "m": 10**6, "M": 2**20}.get(text[-1:], 1)
    return int(float(text[:-1] if scale > 1 else text) * scale)


def switched_on(variable: str) -> bool:
    """An environment variable that vLLM reads as a switch: 1 or true."""
    return os.environ.get(variable, "0").strip().lower() in ("1", "true")
