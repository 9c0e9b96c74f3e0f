"""What an image's name tells: whose it is, which vLLM is in it, who it runs as."""

from __future__ import annotations

import pytest

from seawall.engines.vllm.models import first_version
from seawall.lint.image import (
    image_version,
    is_official,
    newest_inside,
    runs_as_root,
)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.19.0", (0, 19)),
        ("docker.io/vllm/vllm-openai:v0.10.1.1", (0, 10)),
        ("rocm/vllm:rocm6.2_mi300_ubuntu20.04_py3.9_vllm_0.6.4", (0, 6)),
        ("aibrix/vllm-openai:aibrix-kvcache-v0.8.5-20250430", (0, 8)),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai", None),
        ("vllm/vllm-openai@sha256:" + "a" * 64, None),
        ("localhost:5000/vllm-openai", None),
    ],
)
def test_the_version_in_a_tag(image: str, version: tuple[int, int] | None) -> None:
    assert image_version(image) == version


@pytest.mark.parametrize(
    ("image", "newest"),
    [
        ("rocm/vllm-dev:nightly_main_20251119", (0, 12)),
        ("rocm/vllm:instinct_main_20250312", (0, 8)),
        ("acme/vllm:2024-08-01", (0, 6)),
        ("us-docker.pkg.dev/vertex-ai/vllm-dockers/pytorch-vllm-serve:20250312_0916_RC01", (0, 8)),
        ("acme/vllm:20261340", None),
        ("acme/vllm:build-1202501013", None),
        ("acme/vllm:latest", None),
    ],
)
def test_the_newest_vllm_of_an_images_day(image: str, newest: tuple[int, int] | None) -> None:
    assert newest_inside(image) == newest


@pytest.mark.parametrize(
    ("image", "root"),
    [
        ("vllm/vllm-openai:v0.19.0", True),
        ("mirror.local/vllm/vllm-openai:v0.19.0", True),
        ("rocm/vllm:latest", True),
        ("rayproject/ray-llm:2.46.0-py311-cu124", False),
        ("quay.io/modh/vllm:rhoai-2.20-cuda", False),
        ("registry.redhat.io/rhaiis/vllm-cuda-rhel9:3.2", False),
        ("nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.5.0", False),
        ("acme/own:1", None),
    ],
)
def test_whose_user_an_image_runs_as(image: str, root: bool | None) -> None:
    assert runs_as_root(image) is root


@pytest.mark.parametrize(
    ("image", "official"),
    [
        ("vllm/vllm-openai:v0.19.0", True),
        ("vllm/vllm-openai-rocm:v0.14.0", True),
        ("harbor.local/dockerhub/vllm/vllm-openai:latest", True),
        ("lmcache/lmstack-router:v1", False),
        ("nginx:1.27", False),
    ],
)
def test_vllms_own_image(image: str, official: bool) -> None:
    assert is_official(image) is official


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("Qwen/Qwen3-8B", (0, 8)),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", (0, 8)),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", (0, 10)),
        ("Qwen/Qwen3.5-35B-A3B", (0, 16)),
        ("Qwen/Qwen3-VL-8B-Instruct", (0, 11)),
        ("openai/gpt-oss-120b", (0, 10)),
        ("/models/gemma-4-31b-it", (0, 19)),
        ("google/gemma-3-27b-it", (0, 8)),
        ("google/gemma-3n-E4B-it", (0, 9)),
        ("deepseek-ai/DeepSeek-V3.2-Exp", (0, 11)),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", (0, 8)),
        ("unsloth/my-gpt-oss-20b-bf16", (0, 10)),
        ("meta-llama/Llama-3.1-8B-Instruct", None),
        ("Qwen/Qwen3-Embedding-0.6B", None),
        ("acme/notqwen3-8b", None),
        ("/mnt/models", None),
        ("", None),
    ],
)
def test_the_first_vllm_of_a_family(model: str, version: tuple[int, int] | None) -> None:
    assert first_version(model) == version


def test_a_day_in_american_order_is_a_day() -> None:
    assert newest_inside("rocm/vllm-dev:open-mi300-08052025") == newest_inside("rocm/vllm-dev:open-20250805")
    assert newest_inside("rocm/vllm-dev:open-mi300-18052025") is None
