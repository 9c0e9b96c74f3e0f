"""What vLLM refuses of its own command line and variables: words, options beside each other, JSON, values. Each
mistake has a neighbour that is right."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.unit.lint.conftest import GONE, Changes

Said = Callable[[Changes], dict[str, str]]
ARGS = "c/args+"


def args(*words: str) -> Changes:
    return {ARGS: list(words)}


def env(name: str, value: str) -> Changes:
    return {"c/env+": {"name": name, "value": value}}


def draft(**config: object) -> Changes:
    whole = {"method": "eagle3", "model": "org/draft", "num_speculative_tokens": 3, **config}
    return args("--speculative-config=" + json.dumps({k: v for k, v in whole.items() if v is not GONE}))


def hub(name: str, *words: str) -> Changes:
    """Served from the hub, with the claim at the hub's cache."""
    return {
        "c/command/2": name,
        "c/volumeMounts/0": {"name": "weights", "mountPath": "/tmp/.cache"},
        ARGS: list(words),
    }


def script(text: str) -> Changes:
    return {"c/command": ["sh", "-c"], "c/args": [text]}


SERVE = "vllm serve /models/llama-3.1-70b-instruct --tensor-parallel-size 4 --shutdown-timeout 110"
TEXT = "--lora-modules=sql=/models/sql"
MISTAKES: dict[str, tuple[str, Changes, Changes]] = {
    # what is wrong: (rule, the mistake, what is right)
    "a flag before a flag": (
        "command/value-missing", args("--max-num-seqs", "--enforce-eager"), args("--max-num-seqs", "8")),
    "a flag at the end": ("command/value-missing", args("--seed"), args("--enforce-eager")),
    "an empty number": ("command/value-missing", args("--seed="), args("--seed=1")),
    "a second model": ("command/stray-word", args("org/other"), args("--tokenizer", "org/other")),
    "an empty word": ("command/stray-word", args(""), args("--chat-template-content-format=auto")),
    "a dash of a word processor": (
        "command/stray-word", args("–-max-num-seqs=8"), args("--max-num-seqs=8")),
    "quotes of a shell": (
        "command/quotes-in-value", args('--tokenizer="org/x"'), args("--tokenizer=org/x")),
    "a space behind the model": ("command/quotes-in-value", hub("Qwen/Qwen3-8B "), hub("Qwen/Qwen3-8B")),
    "a page of the hub": (
        "weights/not-a-model", hub("https://huggingface.co/Qwen/Qwen3-8B"), hub("Qwen/Qwen3-8B")),
    "a folder of the cache": (
        "weights/not-a-model", {"c/command/2": "/models/models--Qwen--Qwen3-8B"},
        {"c/command/2": "/models/models--Qwen--Qwen3-8B/snapshots/abc"}),
    "into the background": (
        "command/leaves-at-once", script(f"{SERVE} &"), script(f"{SERVE} &\nwait")),
    "a backslash too few": (
        "command/line-lost", script(f"exec {SERVE}\n  --seed 1"), script(f"exec {SERVE} \\\n  --seed 1")),
    "a space behind the backslash": (
        "command/line-lost", script(f"exec {SERVE} \\ \n  --seed 1"), script(f"ARGS=(\n--seed 1\n)\nexec {SERVE}")),
    "a variable below": (
        "command/variable-too-late",
        {"c/env+": [{"name": "A", "value": "http://$(B)"}, {"name": "B", "value": "x"}]},
        {"c/env+": [{"name": "B", "value": "x"}, {"name": "A", "value": "http://$(B)"}]}),
    "a variable that is none": (
        "command/variable-too-late", args("--api-key=$(KEY)"), args("--api-key=$(VLLM_API_KEY)")),
    "true for a number": (
        "values/wrong-variable", env("VLLM_USE_DEEP_GEMM", "true"), env("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "true")),
    "a duration": ("values/wrong-variable", env("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "30s"),
                   env("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "30")),
    "a Service's address": ("values/wrong-variable", env("VLLM_PORT", "tcp://10.0.0.1:8000"), env("VLLM_PORT", "8100")),
    "a word that it does not take": (
        "values/wrong-variable", env("VLLM_WORKER_MULTIPROC_METHOD", "thread"), env("VLLM_LOGGING_LEVEL", "debug")),
    "two devices for four ranks": (
        "devices/hidden", env("CUDA_VISIBLE_DEVICES", "0,1"), env("CUDA_VISIBLE_DEVICES", "0,1,2,3")),
    "devices of another Pod": ("devices/hidden", env("CUDA_VISIBLE_DEVICES", "4,5,6,7"), {}),
    "no device at all": (
        "devices/hidden", env("NVIDIA_VISIBLE_DEVICES", "none"), env("NVIDIA_VISIBLE_DEVICES", "all")),
    "offline without a cache": (
        "weights/offline-and-empty", {"c/command/2": "Qwen/Qwen3-8B"},
        {"c/command/2": "Qwen/Qwen3-8B", "c/env+": {"name": "HF_HOME", "value": "/models/hub"}}),
    "outputs without requests": (
        "values/not-together", args("--enable-log-outputs"), args("--enable-log-outputs", "--enable-log-requests")),
    "headless with a server": (
        "values/not-together", args("--headless", "--api-server-count=2"), args("--headless")),
    "two ways to balance": (
        "values/not-together", args("--data-parallel-size=2", "--data-parallel-size-local=1",
                                    "--data-parallel-hybrid-lb", "--data-parallel-external-lb"), {}),
    "a rank too high": (
        "values/not-together", args("--data-parallel-size=2", "--data-parallel-rank=2"),
        args("--data-parallel-size=2", "--data-parallel-rank=1")),
    "three nodes for four ranks": (
        "values/not-together", args("--nnodes=3", "--node-rank=0"),
        args("--nnodes=2", "--node-rank=1", "--master-addr=a")),
    "a batch below the context": (
        "values/not-together", args("--no-enable-chunked-prefill", "--max-num-batched-tokens=8192"),
        args("--no-enable-chunked-prefill", "--max-num-batched-tokens=32768")),
    "balance without experts' ranks": (
        "values/not-together", args("--enable-eplb"), args("--enable-eplb", "--enable-expert-parallel")),
    "a backend twice": (
        "values/not-together", args("--attention-backend=FLASHINFER", '--attention-config={"backend": "FLASH_ATTN"}'),
        args("--attention-backend=FLASHINFER", '--attention-config={"use_trtllm_attention": true}')),
    "adapters that are not on": ("values/not-together", args(TEXT), args(TEXT, "--enable-lora")),
    "fewer adapters in memory than at once": (
        "values/not-together", args("--enable-lora", "--max-loras=4", "--max-cpu-loras=2"),
        args("--enable-lora", "--max-loras=4", "--max-cpu-loras=8")),
    "files of a bucket": (
        "values/not-together", hub("s3://bucket/model", "--load-format=safetensors"),
        hub("s3://bucket/model", "--load-format=runai_streamer")),
    "a draft without a count": ("values/wrong-key", draft(num_speculative_tokens=GONE), draft()),
    "a draft of no tokens": ("values/wrong-key", draft(num_speculative_tokens=0), draft(num_speculative_tokens=1)),
    "a draft by another name": ("values/wrong-key", draft(method="eagle-3"), draft(method="eagle")),
    "the draft's older method": (
        "values/wrong-key",
        draft(model="org/EAGLE3-x", method="eagle"),
        draft(model="org/EAGLE-x", method="eagle"),
    ),
    "a draft's ranks": (
        "values/wrong-key", draft(draft_tensor_parallel_size=2), draft(draft_tensor_parallel_size=4)),
    "a key that is none": (
        "values/wrong-key", draft(num_spec_tokens=3), draft(prompt_lookup_max=3)),
    "a connector misspelt": (
        "values/wrong-key", args('--kv-transfer-config={"kv_connector": "NixlConector", "kv_role": "kv_both"}'),
        args('--kv-transfer-config={"kv_connector": "MyOwn", "kv_role": "kv_both"}')),
    "a plain model as awq": (
        "values/other-quantization", hub("Qwen/Qwen3-8B", "--quantization=awq"), hub("Qwen/Qwen3-8B",
        "--quantization=fp8")),
    "awq as gptq": (
        "values/other-quantization", hub("Qwen/Qwen3-8B-AWQ", "--quantization=gptq"),
        hub("Qwen/Qwen3-8B-AWQ", "--quantization=awq_marlin")),
    "experts of a dense model": (
        "values/no-experts", hub("Qwen/Qwen3-8B", "--enable-expert-parallel"),
        hub("Qwen/Qwen3-30B-A3B", "--enable-expert-parallel")),
    "a rank that no adapter has": (
        "values/wrong-value", args("--enable-lora", "--max-lora-rank=100"), args("--enable-lora",
        "--max-lora-rank=64")),
    "a level that is none": (
        "values/wrong-value", args("--uvicorn-log-level=warn"), args("--uvicorn-log-level=warning")),
    "no sequences": ("values/wrong-value", args("--max-num-seqs=0"), args("--max-num-seqs=1")),
    "a port too high": ("values/wrong-value", args("--port=80000"), args("--port=8000")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_found_and_what_is_right_is_left_alone(name: str, said: Said) -> None:
    rule, mistake, right = MISTAKES[name]
    assert said(mistake)[rule] == "error"
    assert rule not in said(right)


def test_of_an_unknown_version_it_is_a_warning(said: Said) -> None:
    found = said({"c/image": "vllm/vllm-openai:latest", ARGS: ["--enable-log-outputs", TEXT]})
    assert found["values/not-together"] == "warning"


def test_a_release_from_before_the_check_is_not_judged(said: Said) -> None:
    old = {
        "c/image": "vllm/vllm-openai:v0.10.0",
        ARGS: ["--attention-backend=FLASHINFER", '--attention-config={"backend": "x"}'],
    }
    assert "values/not-together" not in said(old)


def test_lowercase_backends_and_plugins_names_are_left_alone(said: Said) -> None:
    assert "values/wrong-value" not in said(args("--attention-backend=flashinfer"))
    assert said(args("--load-format=my_loader"))["values/wrong-value"] == "warning"


def test_what_may_be_otherwise_than_it_looks_is_left_alone(said: Said) -> None:
    """Devices of the whole node, values of a flag that nobody here knows, a model of another's making."""
    seen = {"c/securityContext/privileged": True, **env("CUDA_VISIBLE_DEVICES", "4,5,6,7")}
    assert "devices/hidden" not in said(seen)
    assert "command/stray-word" not in said(args("--our-own-flag", "one", "two"))
    assert "values/no-experts" not in said(hub("org/Qwen3-8B-MoE-merge", "--enable-expert-parallel"))
    assert "weights/offline-and-empty" not in said({"c/command/2": "models/qwen3", "c/workingDir": "/srv"})
