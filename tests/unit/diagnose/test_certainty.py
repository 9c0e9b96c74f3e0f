"""What a log proves and what it only hints at: the exception that ended it comes first, and `certain` means one cause."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

import pytest

from seawall.diagnose.run import diagnose

from .shapes import CORE, NOISE, engine, traced
from .test_catalogue import died


@pytest.mark.parametrize("words", [
    "ValueError: sampling distribution replay requires temperature > 0",
    "ValueError: dp_shared_memory requires data_parallel_size > 1.",
    "ValueError: embedded mode requires global_segment_size > 0",
])  # fmt: skip
def test_a_number_that_an_option_has_to_exceed_is_no_version_of_a_package(words: str) -> None:
    (first, *_) = diagnose(engine(traced(CORE, "vllm/v1/engine/input_processor.py", words)))
    assert first.id != "engine/import"


@pytest.mark.parametrize("words", [
    "TimeoutError: Timed out waiting for engine core processes to start. Waited 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S).",
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': -9}",
    "ValueError: Cannot provide a placement group requiring 8 GPUs (placement_group_specs=[{'GPU': 1.0}]) within 1800 seconds.",
    "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-x)\n\nRepository Not Found for url: https://huggingface.co/api/models/foo/bar.",
    "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error",
])  # fmt: skip
def test_what_several_causes_can_say_is_not_certain(words: str) -> None:
    assert diagnose(engine(words))[0].certainty != "certain"


def test_the_exception_that_ended_it_comes_before_an_error_that_was_survived() -> None:
    survived = (
        "ERROR 06-20 19:18:40 [x.py:3] 429 Client Error: Too Many Requests for url: https://huggingface.co/x, trying again\n"
        * 3
    )
    ended = traced(
        CORE,
        "vllm/v1/core/kv_cache_utils.py",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
    )
    loading = (
        "(EngineCore_DP0 pid=271) INFO 06-20 19:19:00 [core.py:1] Loading weights took 33.01 seconds\n" * 40
    )
    (first, *_) = diagnose(died(NOISE + survived + loading + ended))
    assert first.id == "engine/no-kv-memory"
