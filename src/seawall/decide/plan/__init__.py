"""`plan(fleet, model)`: what a fleet needs and what each replica will hold. Pure: no file, clock or network.

setup      flags of one process group, vLLM's defaults by version
weights    bytes of weights per GPU          kv       cache layout, blocks, tokens
memory     how one GPU is spent, verdict     roofline seconds per step, saturation
startup    budget and host needs             choose   GPU, count, split: cheapest first, every refusal's reason
"""

from __future__ import annotations

from seawall.decide.plan.choose import plan

__all__ = ["plan"]
