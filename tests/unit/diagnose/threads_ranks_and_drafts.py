"""Ranks, drafts, tokenizers and evictions that fail, as public threads of 2025 and 2026 show it."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import CORE, NOISE, TAIL, Case, alive, engine, traced
from .test_catalogue import RUNNING, died, event, pod, waiting


def evicted(message: str) -> Facts:
    """A Pod that the kubelet pushed out with these words."""
    gone = pod(status={"phase": "Failed", "reason": "Evicted", "message": message})
    return Facts(pods=[gone], events=[event("Evicted", message)])


def workers(text: str) -> Facts:
    """Two workers of a replica that die of the same, and whose lines stand between each other."""
    lines = [
        f"(Worker_TP{i} pid=5{i}) ERROR 10-06 18:54:30 [v1/executor/multiproc_executor.py:597] {line}\n"
        for line in text.splitlines()
        for i in (1, 0)
    ]
    return died(NOISE + "".join(lines) + TAIL)


CASES: list[Case] = [
    (("engine/bad-config",), ["data"], engine(traced(CORE, "vllm/config/parallel.py", "ValueError: Invalid data parallel configuration: nnodes (2) must be divisible by the number of data parallel node groups (2 = data_parallel_size 2 / data_parallel_size_local 1)"))),
    (("engine/bad-config",), ["node-rank"], died(traced("vllm/entrypoints/cli/serve.py", "vllm/engine/arg_utils.py", "ValueError: Invalid data-parallel launch options: `--node-rank` must be between 0 and 1; got `--node-rank 2`. Set it to this node's zero-based index."))),
    (("engine/rendezvous",), ["leader"], alive("[rank30]:[W111 00:54:10.905768298 TCPStore.cpp:125] [c10d] recvValue failed on SocketImpl(fd=99, addr=[::ffff:10.16.21.245]:38760, remote=[::ffff:10.16.11.34]:42643): Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?\n" * 5, ready=False, name="vllm")),
    (("engine/bind-address",), ["address"], died("(APIServer pid=1) INFO 09-16 15:23:09 [utils.py:1151] Started DP Coordinator process (PID: 100)\n" + "".join("(APIServer pid=1) " + line + "\n" for line in traced("vllm/entrypoints/cli/serve.py", "vllm/v1/engine/core_client.py", "zmq/sugar/socket.py", "zmq.error.ZMQError: Cannot assign requested address (addr='tcp://10.0.0.9:13345')").splitlines()))),
    (("engine/port-taken",), ["port"], engine(traced("vllm/v1/executor/multiproc_executor.py", "vllm/distributed/device_communicators/shm_broadcast.py", "zmq/sugar/socket.py", "zmq.error.ZMQError: Address already in use (addr='tcp://10.0.0.64:40027')"))),
    (("engine/peer-unreachable",), ["rank0"], died("INFO 07-02 22:32:19 [utils.py:364] Started DP Coordinator process (PID: 279)\nProcess VLLM_DP_Coordinator:\n" + traced("vllm/v1/engine/coordinator.py", "vllm/v1/utils.py", "socket.gaierror: [Errno -2] Name or service not known: rank0"))),
    (("engine/model-files", "weights/no-model"), ["tokenizer"], died("".join("\x1b[0;36m(APIServer pid=3604781)\x1b[0;0m " + line + "\n" for line in traced("vllm/entrypoints/openai/api_server.py", "vllm/tokenizers/mistral.py", "ValueError: No tokenizer file found in directory: /data/models/glm4.7").splitlines()))),
    (("container/crash",), ["division"], died("2024-07-01 07:28:04.488 1 kserve ERROR [__main__.py:<module>():254] Failed to start model server: integer division or modulo by zero\n")),
    (("engine/model-files",), ["tokenizer"], died(traced("djl_python/huggingface.py", "transformers/tokenization_utils_fast.py", "Exception: data did not match any variant of untagged enum ModelWrapper at line 277156 column 3"))),
    (("engine/model-files", "engine/import", "engine/unsupported-model"), ["Transformers"], died("".join("(APIServer pid=1) " + line + "\n" for line in traced("vllm/tokenizers/hf.py", "transformers/models/auto/tokenization_auto.py", "ValueError: Tokenizer class TokenizersBackend does not exist or is not currently imported.").splitlines()))),
    (("weights/no-model",), [], died("OSError: Can't load the configuration of '/models/llama'. If you were trying to load it from 'https://huggingface.co/models', make sure you don't have a local directory with the same name. Otherwise, make sure '/models/llama' is the correct path to a directory containing a config.json file\n")),
    (("engine/speculative",), ["draft"], workers(traced("vllm/v1/executor/multiproc_executor.py", "vllm/v1/worker/gpu_model_runner.py", "vllm/v1/spec_decode/eagle.py", "vllm/model_executor/models/llama_eagle3.py", "KeyError: 'norm_before_residual.weight'"))),
    (("engine/speculative",), ["positions"], engine(traced(CORE, "vllm/v1/worker/gpu_model_runner.py", "vllm/v1/spec_decode/eagle.py", "AttributeError: 'EagleProposer' object has no attribute 'positions'"))),
    (("engine/speculative",), [], engine(traced(CORE, "vllm/v1/worker/gpu/spec_decode/eagle.py", "vllm/model_executor/models/llama_eagle3.py", "vllm/model_executor/model_loader/weight_utils.py", "AssertionError: Attempted to load weight (torch.Size([32000, 4096])) into parameter (torch.Size([64256, 4096]))"))),
    (("engine/exception",), ["num_speculative_tokens"], engine("RuntimeError: Worker failed with error 'Can't determine cudagraph shapes that are both a multiple of 3 (num_speculative_tokens + 1) required by spec-decode and 4 (tensor_parallel_size) required by sequence parallelism please adjust num_speculative_tokens or disable sequence parallelism', please check the stack trace above for the root cause")),
    (("engine/exception",), ["bad_array"], engine(traced(CORE, "vllm/v1/worker/gpu_model_runner.py", "RuntimeError: std::bad_array_new_length"))),
    (("engine/exception",), ["sampled_token_ids"], engine(traced(CORE, "vllm/v1/worker/gpu_worker.py", "vllm/v1/worker/gpu_model_runner.py", "AssertionError: PP+async expects sampled_token_ids to have shape [num_reqs, 1]"))),
    (("node/evicted",), ["ephemeral"], evicted("The node was low on resource: ephemeral-storage. Threshold quantity: 638834513199, available: 434266920Ki. Container vllm-lmcache was using 4866Gi, request is 0, has larger consumption of ephemeral-storage.")),
    (("node/evicted",), ["ephemeral"], evicted("The node was low on resource: ephemeral-storage. Threshold quantity: 10120387530, available: 9166736Ki. Container llm was using 57900024Ki, request is 0, has larger consumption of ephemeral-storage.")),
    (("memory/oom-killed",), [], died("(VllmWorker rank=0 pid=247) [2025-06-07 20:33:02,563] LMCache INFO: Creating LMCacheEngine instance vllm-instance\n", 137, "OOMKilled")),
    (("engine/host-memory",), ["memory"], engine("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.0.1, ID: x) where the task was running was 59.97GB / 62.79GB (0.95), which exceeds the memory usage threshold of 0.95.")),
    (("cluster/rights",), ["inferenceobjectives"], alive('{"level":"error","ts":"2026-08-12T10:00:00Z","logger":"controller-runtime.cache.UnhandledError","msg":"Failed to watch","reflector":"pkg/mod/k8s.io/client-go","type":"*v1alpha2.InferenceObjective","error":"failed to list *v1alpha2.InferenceObjective: inferenceobjectives.inference.networking.x-k8s.io is forbidden: User \\"system:serviceaccount:default:epp\\" cannot list resource \\"inferenceobjectives\\" in API group \\"inference.networking.x-k8s.io\\" in the namespace \\"default\\""}\n', ready=False, name="epp")),
    (("image/not-found",), [], waiting("ErrImagePull", "failed to pull and unpack image \"registry.example/gateway-api-inference-extension/epp:main\": failed to resolve reference: manifest unknown")),
    (("probe/not-ready",), ["service"], Facts(taken_at="2026-11-23T14:10:00Z", pods=[pod(spec={"nodeName": "n", "containers": [{"name": "epp", "readinessProbe": {"grpc": {"port": 9003, "service": "envoy.service.ext_proc.v3.ExternalProcessor"}}}]}, status={"phase": "Running", "containerStatuses": [{"name": "epp", "ready": False, "state": {"running": {"startedAt": "2026-11-23T13:00:00Z"}}}]})], events=[event("Unhealthy", "Readiness probe failed: service unhealthy (responded with \"SERVICE_UNKNOWN\")")], logs={"chat-7d9f-abcde/epp": '2025-05-06T20:41:17Z\tLEVEL(-2)\thealth\tepp/health.go:38\tgRPC health check requested unknown service\t{"available-services": ["envoy.service.ext_proc.v3.ExternalProcessor"], "requested-service": "inference-extension"}\n'})),
    (("route/selects-nothing",), ["selector"], Facts(pods=[pod(status=RUNNING)], services=[{"metadata": {"name": "vllm"}, "spec": {"selector": {"app": "vllm-qwen"}, "ports": [{"port": 8080}]}}], endpointslices=[])),
    (("engine/no-user",), ["USER"], engine("KeyError: 'getpwuid(): uid not found: 1000840000'")),
    (("gpu/memory-taken",), ["free"], engine("ValueError: Free memory on device cuda:0 (2.87/79.18 GiB) on startup is less than desired GPU memory utilization (0.9, 71.26 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.")),
    (("engine/nccl", "engine/rendezvous"), [], engine(traced(CORE, "vllm/distributed/parallel_state.py", "torch/distributed/distributed_c10d.py", "torch.distributed.DistBackendError: [2] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store by key '0', but store->get('0') got error: Connection reset by peer"))),
    (("engine/expert-parallel",), ["timeout"], engine(traced("vllm/v1/worker/gpu_worker.py", "vllm/distributed/device_communicators/all2all.py", "deep_ep/buffer.py", "RuntimeError: DeepEP error: timeout (dispatch CPU)"))),
    (("gpu/not-visible", "gpu/busy"), ["accelerator"], engine(traced("vllm/worker/hpu_worker.py", "habana_frameworks/torch/hpu/__init__.py", "RuntimeError: synStatus=26 [Generic failure] Device acquire failed."))),
]  # fmt: skip
