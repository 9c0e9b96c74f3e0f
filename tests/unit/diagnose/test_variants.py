"""The same failures in other words: other versions of vLLM, Kubernetes, runtimes and hubs, cut logs, several causes."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from typing import Any

import pytest

from seawall.diagnose.facts import Facts
from seawall.diagnose.run import diagnose
from seawall.engines.vllm.signs import read, redacted

from .test_catalogue import NO, RUNNING, TAINTED, died, event, node, pod, unplaced, waiting

LOGS: list[tuple[str, str]] = [
    ("engine/peer-unreachable", "LMCache ERROR: Failed to connect to Redis at lmcache-redis:6379.\nredis.exceptions.ConnectionError: Error -3 connecting to lmcache-redis:6379. Temporary failure in name resolution."),
    ("engine/peer-unreachable", "RuntimeError: Failed to connect to etcd mooncake-etcd.llm.svc:2379: context deadline exceeded"),
    ("weights/hub-unreachable", "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Failed to resolve the name"),
    ("weights/unauthorized", "botocore.exceptions.NoCredentialsError: Unable to locate credentials"),
    ("weights/unauthorized", "google.auth.exceptions.DefaultCredentialsError: Your default credentials were not found."),
    ("weights/forbidden", "botocore.exceptions.ClientError: An error occurred (AccessDenied) when calling the ListObjectsV2 operation: Access Denied"),
    ("weights/forbidden", "google.api_core.exceptions.Forbidden: 403 GET https://storage.googleapis.com/storage/v1/b/models/o: sa@p.iam.gserviceaccount.com does not have storage.objects.list access to the bucket."),
    ("engine/bad-config", "ValueError: LoRA rank 64 is greater than max_lora_rank 16."),
    ("engine/bad-config", "ValueError: Target and draft model should have the same vocabulary size. Target model vocab_size=151936. Draft model vocab_size=128256."),
    ("engine/bad-config", "NotImplementedError: Pipeline parallelism is not supported for this model. Supported models implement the `SupportsPP` interface."),
    ("engine/bad-config", "AssertionError: Hybrid KV cache manager is disabled but failed to convert the KV cache specs to one unified type."),
    ("engine/bad-config", "ValueError: The output_size of gate's and up's weight = 384 is not divisible by weight quantization block_n = 128."),
    ("engine/no-nvcc", "AssertionError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root."),
    ("engine/no-compiler", "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'"),
    ("engine/rendezvous", "ConnectionError: Could not find any running Ray instance. Please specify the one to connect to by setting `--address` flag or `RAY_ADDRESS` environment variable."),
    ("engine/rendezvous", "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error"),
    ("weights/no-model", "RuntimeError: Cannot find any model weights with `/models/llama`"),
    ("engine/ranks", "ValueError: The number of required GPUs exceeds the total number of available GPUs in the placement group."),
    ("engine/unknown-flag", "api_server.py: error: unrecognized arguments: --swap-space 4 --disable-log-requests"),
    ("engine/unknown-flag", "Usage: vllm serve [OPTIONS]\nError: No such option: --num-scheduler-steps"),
    ("engine/bad-argument", "vllm: error: argument --kv-cache-dtype: invalid choice: 'fp4' (choose from 'auto', 'fp8')"),
    ("engine/bad-argument", "__main__.py: error: argument --max-model-len: invalid int value: '16k'"),
    ("engine/stood-still", "(EngineCore_DP0 pid=77) INFO 11-20 14:02:11 [watch_dog.py:83] [Watchdog]Dumped stack to /tmp/stacks/VLLM_STACK_DUMP_for_engine_0_77.log due to feed timeout"),
    ("engine/max-len", "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, User-specified max_model_len (200000) is greater than the derived max_model_len (max_position_embeddings=131072 or model_max_length=None in model's config.json)."),
    ("engine/kv-too-small", "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (26544). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."),
    ("engine/kv-too-small", "(EngineCore_DP0 pid=77) ValueError: To serve at least one request with the models's max seq len (32768), 6.0 GiB KV cache is needed, which is larger than the available KV cache memory (1.2 GiB)."),
    ("engine/no-kv-memory", "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
    ("engine/no-kv-memory", "ValueError: Available KV cache memory is -3.21 GiB. Try increasing gpu_memory_utilization"),
    ("gpu/out-of-memory", "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine."),
    ("gpu/out-of-memory", "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 448.00 MiB. GPU 0 has a total capacity of 191.98 GiB"),
    ("gpu/out-of-memory", "torch.AcceleratorError: CUDA error: out of memory\nRuntimeError: Engine core initialization failed. See root cause above."),
    ("gpu/driver-mismatch", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination"),
    ("gpu/driver-too-old", "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain."),
    ("gpu/driver-too-old", "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update your driver to a newer version"),
    ("gpu/fabric-manager", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices()? Error 802: system not yet initialized"),
    ("gpu/not-visible", "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory"),
    ("gpu/not-visible", "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    ("gpu/not-visible", "RuntimeError: No CUDA GPUs are available"),
    ("engine/cuda-fault", "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"),
    ("engine/shm", "nccl: NCCL WARN Error: failed to extend /dev/shm/nccl-u2XRiG to 33030532 bytes, error: No space left on device (28)"),
    ("engine/shm", "RuntimeError: DataLoader worker (pid 411) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."),
    ("engine/nccl", "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled cuda error\nncclUnhandledCudaError: Call to CUDA function failed."),
    ("engine/nccl", "[rank1]:[E] [PG ID 2] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE) ran for 600001 milliseconds"),
    ("weights/unauthorized", "OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/meta-llama/Llama-3.1-70B-Instruct.\n401 Client Error."),
    ("weights/unauthorized", "httpx.HTTPStatusError: Client error '401 Unauthorized' for url 'https://huggingface.co/api/models/meta-llama/x'"),
    ("weights/forbidden", "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-6)\n\nCannot access gated repo for url https://huggingface.co/meta-llama/x/resolve/main/config.json.\nAccess to model meta-llama/x is restricted and you are not in the authorized list. Visit it to ask for access."),
    ("weights/forbidden", "httpx.HTTPStatusError: Client error '403 Forbidden' for url 'https://huggingface.co/x'"),
    ("weights/forbidden", "Your request to access model meta-llama/x is awaiting a review from the repo authors."),
    ("weights/not-found", "OSError: meta-llama/Llama-3.1-70B is not a valid git identifier (branch name, tag name or commit id) that exists for this model name. RevisionNotFoundError: 404 Client Error."),
    ("weights/rate-limited", "huggingface_hub.errors.HfHubHTTPError: Client error '429 Too Many Requests' for url 'https://huggingface.co/api/resolve-cache'"),
    ("weights/hub-unreachable", "huggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate the file on the Hub and we cannot find the requested files in the local cache. Please check your connection and try again or make sure your Internet connection is on."),
    ("weights/hub-unreachable", "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files."),
    ("weights/hub-unreachable", "httpx.ConnectError: [Errno 101] Network is unreachable"),
    ("weights/hub-unreachable", "requests.exceptions.SSLError: HTTPSConnectionPool(host='huggingface.co', port=443): certificate verify failed: self-signed certificate in certificate chain"),
    ("weights/offline", "OSError: Offline mode is enabled: huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/x: offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable."),
    ("weights/disk-full", "RuntimeError: Data processing error: CAS service error : IO Error: No space left on device (os error 28)"),
    ("weights/corrupt", "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered"),
    ("weights/no-model", "ValueError: No supported config format found in /models/llama-70b"),
    ("weights/no-model", "RuntimeError: Cannot find any model weights with `/models/llama-70b`"),
    ("weights/no-model", "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/llama-70b'. Use `repo_type` argument if needed."),
    ("engine/ranks", "ValueError: The number of required GPUs exceeds the total number of available GPUs in the placement group."),
    ("engine/ranks", "ValueError: World size (8) is larger than the number of available GPUs (4) in this node."),
    ("engine/unsupported-gpu", "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 80. Current capability: 75."),
    ("engine/unsupported-gpu", "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5."),
    ("engine/unsupported-model", "ValueError: The checkpoint you are trying to load has model type `qwen3_next` but Transformers does not recognize this architecture."),
    ("engine/unsupported-model", "ValueError: Model architectures ['Foo4ForCausalLM'] are not supported for now. Supported architectures: dict_keys([...])"),
    ("engine/remote-code", "ValueError: The repository /models/x contains custom code which must be executed to correctly load the model. Please pass the argument `trust_remote_code=True` to allow custom code to be run."),
    ("engine/host-memory", "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': -9}"),
    ("engine/died", "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}"),
    ("engine/port-taken", "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use"),
    ("engine/ready-timeout", "RuntimeError: Timed out waiting for new engine core processes to start."),
    ("gpu/lost", "pynvml.NVMLError_Unknown: Unknown Error"),
    ("gpu/busy", "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    ("engine/rendezvous", "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to (10.0.0.7, 29500)."),
    ("engine/no-user", "KeyError: 'getpwuid(): uid not found: 1000690000'"),
    ("engine/fork", "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method"),
    ("engine/ranks", "ValueError: Cannot provide a placement group of placement_group_specs=[{'GPU': 1.0}] within 1800 seconds."),
    ("weights/other-format", "ValueError: There is no module or parameter named 'model.visual' in Qwen2ForCausalLM"),
    ("engine/import", "ModuleNotFoundError: No module named 'lmcache'"),
    ("engine/import", "ImportError: /usr/local/lib/python3.12/site-packages/vllm/_C.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEa"),
    ("engine/bad-config", "ValueError: Unknown quantization method: int4. Must be one of ['awq', 'fp8']."),
    ("engine/bad-config", "pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig\ngpu_memory_utilization\n  Value error, gpu memory utilization must be less than 1.0. Got 90.0. [type=value_error]"),
]  # fmt: skip


@pytest.mark.parametrize("expected,text", LOGS, ids=lambda x: x[:60])
def test_a_log_in_other_words_gives_the_same_cause(expected: str, text: str) -> None:
    noise = "INFO 11-23 14:00:01 [api_server.py:1] vLLM API server version 0.32.0\nINFO non-default args: {'model': '/models/x'}\n"
    trace = 'Traceback (most recent call last):\n  File "/usr/bin/vllm", line 8, in <module>\n'
    for log in (text, noise + trace + text + "\n", ("x" * 400 + "\n") * 50 + text):
        said = read(log)
        assert said is not None, "nothing was read"
        assert said.sign.id == expected, said
    causes = diagnose(died(text, 2 if "argument" in text else 1))
    assert causes[0].id == expected, [(c.id, c.what) for c in causes]


@pytest.mark.parametrize("text", [
    "INFO 11-23 14:00:01 [loader.py:447] Loading weights took 33.01 seconds\nINFO Available KV cache memory: 33.80 GiB\nINFO Application startup complete.",
    "WARNING: HF_TOKEN is not set\nINFO: 10.0.0.1:401 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
    "INFO 10.0.0.1:40312 - \"GET /v1/models HTTP/1.1\" 404 Not Found\nINFO \"POST /v1/x\" 403 OK",
    "INFO non-default args: {'trust_remote_code': True, 'max_model_len': 16384}\nINFO Using cache HF_HUB_OFFLINE=1",
    "",
])  # fmt: skip
def test_a_healthy_log_says_nothing(text: str) -> None:
    assert read(text) is None


def test_the_first_error_explains_the_later_ones() -> None:
    log = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
        "ncclSystemError: System call failed\nRuntimeError: Engine core initialization failed. See root cause above.\n"
        "[rank0]: Watchdog caught collective operation timeout"
    )
    said = read(log)
    assert said is not None
    assert said.sign.id == "gpu/out-of-memory"


def on_cpu(message: str, **spec: Any) -> Facts:
    """A Pod that wants no GPU, before a control plane with its taint and a worker."""
    tainted = {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}
    plain = {"containers": [{"name": "vllm", "resources": {"requests": {"cpu": "4"}}}], **spec}
    nodes = [node("cp", gpus=0, spec=tainted), node("worker", gpus=0)]
    return Facts(pods=[pod(spec=plain)], nodes=nodes, events=[event("FailedScheduling", message)])


PREEMPTION = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
PLACES: list[tuple[str, Facts]] = [
    ("gpu/driver-too-old", waiting("RunContainerError", "failed to create shim task: OCI runtime create failed: runc create failed: error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver to a newer version: unknown")),
    ("gpu/driver-mismatch", waiting("RunContainerError", "OCI runtime create failed: nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown")),
    ("gpu/device-plugin", waiting("CreateContainerError", "failed to generate container spec: failed to inject CDI devices: unresolvable CDI devices management.nvidia.com/gpu=all")),
    ("scheduling/no-host-resources", unplaced(NO + "3 Insufficient hugepages-2Mi." + PREEMPTION, [node()])),
    ("scheduling/no-host-resources", unplaced(NO + "3 Insufficient vpc.amazonaws.com/efa." + PREEMPTION, [node()])),
    ("scheduling/taint", unplaced(NO + "1 node(s) had taint {nvidia.com/gpu: present}, that the pod didn't tolerate, 2 Insufficient nvidia.com/gpu.", [TAINTED])),
    ("scheduling/taint", unplaced(NO + "3 node(s) had untolerated taint(s)." + PREEMPTION, [TAINTED])),
    ("scheduling/label", unplaced(NO + "3 node(s) didn't match node selector.", [node()], nodeSelector={"hardware-type": "nvidia-gpu"})),
    ("scheduling/label", unplaced(NO + "3 node(s) didn't match Pod's node affinity." + PREEMPTION, [node()], nodeSelector={"accelerator": "h100"})),
    ("scheduling/no-free-gpu", unplaced(NO + "1 node(s) were unschedulable, 2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.", [node()])),
    ("scheduling/volume-zone", unplaced(NO + "3 node(s) had volume node affinity conflict." + PREEMPTION, [node()])),
    ("scheduling/volume-zone", unplaced(NO + "3 node(s) didn't match PersistentVolume's node affinity." + PREEMPTION, [node()])),
    ("storage/claim-unbound", unplaced(NO + 'persistentvolumeclaim "weights" not found.' + PREEMPTION, [node()])),
    ("storage/claim-unbound", unplaced("running PreBind plugin \"VolumeBinding\": binding volumes: pod has unbound immediate PersistentVolumeClaims", [node()])),
    ("scheduling/affinity", unplaced(NO + "3 node(s) didn't match pod anti-affinity rules." + PREEMPTION, [node()])),
    ("scheduling/affinity", unplaced(NO + "3 node(s) didn't match pod topology spread constraints." + PREEMPTION, [node()])),
    ("scheduling/no-host-resources", unplaced(NO + "3 Insufficient cpu, 3 Insufficient ephemeral-storage." + PREEMPTION, [node()])),
    ("scheduling/no-host-resources", unplaced(NO + "3 Too many pods." + PREEMPTION, [node()])),
    ("rollout/no-controller", Facts(deployments=[{"metadata": {"name": "chat"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "chat"}}}}])),
    ("rollout/no-pods", Facts(deployments=[{"metadata": {"name": "chat"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "chat"}}}, "status": {"observedGeneration": 1, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "pods is forbidden"}]}}])),
    ("scheduling/cordoned", unplaced(NO + "3 node(s) were unschedulable." + PREEMPTION, [node(spec={"unschedulable": True})])),
    ("scheduling/volume-limit", unplaced(NO + "3 node(s) exceed max volume count." + PREEMPTION, [node()])),
    ("scheduling/unplaced", unplaced(NO + "3 node(s) rejected by a plugin of ours." + PREEMPTION, [node()])),
    ("scheduling/label", on_cpu(NO + "2 node(s) didn't match Pod's node affinity/selector." + PREEMPTION, nodeSelector={"disk": "nvme"})),
    ("scheduling/no-host-resources", on_cpu(NO + "1 node(s) had untolerated taint(s), 1 Insufficient cpu. no new claims to deallocate," + PREEMPTION)),
    ("scheduling/gated", Facts(pods=[pod(spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}, status={"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}]})])),
    ("scheduling/dra", unplaced(NO + "3 cannot allocate all claims." + PREEMPTION, [node()])),
    ("image/not-found", waiting("ErrImagePull", "reading manifest v0.99 in docker.io/vllm/vllm-openai: manifest unknown")),
    ("image/not-found", waiting("ImagePullBackOff", 'Back-off pulling image "vllm/vllm-openai:v9": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/vllm/vllm-openai:v9": failed to resolve image: docker.io/vllm/vllm-openai:v9: not found')),
    ("image/unauthorized", waiting("ErrImagePull", "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed")),
    ("image/unauthorized", waiting("ErrImagePull", "unexpected status from HEAD request to https://ghcr.io/v2/x/manifests/1: 403 Forbidden")),
    ("image/network", waiting("ErrImagePull", "failed to do request: Head \"https://r/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority")),
    ("image/network", waiting("ErrImagePull", "pinging container registry r: Get \"https://r/v2/\": dial tcp 10.0.0.1:443: i/o timeout")),
    ("image/disk-full", waiting("ErrImagePull", "failed to copy: write /var/lib/containerd/io.containerd.content.v1.content/ingest/x: no space left on device")),
    ("image/invalid-name", waiting("InvalidImageName", "Failed to apply default image tag \"VLLM:latest\": couldn't parse image name")),
    ("container/missing-config", waiting("CreateContainerConfigError", "couldn't find key token in Secret llm/hf-token")),
    ("container/missing-config", waiting("CreateContainerConfigError", 'configmap "probe" not found')),
    ("container/missing-config", Facts(pods=[pod(status={"containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}]})], events=[event("FailedMount", 'MountVolume.SetUp failed for volume "probe" : configmap "chat-probe" not found')])),
    ("storage/multi-attach", Facts(pods=[pod()], events=[event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-8f" Volume is already exclusively attached to one node and can\'t be attached to another')])),
    ("memory/oom-killed", died("Loading safetensors checkpoint shards:  80%", 137, "OOMKilled")),
    ("node/evicted", Facts(pods=[pod(status={"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Gi\". "})])),
    ("scheduling/preempted", Facts(pods=[pod(status={"phase": "Failed", "reason": "Preempting", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "default-scheduler: preempting to accommodate a higher priority pod"}]})])),
]  # fmt: skip


@pytest.mark.parametrize("expected,facts", PLACES, ids=[f"{e}-{n}" for n, (e, _) in enumerate(PLACES)])
def test_a_cluster_in_other_words_gives_the_same_cause(expected: str, facts: Facts) -> None:
    causes = diagnose(facts)
    assert causes, "no cause at all"
    assert causes[0].id == expected, [(c.id, c.what) for c in causes]


def test_events_of_the_newer_api_are_read_alike() -> None:
    newer = {
        "apiVersion": "events.k8s.io/v1",
        "reason": "FailedScheduling",
        "note": NO + "3 Insufficient nvidia.com/gpu.",
        "regarding": {"kind": "Pod", "name": "chat-7d9f-abcde", "uid": "chat-7d9f-abcde"},
        "eventTime": "2026-11-23T14:02:11.123456Z",
        "series": {"count": 37, "lastObservedTime": "2026-11-23T14:09:00.000000Z"},
        "deprecatedLastTimestamp": None,
    }
    (cause, *_) = diagnose(Facts(pods=[pod()], nodes=[node()], events=[newer]))
    assert cause.id == "scheduling/no-free-gpu"
    assert "(x37)" in cause.evidence[0]


def test_a_pod_without_gpus_is_told_of_its_own_nodes_and_their_taint() -> None:
    facts = on_cpu(NO + "2 node(s) had untolerated taint(s)." + PREEMPTION)
    (cause, *_) = diagnose(Facts(pods=facts.pods, nodes=facts.nodes[:1], events=facts.events))
    assert cause.id == "scheduling/taint"
    assert cause.what.startswith(
        "every node that fits carries the taint node-role.kubernetes.io/control-plane"
    )


def test_an_hpa_on_cpu_without_metrics_server_does_not_blame_keda() -> None:
    said = (
        "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for "
        "resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested "
        "resource (get pods.metrics.k8s.io)"
    )
    active = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "FailedGetResourceMetric",
        "message": said,
    }
    hpa = {"metadata": {"name": "gw"}, "status": {"conditions": [active]}}
    (cause,) = diagnose(Facts(hpas=[hpa]))
    assert "metrics-server" in cause.what
    assert "KEDA" not in cause.what
    external = {**active, "reason": "FailedGetExternalMetric", "message": said.replace("pods.", "external.").replace(
        "resource metrics API", "external metrics API")}  # fmt: skip
    (cause,) = diagnose(Facts(hpas=[{"metadata": {"name": "e"}, "status": {"conditions": [external]}}]))
    assert "KEDA" in cause.what


def test_two_failures_are_both_told_and_the_surer_one_first() -> None:
    facts = died("ValueError: No available memory for the cache blocks.")
    both = Facts(
        pods=[*facts.pods, pod("chat-2", status={"phase": "Pending"})],
        logs=facts.logs,
        nodes=[node()],
        events=[event("FailedScheduling", NO + "3 Insufficient nvidia.com/gpu.", "chat-2")],
    )
    assert {c.id for c in diagnose(both)} >= {"engine/no-kv-memory", "scheduling/no-free-gpu"}


def test_restarts_of_long_ago_are_no_cause_of_a_ready_pod() -> None:
    end = {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "2026-11-20T00:00:00Z",
        "finishedAt": "2026-11-20T01:00:00Z",
    }
    states = [
        {
            "name": "vllm",
            "ready": True,
            "started": True,
            "restartCount": 1,
            "state": {"running": {"startedAt": "2026-11-20T01:00:05Z"}},
            "lastState": {"terminated": end},
        }
    ]
    calm = Facts(taken_at="2026-11-23T14:10:00Z", pods=[pod(status={**RUNNING, "containerStatuses": states})])
    assert [c.id for c in diagnose(calm) if c.certainty == "certain"] == []


def test_no_token_of_any_kind_leaves_a_log() -> None:
    for secret in ("hf_abcdefghijkl", "sk-proj-abcdefghijkl", "ghp_abcdefghijkl"):
        assert secret not in redacted(f"401 Client Error: token {secret} is wrong")
    assert "eyJ" not in redacted("Authorization: Bearer eyJhbGciOi.eyJzdWIi.c2ln")
