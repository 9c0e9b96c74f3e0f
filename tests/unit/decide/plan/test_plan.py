"""The plan: what fits, what does not and why, in the words and numbers of vLLM's own start-up log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seawall.config.load import load_fleets, parse_fleets
from seawall.decide.plan import plan
from seawall.decide.plan.roofline import COMPUTE_SHARE
from seawall.domain.action import Plan
from seawall.errors import InputError
from seawall.shapes.config import resolve

ROOT = Path(__file__).parents[4]


def planned(source: str, hardware: str = "{gpu: H100-80GB}", **spec: Any) -> Plan:
    rest = "".join(f"  {k}: {v}\n" for k, v in spec.items())
    (fleet,) = parse_fleets(
        "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: f}\nspec:\n"
        f"  model: {{source: '{source}'}}\n  hardware: {hardware}\n{rest}"
    )
    return plan(fleet, resolve(fleet, offline=True))


def test_70b_in_bf16_does_not_fit_one_h100_and_the_plan_says_what_does() -> None:
    made = planned("hf://meta-llama/Llama-3.1-70B-Instruct", traffic="{maxContext: 16k}")
    assert made.fits and made.tensor_parallel == 4
    assert made.weights_gib_per_gpu == pytest.approx(131.4 / 4, rel=0.01)
    one = next(r for r in made.rejected if r.choice.startswith("1 x"))
    assert "weights alone take 131.4 GiB" in one.reason


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_is_planned_without_a_network(path: Path) -> None:
    for fleet in load_fleets(path):
        assert plan(fleet, resolve(fleet, offline=True)).startup.total_s > 0


def test_smollm2_on_a_cpu_is_sized_by_the_cache_it_was_given() -> None:
    (fleet,) = load_fleets(ROOT / "examples/smollm2.yaml")
    made = plan(fleet, resolve(fleet, offline=True))
    assert made.fits and made.gpu == "cpu"
    block = 128  # of vLLM's CPU backend
    assert made.kv_cache_tokens == 64 * 2**20 // (30 * 2 * 3 * 64 * 2 * block) * block
    assert made.parameters == pytest.approx(134.5e6, rel=0.001)


def test_attention_to_the_whole_prompt_costs_what_its_heads_say() -> None:
    full = planned("hf://meta-llama/Llama-3.1-8B-Instruct").timing
    flops = 989e12 * COMPUTE_SHARE  # an H100's dense bf16
    assert full.prefill_pair_s == pytest.approx(32 * 2 * 32 * (128 + 128) / flops, rel=0.01)
    # At 57k tokens attention takes as long as all else: 2 x 7.5 G (no embedding) / (32 x 2 x 32 x 256 / 2).
    assert 2 * full.prefill_token_s / full.prefill_pair_s == pytest.approx(57_300, rel=0.02)


def test_an_unknown_gpu_is_an_input_error_with_the_known_ones() -> None:
    with pytest.raises(InputError) as e:
        planned("hf://meta-llama/Llama-3.1-8B", "{gpu: H1000}")
    assert "H100-80GB" in e.value.cure
