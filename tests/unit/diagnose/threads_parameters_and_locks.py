"""Parameters that a checkpoint has and a model has not, memory pools, parts that wrote last before a fault, locks of
downloads and names that the DNS lacks, as public threads of 2025 and 2026 show them; in other words than one thread's."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import CORE, Case, alive, engine, traced
from .test_catalogue import NO, died, event, node, pod

RUNNER = "vllm/v1/worker/gpu_model_runner.py"
WORKER = "vllm/v1/worker/gpu_worker.py"


def no_stock(reason: str, message: str) -> Facts:
    """A Pod that waits for a GPU node, and what the autoscaler says of making one."""
    waits = event("FailedScheduling", NO + "2 Insufficient nvidia.com/gpu.")
    return Facts(pods=[pod()], nodes=[node("cpu-1", gpus=0)], events=[waits, event(reason, message)])


def claimed(message: str) -> Facts:
    """A Pod on a node whose DRA driver cannot prepare what it claims."""
    waits = {"containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}]}
    said = event("FailedPrepareDynamicResources", message)
    return Facts(pods=[pod(spec={"nodeName": "gpu-1"}, status=waits)], events=[said])


def key(file: str, name: str) -> Facts:
    """An engine that ends because a parameter of that name is not there."""
    return engine(traced(CORE, RUNNER, f"vllm/model_executor/models/{file}", f"KeyError: '{name}'"))


CASES: list[Case] = [
    (("weights/other-format",), ["--load-format bitsandbytes"], key("qwen2.py", "layers.11.self_attn.o_proj.weight.quant_map")),
    (("weights/other-format",), ["--load-format mistral"], key("mistral.py", "layers.3.feed_forward.w1.weight")),
    (("weights/other-format",), ["merge_and_unload"], key("gemma3.py", "model.layers.7.self_attn.q_proj.lora_A.weight")),
    (("weights/other-format",), ["save the plain model"], key("llama.py", "_orig_mod.model.layers.0.mlp.up_proj.weight")),
    (("weights/other-format",), ["experts", "newer vLLM"], key("glm4_moe.py", "model.layers.2.mlp.experts.w13_bias")),
    (("weights/other-format",), ["`ignore`"], key("deepseek_v2.py", "model.layers.4.mlp.gate.weight_scale_inv")),
    (("weights/other-format",), [], key("phi3.py", "model.layers.4.mlp.gate_up.weight")),
    (("engine/bug",), ["shapes a step"], key("phi3.py", "chunk")),
    (("engine/bug", "engine/exception"), ["--no-async-scheduling"], engine(traced(CORE, "vllm/v1/core/sched/scheduler.py", "AttributeError: 'Request' object has no attribute 'num_output_placeholders'"))),
    (("engine/bug", "engine/exception"), ["--enable-sleep-mode"], engine(traced(CORE, WORKER, "vllm/device_allocator/cumem.py", "TypeError: 'NoneType' object is not callable"))),
    (("engine/bad-config",), ["PYTORCH_CUDA_ALLOC_CONF"], engine(traced(CORE, WORKER, "RuntimeError: expandable_segments:True is not supported with the CPU offloading connector"))),
    (("engine/cuda-fault",), ["VLLM_ROCM_USE_AITER=0"], engine("[aiter] [asm_mla] decode with 16 heads\nHIP error: an illegal memory access was encountered\nMemory access fault by GPU node-4 (Agent handle: 0x7a) on address 0x7f00. Reason: Page not present or supervisor privilege.\n")),
    (("engine/shm",), ["/dev/shm"], engine(traced(CORE, WORKER, "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:317, unhandled system error\nLast error:\nError while attaching to shared memory segment /dev/shm/nccl-Xy12 (size 5767520)"))),
    (("engine/rendezvous",), ["publishNotReadyAddresses", "vllm-0.vllm"], engine("[W socket.cpp:752] [c10d] The IPv4 network addresses of (vllm-0.vllm, 29500) cannot be retrieved (gai error: -3 - Temporary failure in name resolution).\n" + traced(CORE, WORKER, "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined."))),
    (("engine/worker-silent",), ["raylet"], engine(traced(CORE, "vllm/v1/executor/ray_executor.py", "ray.exceptions.RayChannelError: System error: Channel closed while reading."))),
    (("engine/peer-unreachable",), ["RAY_REDIS_CA_CERT"], died("redis_context.cc:512: Failed to connect to Redis over TLS: certificate verify failed: unable to get local issuer certificate\n")),
    (("engine/peer-unreachable",), ["certificate of etcd"], died("Error: etcd client: tls: failed to verify certificate: x509: certificate signed by unknown authority\n")),
    (("weights/not-found",), ["/models/hub"], engine(traced(CORE, RUNNER, "huggingface_hub.errors.CacheNotFound: Cache directory not found: /models/hub. Please use `cache_dir` argument."))),
    (("engine/start-stands",), ["lock"], alive("Downloading shards:   0%|          | 0/9\n" + "still waiting to acquire lock on /cache/hub/.locks/models--a--b/12.lock (elapsed: 30 seconds)\n" * 5, ready=False)),
    (("scheduling/cloud-capacity",), ["zones"], no_stock("FailedScaleUp", "Node scale up in zones europe-west4-b associated with this pod failed: GCE out of resources. Pod is at risk of not being scheduled.")),
    (("controller/warns",), ["profile"], claimed("NodePrepareResources failed for claim ns/chat: MIG device allocation failed: error creating MIG device: no compute instance for profile 3g.40gb")),
    (("controller/warns",), ["resourceslices"], claimed("Failed to prepare dynamic resources: NodePrepareResources failed: claim chat-gpu: checkpoint cannot be read")),
    (("engine/exception",), ["as it says itself"], died(traced("launcher/main.py", "LauncherError: no profile given. Please set LAUNCH_PROFILE to the name of a folder below /profiles."))),
]  # fmt: skip
