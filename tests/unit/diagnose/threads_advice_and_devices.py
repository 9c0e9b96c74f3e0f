"""Refusals by what people call an option, advice that a message gives itself, caches of kernels, other vendors' devices,
leases and machines that never join, as public threads of 2025 and 2026 show them; in other words than one thread's."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import CORE, Case, alive, engine, scaler_says, traced
from .test_catalogue import NO, died, event, node, pod

RUNNER = "vllm/v1/worker/gpu_model_runner.py"


def nominated(*claims: str) -> Facts:
    """A Pod for which an autoscaler makes one machine after the other."""
    waits = event("FailedScheduling", NO + "2 node(s) didn't match Pod's node affinity/selector.")
    made = [event("Nominated", f"Pod should schedule on: nodeclaim/{name}") for name in claims]
    return Facts(pods=[pod()], nodes=[node("cpu-1", gpus=0)], events=[waits, *made])


CASES: list[Case] = [
    (("engine/bad-config",), ["--kv-cache-dtype"], engine(traced(CORE, RUNNER, "vllm/models/glm5/attention.py", "AssertionError: sparse layout needs another KV cache dtype: only supports fp8, got bfloat16"))),
    (("engine/bad-config",), ["--attention-backend"], engine(traced(CORE, "vllm/v1/attention/selector.py", "vllm/platforms/rocm.py", "ValueError: Selected backend ROCM_AITER_FA is not valid here. Reason: ['head size not supported']"))),
    (("engine/bad-config",), ["--enable-prefix-caching"], engine(traced(CORE, "vllm/model_executor/models/config.py", "NotImplementedError: prefix caching is not supported yet with this kind of cache"))),
    (("engine/bad-config",), ["--pipeline-parallel-size"], died(traced("vllm/engine/arg_utils.py", "vllm/config/model.py", "NotImplementedError: Pipeline parallelism is unsupported for ThisForCausalLM"))),
    (("engine/bad-config", "engine/quantization"), ["reducing tensor_parallel_size"], engine(traced(CORE, "vllm/model_executor/layers/linear.py", "vllm/model_executor/layers/quantization/utils/marlin_utils.py", "ValueError: Weight output_size_per_partition = 96 is not divisible by min_thread_n = 64. Consider reducing tensor_parallel_size or running with another quantization."))),
    (("engine/kernel",), ["as it says itself"], engine(traced(CORE, RUNNER, "vllm/compilation/backends.py", "RuntimeError: the compiled artifact cannot be read. Please remove the folder torch_compile_cache and start again."))),
    (("engine/kernel",), ["VLLM_CACHE_ROOT"], engine(traced(CORE, RUNNER, "vllm/compilation/compiler_interface.py", "AssertionError: no graph under this hash"))),
    (("engine/kernel",), ["TRITON_CACHE_DIR"], engine(traced(CORE, RUNNER, "triton/runtime/cache.py", "FileNotFoundError: [Errno 2] No such file or directory: '/cache/.triton/cache/9a/attn.json.tmp.pid_9_1'"))),
    (("engine/kernel",), ["MAX_JOBS"], engine(traced(CORE, "torch/utils/cpp_extension.py", "subprocess.CalledProcessError: Command '['ninja', '-v']' died with <Signals.SIGKILL: 9>."))),
    (("engine/permission",), ["NUMBA_CACHE_DIR"], engine(traced(CORE, "numba/core/caching.py", "RuntimeError: cannot cache function 'next_power': no locator available for file '/usr/lib/python3/dist-packages/vllm/x.py'"))),
    (("engine/bad-config",), ["VLLM_USE_V2_MODEL_RUNNER=0"], engine(traced(CORE, "vllm/v1/worker/gpu/model_runner.py", "NotImplementedError: Model Runner V2 has no support for prompt embeddings"))),
    (("engine/bug", "engine/exception"), ["VLLM_USE_V2_MODEL_RUNNER=0"], engine(traced(CORE, "vllm/v1/worker/gpu/states.py", "IndexError: index 4 is out of bounds"))),
    (("weights/other-format",), ["--runner pooling"], engine(traced(CORE, "vllm/model_executor/model_loader/utils.py", "vllm/model_executor/models/adapters.py", "AssertionError"))),
    (("weights/other-format",), ["hf-overrides"], engine(traced(CORE, "vllm/model_executor/model_loader/default_loader.py", "ValueError: Following weights were not initialized from checkpoint: {'classifier.dense.weight', 'classifier.out_proj.bias'}"))),
    (("engine/bad-config",), ["NIM_MODEL_PROFILE"], died("ERROR ngc_profile.py:88] No compatible profiles found for the GPUs of this host\n")),
    (("gpu/not-visible",), ["ASCEND_RT_VISIBLE_DEVICES"], engine(traced(CORE, "vllm_ascend/platform.py", "RuntimeError: Initialize:torch_npu/csrc/core/npu/sys_ctrl/npu_sys_ctrl.cpp:217 NPU function error: aclrtSetDevice(device_id), error code is 507033"))),
    (("gpu/busy",), ["libtpu_lockfile"], engine(traced(CORE, "vllm/v1/worker/tpu_worker.py", "RuntimeError: TPU initialization failed: open(/dev/accel0): Device or resource busy"))),
    (("engine/rendezvous",), ["TPU_WORKER_HOSTNAMES"], engine(traced(CORE, "vllm/v1/worker/tpu_worker.py", "RuntimeError: UNKNOWN: TPU initialization failed: Invalid --slice_builder_worker_addresses specified. Expected 2 worker addresses, got 1."))),
    (("engine/worker-silent",), ["RAY_CGRAPH_get_timeout"], engine(traced(CORE, "vllm/v1/executor/ray_executor.py", "ray.exceptions.GetTimeoutError: Get timed out: some object(s) not ready."))),
    (("engine/peer-unreachable",), ["lease"], died("ERROR dynamo_runtime: etcd keep alive failed: lease expired 7587\n")),
    (("engine/peer-unreachable",), ["10.8.0.4:8000"], alive("ERROR: Failed to fetch models from http://10.8.0.4:8000/v1/models: Cannot connect to host 10.8.0.4:8000 ssl:default [Connect call failed ('10.8.0.4', 8000)]\n" * 4)),
    (("scale/trigger-fails",), ["scalerAddress"], scaler_says("KEDAScalerFailed", "error calling IsActive on external scaler: last resolver error: produced zero addresses")),
    (("scheduling/node-never-joins",), ["nodeclaim"], nominated("gpu-a1", "gpu-b2", "gpu-c3")),
]  # fmt: skip
