"""Engines, nodes and adapters that fail, as public threads of 2025 and 2026 show it: what was found there is the first cause."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

import pytest

from seawall.diagnose.facts import Facts
from seawall.diagnose.run import diagnose

from .shapes import CORE, NOISE, alive, engine, traced
from .test_catalogue import NO, died, event, hpa, node, pod, unplaced, waiting

CASES: list[tuple[tuple[str, ...], list[str], Facts]] = [
    (("engine/cuda-fault",), [], engine(traced(CORE, "vllm/v1/worker/gpu_model_runner.py", "vllm/compilation/cuda_graph.py", "RuntimeError: CUDA driver error (csrc/graph.cc:88): 700 (CUDA_ERROR_ILLEGAL_ADDRESS)"))),
    (("engine/kernel",), ["DeepGEMM"], engine(traced(CORE, "vllm/model_executor/models/deepseek_v4.py", "vllm/utils/deep_gemm.py", "deep_gemm/__init__.py", "RuntimeError: CUDA runtime error (csrc/jit/handle.hpp:88): 1 (cudaErrorInvalidValue, invalid argument)"))),
    (("engine/kernel",), ["FlashInfer"], engine(traced(CORE, "vllm/v1/attention/backends/flashinfer.py", "flashinfer/decode.py", "RuntimeError: Error in function 'run' at trtllm_fmha_kernel_launcher.cu:412: Missing TRTLLM-GEN kernel (decode): qkvLayout=2, headDimPerCtaV=512"))),
    (("engine/kernel",), ["DeepGEMM"], engine(traced(CORE, "vllm/model_executor/layers/sparse_attn_indexer.py", "vllm/utils/deep_gemm.py", "RuntimeError: DeepGEMM backend is not available or outdated. Please install or update the `deep_gemm` to a newer version to enable FP8 kernels."))),
    (("weights/no-model", "weights/not-found"), [], died("OSError: Phi-3.5-mini-instruct is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'\nIf this is a private repository, make sure to pass a token having permission to this repo either by logging in with `hf auth login` or by passing `token=<your_token>`\n")),
    (("gpu/out-of-memory",), [], engine("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.98 GiB. GPU 0 has a total capacity of 23.72 GiB of which 561.38 MiB is free.")),
    (("engine/pinned-memory",), ["WSL"], engine(traced(CORE, "vllm/v1/worker/gpu/buffer_utils.py", "RuntimeError: UVA is not available"))),
    (("engine/quantization",), ["input_scale"], died(NOISE + "ERROR 05-26 00:17:47 [engine.py:448] 'ColumnParallelLinear' object has no attribute 'input_scale'\n" + "".join("ERROR 05-26 00:17:47 [engine.py:448] " + line + "\n" for line in traced("vllm/engine/multiprocessing/engine.py", "vllm/model_executor/model_loader/loader.py", "vllm/model_executor/layers/quantization/compressed_tensors/schemes/compressed_tensors_w8a8_fp8.py", "torch/nn/modules/module.py", "AttributeError: 'ColumnParallelLinear' object has no attribute 'input_scale'").splitlines()))),
    (("scheduling/no-gpu-nodes",), ["device plugin"], Facts(pods=[pod()], nodes=[node("aks-gpu-1", gpus=0)], events=[event("FailedScheduling", NO + "1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."), event("Nominated", "Pod should schedule on: nodeclaim/gpu-x1")])),
    (("scheduling/taint",), ["nvidia.com/gpu"], unplaced(NO + "1 node(s) had untolerated taint {nvidia.com/gpu: True}, 2 Insufficient nvidia.com/gpu.", [node(spec={"taints": [{"key": "nvidia.com/gpu", "value": "True", "effect": "NoSchedule"}]})], tolerations=[{"key": "nvidia.com/gpu", "value": "NVIDIA-A10G-SHARED", "effect": "NoSchedule"}])),
    (("weights/other-format",), ["weight_scale"], engine(traced("vllm/model_executor/models/utils.py", "vllm/model_executor/models/qwen2.py", "KeyError: 'layers.0.mlp.down_proj.weight_scale'"))),
    (("weights/other-format",), [], engine(traced(CORE, "vllm/model_executor/model_loader/default_loader.py", "vllm/model_executor/models/glm4_moe.py", "KeyError: 'layers.1.mlp.experts.w13_weight'"))),
    (("weights/other-format",), ["qweight"], died("".join("[VLLM LOG] (Worker_TP3 pid=51793) ERROR 02-25 02:56:51 [multiproc_executor.py:783] " + line + "\n" for line in traced("vllm/v1/executor/multiproc_executor.py", "vllm/tracing/otel.py", "vllm/model_executor/models/qwen3_5.py", "KeyError: 'layers.0.mlp.experts.w2_weight.0.qweight'").splitlines()))),
    (("engine/bug",), ["get_rope", "newer"], engine(traced(CORE, "vllm/model_executor/models/jais2.py", "vllm/model_executor/models/jais2.py", "TypeError: get_rope() got an unexpected keyword argument 'rotary_dim'"))),
    (("engine/bad-config",), ["rope_scaling"], died("engine.py           :170  2026-02-03 12:50:43,752 Error initializing vLLM engine: 1 validation error for ModelConfig\n  Value error, rope_scaling should have a 'rope_type' key [type=value_error, input_value=ArgsKwargs((), {'model': 'x'}), input_type=ArgsKwargs]\n    For further information visit https://errors.pydantic.dev/2.12/v/value_error\n")),
    (("engine/model-files", "engine/unsupported-model"), ["newer"], engine(traced("vllm/transformers_utils/config.py", "transformers/configuration_utils.py", "transformers/models/llama/configuration_llama.py", "ValueError: `rope_scaling` must be a dictionary with two fields, `type` and `factor`, got {'factor': 8.0, 'rope_type': 'llama3'}"))),
    (("cluster/webhook",), ["gke-accelerator"], Facts(events=[event("FailedCreate", "Error creating: admission webhook \"warden-validating.common-webhooks.networking.gke.io\" denied the request: GKE Warden rejected the request because it violates one or more constraints.\nViolations details: {\"[denied by autogke-gpu-limitation]\":[\"You must specify a GPU type with node selector 'cloud.google.com/gke-accelerator' when GPU is requested on Autopilot workloads\"]}", "chat-7d9f", "ReplicaSet")])),
    (("scale/hpa-no-metric",), ["adapter"], Facts(hpas=[hpa([{"type": "ScalingActive", "status": "False", "reason": "FailedGetPodsMetric", "message": "the HPA was unable to compute the replica count: unable to get metric vllm_num_requests_waiting: unable to fetch metrics from custom metrics API: the server could not find the metric vllm_num_requests_waiting for pods"}])])),
    (("scale/hpa-no-metric",), ["custom"], Facts(hpas=[hpa([{"type": "ScalingActive", "status": "False", "reason": "FailedGetPodsMetric", "message": "the HPA was unable to compute the replica count: unable to get metric DCGM_FI_DEV_FB_USED_AVG: no metrics returned from custom metrics API"}])])),
    (("engine/peer-unreachable",), ["prometheus"], alive('E0625 16:01:26.278554       1 provider.go:227] unable to update list of all metrics: unable to fetch metrics for query "{__name__=~\\"^container_.*\\"}": Get "http://prometheus-server.default.svc.cluster.local:9090/api/v1/series?match": dial tcp: lookup prometheus-server.default.svc.cluster.local on 10.128.0.10:53: no such host\n', name="prometheus-adapter")),
    (("engine/nccl",), ["NVLS"], engine("chat:271:300 [0] transport/nvls.cc:251 NCCL WARN Cuda failure 1 'invalid argument'\nRuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)")),
    (("engine/lora",), ["target modules"], engine(traced(CORE, "vllm/lora/worker_manager.py", "vllm/lora/models.py", "ValueError: While loading /adapters/sql, expected target modules in ['q_proj', 'v_proj'] but received ['embed_tokens']. Please verify that the loaded LoRA module is correct"))),
    (("engine/lora",), ["adapter"], engine(traced("vllm/lora/worker_manager.py", "vllm/lora/utils.py", "ValueError: Loading lora table_qc failed: No adapter found for /data/out/checkpoint-57"))),
    (("gpu/lost",), [], died("RuntimeError: NVML error\nFailed to initialize NVML: Unknown Error\n")),
    (("gpu/no-driver",), ["driver"], waiting("RunContainerError", "failed to create containerd task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown")),
    (("gpu/toolkit",), ["toolkit"], Facts(pods=[pod()], events=[event("FailedCreatePodSandBox", 'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: OCI runtime create failed: unable to retrieve OCI runtime error (open /run/containerd/io.containerd.runtime.v2.task/k8s.io/x/log.json: no such file or directory): exec: "nvidia-container-runtime": executable file not found in $PATH: <nil>')])),
    (("gpu/toolkit", "gpu/not-visible"), [], died("I0519 11:02:49.799460 1 factory.go:104] Detected non-NVML platform: could not load NVML library: libnvidia-ml.so.1: cannot open shared object file: No such file or directory\nE0519 11:02:49.799506       1 factory.go:112] Incompatible platform detected\nE0519 11:02:49.802763       1 main.go:132] error starting plugins: error creating plugin manager\n")),
    (("engine/worker-silent",), ["hang"], engine("INFO 05-01 01:00:00 [shm_broadcast.py:542] No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are hanging or doing some time-consuming work (e.g. compilation, weight/kv cache quantization).\n" + traced("vllm/v1/executor/multiproc_executor.py", "vllm/distributed/device_communicators/shm_broadcast.py", "TimeoutError: RPC call to sample_tokens timed out."))),
    (("container/crash",), ["create_routers"], died('2026-04-20T10:00:00Z\tINFO\tsetup\tstarting\n2026-04-20T10:00:01Z\tERROR\tsetup\tFailed to start EPP\t{"error": "create_routers failed with code 3"}\n')),
    (("engine/bad-config", "engine/kernel"), ["block"], engine(traced(CORE, "vllm/v1/core/kv_cache_utils.py", "vllm/v1/attention/backends/flash_attn.py", "ValueError: Block size must be a multiple of 16."))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ids", "words", "facts"), CASES, ids=[f"{c[0][0]}-{n}" for n, c in enumerate(CASES)]
)
def test_the_first_cause_is_the_one_that_was_found(
    ids: tuple[str, ...], words: list[str], facts: Facts
) -> None:
    first = diagnose(facts)[0]
    assert first.id in ids, first.what
    for word in words:
        assert word.lower() in f"{first.what} {first.do}".lower()
