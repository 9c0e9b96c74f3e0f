"""Parts that can be left out, starts that stand still, numbers that do not go together and what controllers say, as
public threads of 2025 and 2026 show it; each family in other words than one thread's."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import CORE, NOISE, Case, alive, engine, init_died, traced
from .test_catalogue import died, event, pod

WORKER, RUNNER = "vllm/v1/worker/gpu_worker.py", "vllm/v1/worker/gpu_model_runner.py"


def stands(*lines: str, wait: str = "Waiting for 1 local, 0 remote core engine proc(s) to start.") -> Facts:
    """An engine that is not ready after an hour and writes that it waits, after these lines."""
    waits = f"(APIServer pid=1) DEBUG 08-09 20:55:10 [utils.py:1262] {wait}\n" * 40
    return alive("".join(f"{line}\n" for line in lines) + waits, ready=False, name="vllm")


def fetching(log: str, name: str) -> Facts:
    """An init container that has run for two hours, with its log."""
    running = {"name": name, "restartCount": 0, "state": {"running": {"startedAt": "2026-11-23T12:00:00Z"}}}
    waits = [{"name": "vllm", "state": {"waiting": {"reason": "PodInitializing"}}}]
    it = pod(
        status={"initContainerStatuses": [running], "containerStatuses": waits},
        spec={"nodeName": "gpu-1", "initContainers": [{"name": name}]},
    )
    return Facts(taken_at="2026-11-23T14:10:00Z", pods=[it], logs={f"chat-7d9f-abcde/{name}": log})


def warned(reason: str, message: str, name: str, kind: str) -> Facts:
    """A warning about an object of an add-on's kind."""
    return Facts(events=[{**event(reason, message, name, kind), "type": "Warning"}])


def refused(words: str, config: str = "VllmConfig") -> Facts:
    """A configuration that pydantic refuses with these words."""
    error = f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {config}\n  {words} [type=value_error, input_value=ArgsKwargs((), {{}})]"
    return died(NOISE + "".join(f"(APIServer pid=1) {line}\n" for line in traced("vllm/engine/arg_utils.py", "vllm/config/vllm.py", error).splitlines()))  # fmt: skip


CASES: list[Case] = [
    (("engine/kernel",), ["DeepGEMM", "VLLM_USE_DEEP_GEMM=0"], engine(traced(CORE, WORKER, "vllm/model_executor/warmup/deep_gemm_warmup.py", "vllm/utils/deep_gemm.py", "RuntimeError: Assertion error (csrc/jit_kernels/impls/smxx_layout.hpp:136): mn % 4 == 0 and num_groups == 1"))),
    (("engine/kernel",), ["killed", "MAX_JOBS"], engine(traced(CORE, WORKER, "flashinfer/jit/cpp_ext.py", "RuntimeError: Ninja build failed. Ninja output:\n[3/18] nvcc -c gemm.cu\nnvcc error   : 'cicc' died due to signal 9 (Kill signal)\nninja: build stopped: subcommand failed."))),
    (("engine/kernel",), ["sm_110a", "TRITON_PTXAS_PATH"], engine(traced(CORE, RUNNER, "triton/backends/nvidia/compiler.py", "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n`ptxas` stderr:\nptxas fatal   : Value 'sm_110a' is not defined for option 'gpu-name'"))),
    (("engine/kernel",), ["compute_120f", "CUDA_HOME"], engine(traced(CORE, WORKER, "flashinfer/jit/core.py", "RuntimeError: Ninja build failed.\nnvcc fatal   : Unsupported gpu architecture 'compute_120f'"))),
    (("engine/unsupported-gpu",), ["gfx"], engine(traced(CORE, RUNNER, "torch/nn/functional.py", "RuntimeError: HIP error: invalid device function\nHIP kernel errors might be asynchronously reported at some other API call"))),
    (("engine/exception",), ["state (Mamba", "--no-enable-prefix-caching"], engine(traced(CORE, RUNNER, "vllm/v1/worker/mamba_utils.py", "IndexError: index 91 is out of bounds for axis 0 with size 91"))),
    (("engine/bug",), ["prefix cach"], engine(traced(CORE, "vllm/v1/core/sched/scheduler.py", "vllm/v1/core/block_pool.py", "AssertionError: block 12 is not free"))),
    (("engine/bad-config",), ["--max-num-seqs 8 or more"], refused("Assertion failed, max_num_partial_prefills (8) must be less than or equal to max_num_seqs (4)")),
    (("engine/bad-config",), ["--max-num-batched-tokens 40960 or more"], refused("Value error, max_num_batched_tokens (2048) is smaller than max_model_len (40960).", "SchedulerConfig")),
    (("engine/bad-config",), ["hybrid", "--no-disable-hybrid-kv-cache-manager"], engine(traced(CORE, "vllm/v1/core/kv_cache_utils.py", "ValueError: Hybrid KV cache manager is disabled, and this model has layers of more than one type"))),
    (("engine/bad-config",), ["Input should be 'auto'"], died("pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\ndtype\n  Input should be 'auto', 'half' or 'float16' [type=literal_error, input_value='fp16', input_type=str]\n")),
    (("engine/import",), ["flashinfer_extra"], engine(traced(CORE, "vllm/v1/attention/backends/flashinfer.py", "flashinfer_extra/__init__.py", "ImportError: /usr/lib/python3/dist-packages/flashinfer_extra/ops.abi3.so: undefined symbol: _ZN2at4_ops5zeros"))),
    (("engine/import",), ["CUDA 13"], died(NOISE + traced("vllm/entrypoints/cli/main.py", "vllm/platforms/cuda.py", "ImportError: libcublas.so.13: cannot open shared object file: No such file or directory"))),
    (("engine/import",), ["Transformers", "below 5"], died(NOISE + traced("vllm/transformers_utils/config.py", "transformers/configuration_utils.py", "AttributeError: 'PretrainedConfig' object has no attribute 'rope_theta_new'"))),
    (("engine/nccl",), ["GID", "NCCL_IB_GID_INDEX"], engine("gpu-a:77:90 [2] NCCL WARN Call to ibv_modify_qp failed with error No such device errno 19\n" + traced(CORE, WORKER, "vllm/distributed/parallel_state.py", "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:94, unhandled system error, NCCL version 2.25.1"))),
    (("engine/nccl",), ["memlock", "IPC_LOCK"], engine("gpu-a:77:90 [0] rdma_core: ibv_reg_mr_iova2 failed: Cannot allocate memory\n" + traced(CORE, WORKER, "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:94, unhandled system error, NCCL version 2.25.1"))),
    (("engine/nccl",), ["EFA", "vpc.amazonaws.com/efa"], engine("ip-10-0-0-2:12:33 [1] NCCL WARN NET/OFI Request completed with error: Unreachable remote failed\n" + traced(CORE, WORKER, "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"))),
    (("engine/ready-timeout",), ["oordinator"], died(NOISE + traced("vllm/entrypoints/cli/serve.py", "vllm/v1/utils.py", "RuntimeError: Coordinator process did not start within 30 seconds"))),
    (("weights/no-model",), ["gs://", "runai_streamer"], died(NOISE + traced("vllm/engine/arg_utils.py", "huggingface_hub/utils/_validators.py", "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': 'gs://weights/qwen-8b'. Use `repo_type` argument if needed."))),
    (("engine/peer-unreachable",), ["JetStream"], died(traced("dynamo/runtime/__init__.py", "nats/js/manager.py", "nats.js.errors.NoStreamResponseError: nats: no response from stream"))),
    (("engine/peer-unreachable",), ["redis"], died(traced("lmcache/v1/storage_backend/connector/redis_connector.py", "redis/connection.py", "redis.exceptions.ConnectionError: Connection closed by server."))),
    (("cluster/no-kind",), ["InferencePool", "CustomResourceDefinitions"], died('{"level":"error","logger":"setup","msg":"unable to create controller","error":"no matches for kind \\"InferencePool\\" in version \\"inference.networking.k8s.io/v1\\""}\n')),
    (("container/crash",), ["panic"], died("goroutine setup\npanic: assignment to entry in nil map\n\ngoroutine 1 [running]:\nmain.run(...)\n\t/src/main.go:41\n", 2)),
    (("container/crash",), ["panicked"], died("thread 'tokio-runtime-worker' (12) panicked at lib/llm/src/discovery.rs:88:14: called `Result::unwrap()` on an `Err` value\n", 101)),
    (("gpu/out-of-memory",), ["largest step", "--limit-mm-per-prompt"], engine(traced(RUNNER, "vllm/model_executor/models/internvl.py", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 12.00 GiB. GPU 0 has a total capacity of 47.50 GiB of which 3.00 GiB is free."))),
    (("gpu/out-of-memory",), ["loaded"], engine(traced(CORE, RUNNER, "vllm/model_executor/model_loader/base_loader.py", "vllm/model_executor/models/internvl.py", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 47.50 GiB of which 0.30 GiB is free."))),
    (("memory/oom-killed",), ["HF_HUB_DISABLE_XET=1"], init_died("Downloading shards:  12%\n", 137, "OOMKilled", name="fetch-weights")),
    (("init/never-ends",), ["fetch-weights", "HF_HUB_DOWNLOAD_TIMEOUT"], fetching("Fetching 30 files:  93%|#########3| 28/30 [03:00<00:10]\n", "fetch-weights")),
    (("engine/start-stands",), ["first talk", "--disable-custom-all-reduce"], stands("(Worker_TP0 pid=9) INFO 08-09 20:50:00 [pynccl.py:111] vLLM is using nccl==2.27.5")),
    (("engine/start-stands",), ["HAMi"], stands("[HAMI-core Msg(9:1:multiprocess_memory_limit.c:605)]: rank waits for the lock")),
    (("engine/start-stands",), ["3 ranks", "--data-parallel-address"], stands("INFO 08-09 20:50:00 [utils.py:364] Started DP Coordinator process (PID: 279)", wait="Waiting for 0 local, 3 remote core engine proc(s) to connect.")),
    (("engine/start-stands",), ["weights are read"], stands("(EngineCore pid=9) INFO 08-09 20:50:00 [gpu_model_runner.py:4100] Starting to load model /mnt/nfs/qwen...")),
    (("engine/start-stands",), ["compiled"], stands("(EngineCore pid=9) INFO 08-09 20:50:00 [backends.py:570] Dynamo bytecode transform time: 9.1 s", wait="No available shared memory broadcast block found in 60 seconds.")),
    (("engine/nixl",), ["do not come"], alive("WARNING 08-09 20:50:00 [nixl_connector.py:1200] Releasing expired KV blocks for request cmpl-1 which were retrieved by 0 decode worker(s) within 480 seconds.\n" * 5, ready=True, name="vllm")),
    (("controller/warns",), ["LeaderWorkerSet", "presets"], warned("FailedCreate", 'error looking up service account: PodTemplate "lws-workers" not found', "llm", "LeaderWorkerSet")),
    (("controller/warns",), ["kubelet"], Facts(pods=[pod(spec={"nodeName": "gpu-1"}, status={"containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}]})], events=[{**event("FailedPrepareDynamicResources", "Failed to prepare dynamic resources: NodePrepareResources failed for claim llm/gpu: rpc error: deadline exceeded"), "type": "Warning"}])),
    (("scheduling/gated",), ["no topology", "Topology"], Facts(pods=[pod(spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}, status={"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gated"}]})], events=[event("Pending", "couldn't assign flavors to pod set workers: no topology domains at level: cloud.example/rack", "chat", "Workload")])),
]  # fmt: skip
