"""What GPUs' runtimes, vLLM's checks of a GPU and its own dead processes write, by their sources: one case for each kind.

The numbers and the names are made up, the sentences are the programs' own.
"""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from .shapes import CORE, NOISE, TAIL, Case, engine, traced
from .test_catalogue import died

RUNNER = "vllm/v1/worker/gpu_model_runner.py"


def ended(line: str) -> str:
    """A line of the process that watches over the others."""
    return f"{NOISE}(EngineCore_DP0 pid=271) ERROR 06-20 19:18:46 [multiproc_executor.py:200] {line}\n{TAIL}"


CASES: list[Case] = [
    (("engine/unsupported-gpu",), ["float32", "gemma", "gpt-oss"], engine(traced("vllm/config/vllm.py", "vllm/platforms/cuda.py", "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla V100-SXM2-16GB GPU has compute capability 7.0. You can use float16 instead by explicitly setting the `dtype` flag in CLI, for example: --dtype=half."))),
    (("engine/bad-config",), ["--dtype bfloat16", "gemma3"], engine(traced("vllm/config/model.py", "ValueError: The model type 'gemma3' does not support float16. Reason: Numerical instability. Please use bfloat16 or float32 instead."))),
    (("engine/bad-config",), ["--dtype", "awq"], engine(traced("vllm/config/vllm.py", "ValueError: torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]"))),
    (("engine/unsupported-gpu",), ["fp8", "checkpoint"], engine(traced("vllm/config/vllm.py", "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current capability: 80."))),
    (("engine/unsupported-gpu",), ["attention-backend"], engine("RuntimeError: FlashAttention only supports Ampere GPUs or newer.")),
    (("engine/unsupported-gpu",), ["newer vllm image"], engine("NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.\nRuntimeError: CUDA error: no kernel image is available for execution on the device")),
    (("engine/unsupported-gpu",), ["shared memory", "101376"], engine(traced(CORE, "triton/compiler/compiler.py", "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072, Hardware limit: 101376. Reducing block sizes or `num_stages` may help."))),
    (("gpu/out-of-memory",), [], engine("RuntimeError: CUDA driver error: out of memory")),
    (("gpu/out-of-memory",), [], engine("RuntimeError: Triton Error [CUDA]: out of memory")),
    (("gpu/out-of-memory",), [], engine("jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 33.0G of 31.2G hbm.")),
    (("gpu/out-of-memory",), [], engine("RuntimeError: level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)")),
    (("gpu/not-visible",), ["limits"], engine("torch.AcceleratorError: CUDA error: invalid device ordinal")),
    (("gpu/not-visible",), ["CUDA_VISIBLE_DEVICES"], engine(traced("vllm/platforms/interface.py", "RuntimeError: Physical device 3 for logical device 1 is not visible in CUDA_VISIBLE_DEVICES=0,1"))),
    (("gpu/driver-fails",), ["nvidia_uvm"], engine("RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero.")),
    (("engine/no-peer-access",), ["disable-custom-all-reduce"], engine(traced(CORE, "vllm/distributed/device_communicators/custom_all_reduce.py", "RuntimeError: CUDART error: peer access is not supported between these two devices"))),
    (("engine/cuda-graphs",), ["PIECEWISE", "enforce-eager"], engine(traced(CORE, RUNNER, "torch/cuda/graphs.py", "RuntimeError: CUDA error: operation not permitted when stream is capturing"))),
    (("engine/unsupported-gpu",), ["sleep-mode"], engine(traced(CORE, "vllm/v1/worker/gpu_worker.py", "RuntimeError: CUDA error: operation not supported"))),
    (("engine/kernel",), ["attention-backend"], engine(traced(CORE, RUNNER, "vllm/v1/attention/backends/flash_attn.py", "torch.AcceleratorError: CUDA error: invalid configuration argument"))),
    (("engine/cuda-fault",), [], engine("RuntimeError: Triton Error [CUDA]: an illegal memory access was encountered")),
    (("gpu/lost",), ["node"], engine("RuntimeError: level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")),
    (("gpu/busy",), ["MPS"], engine("RuntimeError: CUDA error: MPS client failed to connect to the MPS control daemon or the MPS server")),
    (("engine/shm",), ["emptyDir"], engine("RuntimeError: Insufficient space in /dev/shm for MessageQueue: 160 MiB required, 64 MiB free. Increase /dev/shm (e.g. --shm-size for docker)")),
    (("engine/port-taken",), ["master-port"], engine(traced(CORE, "torch/distributed/rendezvous.py", "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"))),
    (("engine/port-taken",), ["VLLM_PORT"], engine("RuntimeError: Could not find open port after 100 attempts starting from port 5600")),
    (("engine/host-memory",), ["memory limit"], died(ended("Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor."))),
    (("container/segfault",), ["native code"], died(ended("Worker proc VllmWorker-1 died unexpectedly (exit code: -11), shutting down executor."))),
    (("engine/shm",), ["emptyDir"], died(ended("Process EngineCore_DP0 (PID: 77) died with exit code -7"))),
    (("container/segfault",), ["CPU"], died(ended("Fatal Python error: Illegal instruction"))),
    (("engine/rendezvous",), ["VLLM_HOST_IP"], engine(traced("vllm/v1/executor/ray_executor.py", "RuntimeError: Every node should have a unique IP address. Got 2 nodes with node ids ['a', 'b'] and 1 unique IP addresses {'10.0.0.1'}. Please check your network configuration. If you set `VLLM_HOST_IP` environment variable, make sure it is unique for each node."))),
    (("engine/expert-parallel",), ["all2all-backend"], engine(traced(CORE, RUNNER, "RuntimeError: Fault detected in EP all2all communication: one or more ranks timed out during dispatch/combine. Mask: [0, 1]"))),
    (("engine/ranks",), ["ray status"], engine(traced("vllm/v1/executor/ray_utils.py", "ValueError: Cannot provide a placement group requiring 8 GPUs (placement_group_specs=[{'GPU': 1.0}]) within 1800 seconds."))),
    (("engine/unknown-parser",), ["--tool-call-parser NAME"], died(traced("vllm/entrypoints/openai/cli_args.py", "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"))),
]  # fmt: skip
