"""What engines of many versions wrote before they ended, and the cause that is named first."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from typing import Any

import pytest

from seawall.diagnose.facts import Facts
from seawall.diagnose.run import diagnose
from seawall.engines.vllm.signs import redacted

from .test_catalogue import died, pod

V0 = "(VllmWorkerProcess pid=409) ERROR 11-19 06:08:46 multiproc_worker_utils.py:229] "
V1 = "(EngineCore_DP0 pid=99) ERROR 10-02 11:00:00 [core.py:842] "
END = "\n(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
RAY = "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.\n"

WORDS: list[tuple[str, str, str]] = [
    ("engine/exception", "LMCacheEngineBuilder", "ERROR 05-06 01:55:26 [core.py:383] EngineCore hit an exception: Traceback (most recent call last):\nERROR 05-06 01:55:26 [core.py:383] ImportError: cannot import name 'LMCacheEngineBuilder' from 'lmcache.v1.cache_engine' (/usr/lib/x.py)\n"),
    ("engine/nixl", "prefill and decode", V1 + "    self.agent.registerMem(reg_descs, handle_list)\n" + V1 + "nixl._bindings.nixlBackendError: NIXL_ERR_BACKEND" + END),
    ("engine/nixl", "prefill and decode", "[1746690477.974497] [llm206:611  :0]     ucp_context.c:1268 UCX  WARN  transports 'cuda_ipc','cuda_copy' are not available\nERROR 05-08 00:47:57 [core.py:396] EngineCore failed to start.\nERROR 05-08 00:47:57 [core.py:396] nixl._bindings.nixlBackendError: NIXL_ERR_BACKEND\n"),
    ("engine/nixl", "prefill and decode", V1 + "RuntimeError: NIXL is not available" + END),
    ("engine/exception", "initialize_nixl", V0.replace("06:08:46", "05:31:41") + "NotImplementedError: Method 'initialize_nixl' is not implemented.\nERROR 03-21 05:31:41 engine.py:518] Method 'initialize_nixl' is not implemented.\n"),
    ("engine/exception", "bundles", 'Traceback (most recent call last):\n  File "ray_utils.py", line 305, in initialize_ray_cluster\n    bundles = current_placement_group.bundle_specs\nKeyError: \'bundles\'\n'),
    ("engine/exception", "pinned", V1 + "AssertionError: CPU tensor must be pinned" + END),
    ("engine/nccl", "NCCL", V0 + "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:2251, unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.21.5\nncclUnhandledCudaError: Call to CUDA function failed."),
    ("engine/nccl", "NCCL", V0 + 'raise RuntimeError(f"NCCL error: {error_str}")\n' + V0 + "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
    ("engine/ray-no-gpu", "GPU", "(EngineCore_DP0 pid=726) ValueError: Current node has no GPU available. current_node_resource={'node:10.0.0.1': 1.0}. vLLM engine cannot start without GPU. Make sure you have at least 1 GPU available in a node current_node_id='x' for the Ray cluster." + END),
    ("gpu/driver-mismatch", "do not match", "NVMLError_LibRmVersionMismatch: RM has detected an NVML/RM version mismatch.\nRuntimeError: Failed to infer device type\n"),
    ("gpu/driver-mismatch", "do not match", "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54\nRuntimeError: Failed to infer device type\n"),
    ("gpu/not-visible", "GPU", "RuntimeError: No CUDA GPUs are available\n"),
    ("engine/no-kv-memory", "KV cache", V1 + "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine." + END),
    ("engine/kv-too-small", "max_model_len", V1 + "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (5.37 GiB). Based on the available memory, the estimated maximum model length is 43904. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine." + END),
    ("gpu/memory-taken", "3.98 of 23.65", V1 + "ValueError: Free memory on device (3.98/23.65 GiB) on startup is less than desired GPU memory utilization (0.9, 21.28 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes." + END),
    ("engine/max-len", "65536", "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=40960 or model_max_length=None in model's config.json)."),
    ("engine/unsupported-model", "architecture", "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, The checkpoint you are trying to load has model type `qwen3_5` but Transformers does not recognize this architecture."),
    ("engine/unsupported-model", "architecture", "  Value error, Model architectures ['Gemma4ForConditionalGeneration'] are not supported for now. Supported architectures: dict_keys(['ApertusForCausalLM'])"),
    ("weights/unauthorized", "", "OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct.\n401 Client Error."),
    ("weights/hub-unreachable", "hub", "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files.\nCheck your internet connection"),
    ("weights/no-model", "no model at the path", "OSError: Incorrect path_or_model_id: '/mnt/models'. Please provide either the path to a local folder or the repo_id of a model on the Hub.\n"),
    ("weights/no-model", "no model at the path", "OSError: Unrecognized model in /models/qwen. Should have a `model_type` key in its config.json, or contain one of the following strings in its name: albert, align"),
    ("engine/chat-template", "/templates/tool.jinja", "ValueError: The supplied chat template string (/templates/tool.jinja) appears path-like, but doesn't exist! Reason: [Errno 2] No such file or directory: '/templates/tool.jinja'"),
    ("engine/chat-template", "/t/x.jinja", "ValueError: The supplied chat template (/t/x.jinja) looks like a file path, but it failed to be opened. Reason: [Errno 2] No such file or directory: '/t/x.jinja'"),
    ("engine/no-nvcc", "nvcc", V1 + "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist" + END),
    ("engine/port-taken", "port", "OSError: [Errno 98] Address already in use\n"),
    ("engine/service-links", "", "ValueError: VLLM_PORT 'tcp://10.96.1.2:8000' appears to be a URI. This may be caused by a Kubernetes service discovery issue,check the warning in: https://docs.vllm.ai/en/stable/serving/env_vars.html"),
    ("weights/disk-full", "full", "OSError: [Errno 28] No space left on device: '/root/.cache/huggingface/hub/models--x/blobs/abc.incomplete'"),
    ("gpu/driver-too-old", "", V1 + "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that might have already set an error? Error 804: forward compatibility was attempted on non supported HW"),
    ("engine/permission", "/.triton", V1 + "torch._inductor.exc.InductorError: PermissionError: [Errno 13] Permission denied: '/.triton'" + END),
    ("engine/no-user", "", "KeyError: 'getpwuid(): uid not found: 1000770000'" + END),
    ("engine/died", "first error above", RAY + "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file."),
    ("engine/no-leader", "", "sh: 1: Leader_Node_Address: not found\nError: Missing argument --ray_address\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "words", "log"), WORDS, ids=[f"{w[0]}-{i}" for i, w in enumerate(WORDS)]
)
def test_the_first_cause_is_what_the_log_says(expected: str, words: str, log: str) -> None:
    first = diagnose(died(log))[0]
    assert first.id == expected, first.what
    assert words in first.what


@pytest.mark.parametrize(("code", "signal"), [(137, True), (143, True), (1, False), (2, False)])
def test_who_was_killed_from_outside_is_sure_of_nothing(code: int, signal: bool) -> None:
    first = diagnose(died(V1 + "AssertionError: CPU tensor must be pinned" + END, code))[0]
    assert (first.certainty == "possible") is signal


def init_crash(log: str, code: int = 1, reason: str = "Error") -> Facts:
    ended: dict[str, Any] = {
        "name": "storage-initializer", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": code, "reason": reason}},
    }  # fmt: skip
    waits = {"name": "vllm", "state": {"waiting": {"reason": "PodInitializing"}}}
    it = pod(status={"phase": "Pending", "initContainerStatuses": [ended], "containerStatuses": [waits]})
    return Facts(pods=[it], logs={"chat-7d9f-abcde/storage-initializer": log} if log else {})


def test_an_init_container_ends_with_words_of_its_own() -> None:
    said = "FileExistsError: [Errno 17] File exists: '/mnt/pvc/m/config.json' -> '/mnt/models/config.json'"
    first = diagnose(init_crash(said))[0]
    assert (first.id, first.certainty) == ("init/crash", "certain")
    assert first.what == f"the init container storage-initializer ends with {said}"
    assert "-c storage-initializer" in first.do


def test_an_init_container_that_says_what_is_known() -> None:
    assert (
        diagnose(init_crash("401 Client Error: Unauthorized for url: https://huggingface.co/api/x"))[0].id
        == "weights/unauthorized"
    )
    assert diagnose(init_crash("", 137, "OOMKilled"))[0].id == "memory/oom-killed"
    assert diagnose(init_crash(""))[0].id == "init/crash"


def test_tokens_are_hidden_and_options_that_begin_like_one_are_not() -> None:
    said = redacted("HF_TOKEN=hf_AbCdEfGhIjKlMnOp refused; give it in hf_overrides")
    assert said == "HF_TOKEN=hf_... refused; give it in hf_overrides"
