"""What packages, models' files, ranks, refusals and kubelets write, by their sources: one case for each kind.

The numbers and the names are made up, the sentences are the programs' own.
"""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import CORE, NOISE, TAIL, Case, alive, engine, traced
from .test_catalogue import died, pod

RUNNER = "vllm/v1/worker/gpu_model_runner.py"
CUDA = "vllm/platforms/cuda.py"


def refused(reason: str, message: str) -> Facts:
    """A Pod that the kubelet did not take."""
    return Facts(pods=[pod(status={"phase": "Failed", "reason": reason, "message": message})])


def logged(line: str) -> Facts:
    """An engine that died behind an error of one of its modules, of which there is no traceback."""
    return died(f"{NOISE}(EngineCore_DP0 pid=271) ERROR 06-20 19:18:46 {line}\n{TAIL}")


CASES: list[Case] = [
    (("engine/import",), ["GLIBC_2.32"], engine("ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by /x/vllm/_C.abi3.so)")),
    (("engine/import",), ["LD_LIBRARY_PATH"], engine("ImportError: /usr/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.30' not found")),
    (("engine/import",), ["numpy below 2"], engine("AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.")),
    (("engine/import",), ["headless"], engine("ImportError: libGL.so.1: cannot open shared object file: No such file or directory")),
    (("engine/import",), ["VLLM_NCCL_SO_PATH"], engine("AttributeError: /usr/lib/x86_64-linux-gnu/libnccl.so.2: undefined symbol: ncclCommWindowRegister")),
    (("engine/permission",), ["noexec"], engine("ImportError: /tmp/torchinductor/x.so: failed to map segment from shared object")),
    (("container/limits",), ["files"], engine("ValueError: too many file descriptors in select()")),
    (("weights/corrupt",), ["git lfs"], engine(traced(CORE, "torch/serialization.py", "_pickle.UnpicklingError: invalid load key, 'v'."))),
    (("weights/other-format",), ["safetensors"], engine(traced(CORE, "torch/serialization.py", "_pickle.UnpicklingError: Weights only load failed. This file can still be loaded"))),
    (("weights/other-format",), ["lm_head.weight"], engine("safetensors_rust.SafetensorError: File does not contain tensor lm_head.weight")),
    (("weights/hub-unreachable",), ["504"], engine("huggingface_hub.errors.HfHubHTTPError: 504 Server Error: Gateway Time-out for url: https://huggingface.co/api/models/x/y/tree/main")),
    (("weights/unauthorized",), ["its name is wrong"], engine(traced("huggingface_hub/utils/_http.py", "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-x)\n\nRepository Not Found for url: https://huggingface.co/api/models/foo/bar."))),
    (("engine/unsupported-model",), ["newer vLLM image"], engine(traced("transformers/models/auto/configuration_auto.py", "KeyError: 'qwen9_next'"))),
    (("engine/unsupported-model",), ["Transformers"], engine(traced("vllm/transformers_utils/config.py", "AttributeError: 'Qwen2Config' object has no attribute 'rope_theta'"))),
    (("weights/other-format",), ["--dtype"], engine(traced(CORE, RUNNER, "vllm/model_executor/models/gemma3.py", "RuntimeError: expected mat1 and mat2 to have the same dtype, but got: float != c10::BFloat16"))),
    (("engine/chat-template",), ["--chat-template"], engine("jinja2.exceptions.TemplateSyntaxError: Encountered unknown tag 'generation'.")),
    (("engine/multimodal",), ["--mm-processor-cache-gb"], engine(traced(CORE, RUNNER, "RuntimeError: Encoder cache miss for abc123."))),
    (("engine/rendezvous",), ["GLOO_SOCKET_IFNAME", "eth0"], engine(traced(CORE, "torch/distributed/distributed_c10d.py", "RuntimeError: [enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find address for: eth7"))),
    (("engine/rendezvous",), ["VLLM_HOST_IP"], engine(traced(CORE, "torch/distributed/distributed_c10d.py", "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error"))),
    (("engine/rendezvous",), ["external_launcher"], engine(traced(CORE, "vllm/distributed/parallel_state.py", "torch/distributed/distributed_c10d.py", "ValueError: Error initializing torch.distributed using env:// rendezvous: environment variable MASTER_ADDR expected, but not set"))),
    (("engine/worker-silent",), ["another rank"], engine("RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.1]:1234")),
    (("engine/parallel",), ["disable-custom-all-reduce"], engine(traced(CORE, "vllm/v1/worker/gpu_worker.py", "vllm/distributed/parallel_state.py", "AssertionError: tensor model parallel group is not initialized"))),
    (("engine/bug",), ["newer vLLM image"], engine(traced(CORE, "vllm/v1/core/sched/scheduler.py", "AssertionError: num_new_tokens is zero"))),
    (("engine/structured-output",), ["guidance"], engine(traced(CORE, "vllm/v1/structured_output/backend_xgrammar.py", "xgrammar/compiler.py", "RuntimeError: EBNF parser error at line 1"))),
    (("engine/connector",), ["kv-transfer-config"], engine(traced(CORE, "vllm/v1/kv_offload/cpu/spec.py", "ValueError: cpu_bytes_to_use must be specified"))),
    (("engine/connector",), ["bootstrap server"], logged("[mooncake_connector.py:700] Failed to connect to bootstrap server 10.0.0.1 (8998): refused")),
    (("engine/died",), ["JIT kernel warmup failed"], logged("[kernel_warmup.py:70] JIT kernel warmup failed after 12s.")),
    (("engine/bad-config",), ["leave --quantization out"], died(traced("vllm/config/model.py", "ValueError: Quantization method specified in the model config (compressed-tensors) does not match the quantization method specified in the `quantization` argument (awq)."))),
    (("engine/bad-config",), ["vocab_size"], died(traced("vllm/config/speculative.py", "ValueError: Target and draft model should have the same vocabulary size. Target model vocab_size=152064. Draft model vocab_size=151936."))),
    (("engine/bad-config",), ["--block-size"], engine(traced(CORE, "vllm/v1/worker/utils.py", "ValueError: No common block size for 784."))),
    (("engine/bad-config",), ["leave --attention-backend FLASHINFER", "sinks"], died(traced(CUDA, "ValueError: Selected backend AttentionBackendEnum.FLASHINFER is not valid for this configuration. Reason: ['attention sinks not supported']"))),
    (("engine/bad-config",), ["--kv-cache-dtype auto", "FLEX_ATTENTION"], died(traced(CUDA, "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=80, dtype=torch.bfloat16, kv_cache_dtype=fp8, block_size=16, use_mla=False). Reasons: {FLASH_ATTN: [kv_cache_dtype not supported], FLASHINFER: [head_size not supported]}."))),
    (("engine/bad-config",), ["VLLM_PLUGINS"], died("RuntimeError: Only one platform plugin can be activated, but got: {'a', 'b'}")),
    (("engine/bad-config",), ["numa"], engine("RuntimeError: numactl is required for NUMA binding but is not installed or not available on PATH.")),
    (("engine/lora",), ["moe-backend"], engine(traced(CORE, "vllm/lora/layers/fused_moe.py", "ValueError: CutlassExperts does not support LoRA. For unquantized MoE, set moe_backend='triton' or moe_backend='auto'"))),
    (("gpu/memory-taken",), ["--gpu-memory-utilization 0.96"], engine(traced(CORE, "vllm/v1/worker/utils.py", "ValueError: Free memory on device cuda:0 (22.9/23.6 GiB) on startup is less than desired GPU memory utilization (0.98, 23.1 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."))),
    (("engine/not-implemented",), ["newer vLLM image"], engine(traced(CORE, RUNNER, "vllm/model_executor/layers/sparse_attn_indexer.py", "NotImplementedError: SparseAttnIndexer native forward is only for tests"))),
    (("engine/kernel",), ["newer vLLM image"], engine(traced(CORE, RUNNER, "vllm/model_executor/kernels/linear/scaled_mm.py", "ValueError: Failed to find a kernel that can implement the ScaledMM linear layer"))),
    (("engine/peer-unreachable",), ["inferencepool"], alive('{"level":"error","msg":"Failed to process request","error":"inference gateway: ServiceUnavailable - failed to find candidate endpoints for serving the request"}')),
    (("engine/peer-unreachable",), ["0.0.0.0"], alive("upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: delayed connect error: Connection refused")),
    (("route/proxy-timeout",), ["proxy-read-timeout"], alive("2026/10/01 10:00:00 [error] 31#31: *1 upstream timed out (110: Operation timed out) while reading response header from upstream")),
    (("route/body-too-large",), ["proxy-body-size"], alive("2026/10/01 10:00:00 [error] client intended to send too large body: 12345678 bytes")),
    (("engine/peer-unreachable",), ["keep-alive"], alive("ERROR: aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected")),
    (("node/refused",), ["label"], refused("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")),
    (("node/refused",), ["no room"], refused("OutOfnvidia.com/gpu", "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 1, used: 8, capacity: 8")),
    (("node/refused",), ["NUMA"], refused("TopologyAffinityError", "Pod was rejected: Resources cannot be allocated with Topology locality")),
    (("node/going",), ["shut down"], refused("Terminated", "Pod was terminated in response to imminent node shutdown.")),
]  # fmt: skip
