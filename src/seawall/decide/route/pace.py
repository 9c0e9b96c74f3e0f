"""The pace that a plan expects of a replica, in the form in which evidence of life weighs silence."""

from __future__ import annotations

from seawall.decide.route.evidence import Pace
from seawall.domain.action import Plan

UNPLANNED = Pace(prompt_token_s=0.01)
"""A slow CPU: where nothing is planned, silence is borne for longer."""


def pace_of(plan: Plan | None) -> Pace:
    """None: the model's shape is not known here."""
    if plan is None:
        return UNPLANNED
    timing = plan.timing
    return Pace(
        prompt_token_s=timing.prefill_token_s,
        prompt_pair_s=timing.prefill_pair_s,
        step_tokens=plan.max_num_batched_tokens,
        context=plan.max_model_len,
    )
