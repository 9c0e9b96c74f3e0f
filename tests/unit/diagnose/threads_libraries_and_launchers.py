"""Libraries, launchers, toolkits and peers that fail, as public threads of 2025 and 2026 show it: what was missed at first."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import CORE, NOISE, Case, alive, engine, traced
from .test_catalogue import died, event, pod, waiting

RUNNER = "vllm/v1/worker/gpu_model_runner.py"
FULL = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
CREATING = [{"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}]

CASES: list[Case] = [
    (("engine/import",), ["transformers of the release"], died(traced("vllm/transformers_utils/tokenizer.py", "AttributeError: TokenizersBackend has no attribute all_special_tokens_extended"))),
    (("engine/import",), ["prometheus_fastapi_instrumentator", "pip list"], died(traced("vllm/entrypoints/openai/api_server.py", "prometheus_fastapi_instrumentator/routing.py", "AttributeError: '_IncludedRouter' object has no attribute 'path'"))),
    (("engine/import",), ["transformers"], died(traced("vllm/multimodal/registry.py", "vllm/transformers_utils/processors/pixtral.py", "AttributeError: 'MistralCommonImageProcessor' object has no attribute 'fetch_images'\n\nThe above exception was the direct cause of the following exception:\n\n" + traced("vllm/multimodal/processing/context.py", "ValueError: Failed to apply MistralCommonPixtralProcessor on data={'text': '[IMG]'} with kwargs={}")))),
    (("engine/import",), ["another vendor"], engine(traced(CORE, "lmcache/v1/cache_engine.py", "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory"))),
    (("engine/import",), ["LD_LIBRARY_PATH"], died("runtime/cgo: pthread_create failed: Invalid argument\nSIGABRT: abort\n", 2)),
    (("container/no-program",), ["dynamo", "PATH"], died("error: Failed to spawn: `dynamo`\n  Caused by: No such file or directory (os error 2)\n", 2)),
    (("engine/peer-unreachable",), ["etcd"], died("thread '<unnamed>' panicked at /opt/dynamo/lib/runtime/src/storage/kv.rs:440:29:\ncalled `Result::unwrap()` on an `Err` value: BuildError(Unable to create lease. Check etcd server status at http://localhost:2379\n", 101)),
    (("engine/bad-config",), ["newer vLLM image"], died(NOISE + "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, Found unknown quantization='fp8_pb_wo' in the config [type=value_error]")),
    (("engine/quantization",), ["checkpoint"], engine(traced(CORE, RUNNER, "vllm/model_executor/layers/fused_moe/layer.py", "AssertionError").replace("return fn(*args)", "assert quant_method is not None"))),
    (("engine/nccl",), ["enforce-eager", "GATHER"], engine("[E ProcessGroupNCCL.cpp:475] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=369526, OpType=GATHER, NumelIn=4000, NumelOut=0, Timeout(ms)=1800000) ran for 1800252 milliseconds before timing out.")),
    (("engine/nixl",), ["VLLM_NIXL_SIDE_CHANNEL_HOST"], engine(traced(CORE, "vllm/distributed/kv_transfer/kv_connector/v1/nixl_connector.py", "KeyError: '604f3f68-909c-43e0-bb3a-e96850fca226'"))),
    (("engine/request-fails",), ["200012"], alive("(APIServer pid=1) ERROR 08-06 10:00:00 [serving_chat.py:860] Error in chat completion stream generator.\n" + traced("vllm/entrypoints/openai/serving_chat.py", "openai_harmony.HarmonyError: Unexpected token 200012 while expecting start token 200006"), name="vllm")),
    (("engine/lora",), ["--lora-modules", "quotes"], engine(traced(CORE, "vllm/lora/worker_manager.py", 'ValueError: Loading lora ["a failed: No adapter found for /data/checkpoint-57"]'))),
    (("engine/multimodal",), ["preprocessor_config.json"], engine(traced(CORE, "vllm/multimodal/processing.py", "RuntimeError: Expected there to be 1 prompt updates corresponding to 1 image items, but instead found 0 prompt updates!"))),
    (("gpu/out-of-memory",), ["while it served", "kv-cache-memory-bytes"], died(NOISE + "(APIServer pid=1) INFO:     Application startup complete.\n" + traced(CORE, RUNNER, "vllm/model_executor/models/deepseek_v4.py", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 640.00 MiB."))),
    (("gpu/toolkit",), ["driver's root"], waiting("RunContainerError", "failed to create shim: OCI runtime create failed: Running hook #0:: error running hook: exit status 1, stderr: nvidia-container-cli: initialization error: change root failed: no such file or directory: unknown")),
    (("container/runtime-class",), ["nvidia"], Facts(pods=[pod(status={"phase": "Pending", "containerStatuses": CREATING})], events=[event("FailedCreatePodSandBox", 'Failed create pod sandbox: rpc error: code = Unknown desc = RuntimeHandler "nvidia" not supported')])),
    (("scheduling/no-free-gpu",), ["node-template/resources/nvidia.com/gpu"], Facts(pods=[pod()], nodes=[], events=[event("FailedScheduling", FULL), event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 Insufficient nvidia.com/gpu")])),
]  # fmt: skip
