"""Weights that cannot be fetched, GPUs that are shared, and runtimes that refuse, as public threads of 2025 and 2026 show it."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import CORE, Case, engine, init_died, traced, unmounted
from .test_catalogue import died, event, node, pod, unplaced, waiting

CASES: list[Case] = [
    (("weights/hub-unreachable",), ["certificate"], died(traced("fastembed/common/model_management.py", "huggingface_hub/hf_api.py", "httpx/_transports/default.py", "httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1010)") + "\nERROR:    Application startup failed. Exiting.\n")),
    (("weights/hub-unreachable",), ["huggingface.co"], init_died("  % Total    % Received % Xferd  Average Speed\n  0      0   0      0   0      0      0      0           00:04              0curl: (6) Could not resolve host: huggingface.co\n", 6, name="downloader")),
    (("weights/hub-unreachable",), ["xet"], died("RuntimeError: Data processing error: CAS service error : ReqwestMiddleware Error: Request failed after 5 retries: error sending request for url (https://cas-server.xethub.hf.co/reconstruction/abc): client error (Connect): dns error: failed to lookup address information: Name or service not known\n")),
    (("weights/hub-unreachable",), ["xet"], died("RuntimeError: Data processing error: CAS service error : ReqwestMiddleware Error: Request failed after 5 retries\n")),
    (("weights/hub-unreachable",), [], died("2025-03-07 18:32:47 OSError: We couldn't connect to 'https://huggingface.co' to load this file, couldn't find it in the cached files and it looks like Qwen/x is not the path to a directory containing a file named config.json.\n")),
    (("weights/hub-unreachable",), [], died("requests.exceptions.ProxyError: (MaxRetryError(\"HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api/models/x (Caused by ProxyError('Unable to connect to proxy', NewConnectionError('<urllib3>: Failed to establish a new connection: [Errno 111] Connection refused')))\"), '(Request ID: a)')\n")),
    (("gpu/memory-taken",), ["another"], engine(traced("vllm/v1/worker/gpu_worker.py", "AssertionError: Error in memory profiling. Initial free memory 23.4375 GiB, current free memory 23.4375 GiB. This happens when other processes sharing the same container release GPU memory while vLLM is profiling during initialization. To fix this, ensure consistent GPU memory allocation or isolate vLLM in its own container."))),
    (("gpu/out-of-memory",), ["share"], engine("[HAMI-core ERROR (pid:30 thread=140382094939712 allocator.c:53)]: Device 0 OOM 3171158016 / 3145728000\nRuntimeError: CUDA error: unrecognized error code")),
    (("gpu/out-of-memory",), [], engine("cuMemoryAllocate failed res=2\nRuntimeError: CUDA failure 2: out of memory")),
    (("gpu/device-plugin",), ["device"], waiting("RunContainerError", "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: device error: GPU-2409b7b6-2df6-0343-90dd-2d73da18e0e8: unknown device: unknown")),
    (("container/cannot-start",), ["driver", "persistence"], waiting("CreateContainerError", "context deadline exceeded")),
    (("engine/unknown-flag",), ["--enable-metrics"], died("usage: vllm [-h] [-v]\n            {chat,complete,serve,launch,bench,collect-env,run-batch} ...\nvllm: error: unrecognized arguments: --enable-metrics\n", 2)),
    (("gpu/not-visible",), [], died("WARNING 02-18 17:23:34 [_custom_ops.py:20] Failed to import from vllm._C with ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')\n" + traced("vllm/entrypoints/openai/api_server.py", "vllm/engine/arg_utils.py", "vllm/config/device.py", "RuntimeError: Failed to infer device type"))),
    (("container/killed",), ["memory"], died("INFO 06-16 09:47:59 [__init__.py:239] Automatically detected platform cpu.\nINFO 06-16 [cpu.py] Loading weights\n", 137)),
    (("engine/kernel",), ["HIP"], engine("RuntimeError: HIP error: invalid argument\nHIP kernel errors might be asynchronously reported at some other API call")),
    (("engine/no-compiler",), ["compiler"], engine(traced(CORE, "vllm/v1/worker/gpu_model_runner.py", "triton/runtime/build.py", "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl."))),
    (("engine/kernel",), [], engine(traced(CORE, "vllm/v1/attention/backends/mla/flashmla.py", "vllm/attention/ops/flashmla.py", "RuntimeError: q must have shape (batch_size, seqlen_q, num_heads, head_size)"))),
    (("engine/kernel",), ["FlashInfer"], engine(traced(CORE, "vllm/model_executor/layers/fused_moe/layer.py", "flashinfer/fused_moe/core.py", "RuntimeError: [TensorRT-LLM][ERROR] Assertion failed: routing_logits has incorrect dtype"))),
    (("engine/unsupported-gpu",), [], engine("torch._inductor.exc.InductorError: OutOfResources: out of resource: shared memory, Required: 98304, Hardware limit: 65536. Reducing block sizes or `num_stages` may help.")),
    (("engine/ray-no-gpu",), ["GPU"], died("ValueError: Current node has no GPU available. current_node_resource={'CPU': 8.0}. vLLM engine cannot start without GPU.\n")),
    (("engine/ranks",), ["GPU"], died("ValueError: The number of required GPUs exceeds the total number of available GPUs in the placement group.\n")),
    (("scheduling/label",), ["label"], unplaced("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.", [node("a", gpus=0), node("b", gpus=0), node("g", gpus=1)], nodeSelector={"NodeGroupType": "g5-gpu-karpenter"})),
    (("weights/unauthorized",), ["bucket"], init_died("botocore.exceptions.ClientError: An error occurred (InvalidAccessKeyId) when calling the ListObjectsV2 operation: The AWS Access Key Id you provided does not exist in our records.\n")),
    (("weights/not-found",), ["nothing"], init_died("RuntimeError: Failed to fetch model. No model found in s3://models/llama.\n")),
    (("storage/mount",), ["answer"], unmounted('MountVolume.SetUp failed for volume "models" : rpc error: code = Internal desc = the sidecar container failed with error: failed to get project: Get "http://169.254.169.254/computeMetadata/v1/project/project-id": dial tcp 169.254.169.254:80: i/o timeout')),
    (("scheduling/no-host-resources",), ["ephemeral-storage"], unplaced("0/3 nodes are available: 3 Insufficient ephemeral-storage. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod..", [node()])),
    (("probe/not-ready",), [], Facts(taken_at="2026-11-23T14:30:00Z", pods=[pod(spec={"nodeName": "n"}, status={"phase": "Running", "containerStatuses": [{"name": "vllm", "ready": False, "state": {"running": {"startedAt": "2026-11-23T14:00:00Z"}}}]})], events=[event("Unhealthy", 'Readiness probe failed: Get "http://10.0.0.1:8000/health": dial tcp 10.0.0.1:8000: connect: connection refused')], logs={"chat-7d9f-abcde/vllm": "INFO 12-12 05:28:31 pynccl.py:69] vLLM is using nccl==2.21.5\n"})),
    (("engine/connector",), [], engine(traced(CORE, "vllm/v1/worker/gpu_model_runner.py", "vllm/distributed/kv_transfer/kv_connector/v1/nixl_connector.py", "AssertionError"))),
]  # fmt: skip
