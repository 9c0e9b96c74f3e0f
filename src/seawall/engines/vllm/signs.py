"""What the last lines of a vLLM, loader or kubelet log give away: a table of true messages. Text in, matches out.

The texts are those of vLLM 0.8 to 0.32, PyTorch, NCCL, CUDA, huggingface_hub and the Linux kernel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from seawall.engines.vllm.around import AROUND
from seawall.engines.vllm.fetching import FETCHING
from seawall.engines.vllm.network import NETWORK
from seawall.engines.vllm.sign import Sign

# Ordered: an earlier sign explains a later one (a CUDA error follows a driver that is too old).
SIGNS: tuple[Sign, ...] = (
    Sign(
        "engine/unknown-flag",
        r"(?:unrecognized arguments|no such option): *(?P<flag>\S[^\n]{0,120})",
        "this vLLM does not know the argument {flag}: it exits before it loads anything",
        "seawall lint on the manifest names the replacement; remove the option or pin the image that has it",
    ),
    Sign(
        "engine/bad-argument",
        r"(?:vllm serve|api_server\.py|launcher\.py): error: (?P<why>[^\n]{5,200})|"
        r"^[\w./ ()=\[\]-]{1,80}: error: (?P<arg>(?:argument|the following arguments|ambiguous option)[^\n]{5,200})",
        "vLLM refuses its arguments: {why}{arg}",
        "correct the argument; `vllm serve --help=all` lists them",
    ),
    Sign(
        "engine/unknown-parser",
        r"(?P<why>invalid tool call parser: [\w.-]+|Reasoning parser '?[\w.-]+'? not found"
        r"|--enable-auto-tool-choice requires --tool-call-parser)",
        "vLLM has no such parser: {why}",
        "use a name of the list in the message (seawall lint knows them by version)",
    ),
    Sign(
        "engine/service-links",
        r"VLLM_PORT '(?P<port>[^']*)' appears to be a URI",
        "a Service named vllm sets VLLM_PORT={port} in the Pod, and vLLM takes it for its own port",
        "set enableServiceLinks: false in the Pod's spec (seawall lint --fix does)",
    ),
    Sign(
        "engine/stood-still",
        r"\[Watchdog\]Dumped stack to (?P<file>\S{1,200}) due to feed timeout",
        "no step of the engine ended for a while; it has written the stacks of all its threads to {file}",
        "read them before its Pod goes: kubectl exec POD -- cat {file}; the frames on top name what it waits for",
        weight=60,
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/max-len",
        r"max_model_len \(?(?P<len>\d+)\)? is (?:greater|larger) than the (?:derived|model's)[^\n]{0,160}",
        "max_model_len {len} is longer than the model was made for",
        "lower --max-model-len (spec.traffic.maxContext), or use a model with a longer context",
    ),
    Sign(
        "gpu/fabric-manager",
        r"Error 802|system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY|cudaErrorSystemNotReady",
        "NVSwitch is not set up: the node's fabric manager does not run, or not in the driver's version",
        "systemctl status nvidia-fabricmanager on the node (GPU operator: it comes with the driver)",
    ),
    Sign(
        "gpu/driver-too-old",
        r"(?:NVIDIA driver on your system is too old(?: \(found version (?P<found>\d+)\))?|CUDA driver version is "
        r"insufficient for CUDA runtime version|PTX was compiled with an unsupported toolchain"
        r"|unsatisfied condition: cuda>=(?P<cuda>[\d.]+)|Error 804"
        r"|forward compatibility was attempted on non supported HW|CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"
        r"|cudaErrorInsufficientDriver|(?:CUDA_ERROR_UNSUPPORTED_PTX_VERSION|cudaErrorUnsupportedPtxVersion))",
        "the node's NVIDIA driver is too old for the image's CUDA",
        "update the driver (GPU operator: driver.version), or pin an image for an older CUDA (tags -cu126, -cu128); "
        "nvidia-smi on the node shows it",
        any_level=True,
    ),
    Sign(
        "gpu/driver-mismatch",
        r"(?:Error 803|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|cudaErrorSystemDriverMismatch|unsupported display driver"
        r"|Driver/library version mismatch"
        r"|NVMLError_LibRmVersionMismatch|NVML/RM version mismatch)",
        "the driver's library in the container and the driver of the node's kernel do not match",
        "drop the image's own driver library (/usr/local/cuda/compat) from LD_LIBRARY_PATH and put the node's first; "
        "after an update of the driver reboot the node; an older driver needs an update: nvidia-smi on the node "
        "shows it",
        any_level=True,
    ),
    Sign(
        "gpu/device-plugin",
        r"unresolvable CDI devices[^\n]{0,120}",
        "the device plugin gives out a GPU that the node's container runtime does not know",
        "restart the device plugin and the toolkit on that node (GPU operator: nvidia-device-plugin, "
        "nvidia-container-toolkit); nvidia-ctk cdi list shows what the runtime knows",
        any_level=True,
    ),
    Sign(
        "gpu/lost",
        r"Failed to initialize NVML: Unknown Error|NVMLError_Unknown: Unknown Error",
        "the container lost its GPU while it ran: the runtime's device rules were reset (systemctl daemon-reload "
        "on the node)",
        "delete the Pod; NVIDIA container toolkit 1.17 or later with CDI, or the GPU operator, keeps the devices",
        any_level=True,
    ),
    Sign(
        "gpu/mig-id",
        r"invalid literal for int\(\) with base 10: '(?P<id>(?:MIG|GPU)-[\w-]{4,60})'",
        "CUDA_VISIBLE_DEVICES holds {id}, and this vLLM reads numbers only",
        "take a vLLM that knows ids of MIG slices (0.10 and later), or set CUDA_VISIBLE_DEVICES=0 in the container: it "
        "sees its own slice only",
    ),
    Sign(
        "gpu/busy",
        r"CUDA-capable device\(s\) is/are busy or unavailable|all CUDA-capable devices are busy"
        r"|CUDA_ERROR_DEVICE_UNAVAILABLE|cudaErrorDevicesUnavailable",
        "the GPU is held by another process, or is in exclusive mode",
        "nvidia-smi on the node (compute mode, processes); time-slicing, MPS or MIG set up half?",
    ),
    Sign(
        "gpu/xid",
        r"(?:NVRM: )?Xid \([^)]*\): (?P<xid>\d+)|Uncorrectable ECC error|CUDA error: "
        r"uncorrectable ECC error|(?:CUDA_ERROR_|NVML_ERROR_)?(?:ECC_UNCORRECTABLE|NVLINK_UNCORRECTABLE|GPU_IS_LOST)"
        r"|cudaErrorECCUncorrectable|GPU (?:is lost|has fallen off the bus|requires reset)",
        "the GPU itself failed (Xid {xid})",
        "cordon the node and reset or replace the GPU: kubectl cordon NODE; dcgmi diag -r 3",
        certain=False,
    ),
    Sign(
        "gpu/device-plugin",
        r"nvidia-container-cli: device error: (?P<device>(?:GPU|MIG)-[\w-]+): unknown device",
        "the device plugin gave out a GPU that the node's driver does not have: {device}",
        "restart the device plugin on that node (after a change of MIG, a reset or a replaced GPU it still "
        "counts the old "
        "ones) and delete the Pod",
        any_level=True,
    ),
    Sign(
        "gpu/memory-taken",
        r"Error in memory profiling\.[^\n]{0,20}Initial free memory (?P<free>[\d.]+) GiB",
        "another process used the same GPU while vLLM measured its memory ({free} GiB were free first)",
        "one engine per GPU; engines that share one must not start at the same time (time-slicing, HAMi, MPS), or set "
        "--kv-cache-memory-bytes, which measures nothing",
        certain=False,
    ),
    Sign(
        "gpu/out-of-memory",
        r"HAMI-core ERROR[^\n]{0,120}OOM (?P<wanted>\d+) / (?P<has>\d+)",
        "the share of the GPU that HAMi gives the container is used up ({wanted} of {has} bytes)",
        "a larger nvidia.com/gpumem; --gpu-memory-utilization is a share of it; seawall plan does the sum",
        any_level=True,
    ),
    Sign(
        "gpu/no-driver",
        r"nvml error: driver not loaded|NVIDIA-SMI has failed because it couldn't communicate|NVML: Driver Not Loaded"
        r"|NVMLError_DriverNotLoaded|modprobe: FATAL: Module nvidia",
        "the node's NVIDIA driver is not loaded, or the node has no GPU",
        "nvidia-smi on the node; install the driver (GPU operator, the cloud's GPU image), or keep the Pod on "
        "GPU nodes",
        any_level=True,
    ),
    Sign(
        "gpu/not-visible",
        r"CUDA_ERROR_NO_DEVICE|cudaErrorNoDevice|no CUDA-capable device is detected"
        r"|libcuda\.so[.\d]*: cannot open shared object|Found no NVIDIA driver|"
        r"Failed to infer device type|No CUDA GPUs are available|no NVIDIA GPU "
        r"detected|nvidia-container-cli: (?:initialization error|device error)"
        r"|libnvidia-ml\.so[.\d]*: cannot open shared|could not load NVML library",
        "the container sees no GPU",
        "ask for nvidia.com/gpu in limits; is the device plugin running? kubectl -n "
        "kube-system get pods | grep nvidia",
    ),
    Sign(
        "gpu/memory-taken",
        r"Free memory on device [^\n]{0,60}\((?P<free>[\d.]+)/(?P<all>[\d.]+) "
        r"GiB\)[^\n]{0,80}less than desired GPU memory utilization",
        "something else holds the GPU's memory: {free} of {all} GiB were free at start",
        "find the other process (nvidia-smi on the node; time-slicing or MPS?), or lower "
        "--gpu-memory-utilization",
    ),
    Sign(
        "engine/cpu-memory",
        r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<all>[\d.]+) GiB\) on (?:startup|kv cache "
        r"allocation) is less than (?:desired CPU memory utilization \([\d.]+, (?P<share>[\d.]+) GiB\)"
        r"|requested memory for kv \((?P<kv>[\d.]+)[^)]*GiB\))",
        "on this CPU the engine wants {share}{kv} GiB of memory at once, and {free} of {all} GiB are free",
        "set engine.kvCacheMemory (--kv-cache-memory-bytes) to less than what is free, or stop something; seawall plan "
        "says which context still fits into it",
    ),
    Sign(
        "engine/kv-too-small",
        r"(?:max seq len \(?(?P<len>\d+)\)?[^\n]{0,120})?(?:larger than the (?:maximum number "
        r"of tokens that can be stored in KV cache(?: \((?P<has>\d+)\))?"
        r"|available KV cache memory \((?P<gib>[\d.]+) GiB\)))",
        "one request of max_model_len does not fit into the KV cache",
        "set --max-model-len lower (the log's last line names the largest), more GPUs, or "
        "--kv-cache-dtype fp8; seawall plan does the sum",
    ),
    Sign(
        "engine/no-kv-memory",
        r"No available memory for the cache blocks|Available KV cache memory(?: is|:) -[\d.]+ GiB",
        "the weights and one step's activations leave no memory for the KV cache",
        "lower --max-num-batched-tokens (and --max-num-seqs), or raise --gpu-memory-utilization; if the weights "
        "alone fill "
        "the GPU: more tensor parallelism, a larger GPU, or a quantized checkpoint (seawall plan names the cheapest)",
        any_level=True,
    ),
    Sign(
        "gpu/out-of-memory",
        r"(?:torch\.(?:cuda\.)?OutOfMemoryError|(?:CUDA|HIP|XPU) out of memory|(?:CUDA|HIP) error: out of "
        r"memory|(?:CUDA|Cuda|HIP) failure (?:2|\d*:? ?'out of memory')|cuMem\w{3,30} failed res=2"
        r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
        r"|CUBLAS_STATUS_ALLOC_FAILED)(?:[^\n]{0,80}Tried to allocate (?P<size>[\d.]+ [KMG]iB))?",
        "the GPU's memory ran out (CUDA, not the host's)",
        "more tensor parallelism, lower --gpu-memory-utilization or --max-num-seqs; seawall "
        "plan does the sum",
    ),
    Sign(
        "engine/shm",
        r"(?:NCCL WARN[^\n]{0,80}(?:shared memory segment|posix_fallocate)[^\n]{0,200}"
        r"|/dev/shm[^\n]{0,100}No space left on device"
        r"|(?:shared_memory\.py|shm_broadcast|psm_\w+)[^\n]{0,200}(?:\n[^\n]{0,300}){0,6}?No space left on device"
        r"|Bus error[^\n]{0,60}|SIGBUS|insufficient shared memory \(shm\))",
        "/dev/shm is too small for the ranks of a replica (64 MiB in a Pod)",
        "mount an emptyDir {{medium: Memory, sizeLimit: 8Gi}} at /dev/shm",
    ),
    Sign(
        "engine/no-nvcc",
        r"(?P<line>Could not find nvcc|nvcc: not found|nvcc: No such file|No such file or directory: '[^'\n]*nvcc'"
        r"|nvcc is not (?:found|available|installed)|CUDA_HOME(?: environment variable)? is not set|nvcc_home\.empty)",
        "the image has no CUDA compiler (nvcc), and a kernel is to be compiled at start",
        "use an image with the CUDA toolkit (vllm/vllm-openai has it) and CUDA_HOME set to it, or switch off "
        "what compiles: "
        "VLLM_USE_FLASHINFER_SAMPLER=0, VLLM_USE_DEEP_GEMM=0",
    ),
    Sign(
        "engine/no-compiler",
        r"Failed to find C compiler|cannot find -l(?:cuda|cudart|stdc\+\+)"
        r"|CalledProcessError: Command '\[[^\n]{0,80}/(?:gcc|cc|clang)'"
        r"|(?:gcc|cc1plus|x86_64-linux-gnu-gcc)[^\n]{0,40}(?:not found|No such file)"
        r"|Python\.h: No such file|No such file or directory: 'ninja'|ninja: (?:command )?not found"
        r"|Ninja is required to load",
        "the image has no C compiler, Python headers or ninja, which Triton and torch.compile need at start",
        "use an image that has gcc and python3-dev (vllm/vllm-openai has), or --enforce-eager",
    ),
    Sign(
        "engine/rendezvous",
        r"(?:DistNetworkError|DistStoreError|Gloo connectFullMesh failed|Could not find any running Ray instance"
        r"|The client socket has (?:timed out|failed)"
        r"|TCPStore[^\n]{0,60}(?:timed out|timeout)"
        r"|Timed out[^\n]{0,40}waiting for clients)[^\n]{0,160}",
        "the ranks of a replica do not find each other: the first rank's address and port do not answer",
        "is the leader up, and does a NetworkPolicy let its workers in? --master-addr, NCCL_SOCKET_IFNAME, "
        "GLOO_SOCKET_IFNAME name the Pod network's interface",
    ),
    Sign(
        "engine/rendezvous",
        r"(?:recvValue|sendBytes|recvBytes) failed on SocketImpl[^\n]{0,240}|Did the remote server shutdown or crash"
        r"|store->get\([^\n]{0,40}got error: [^\n]{0,80}",
        "the leader of the replica (its first rank) is gone: the other ranks cannot go on by themselves",
        "the leader's own log, before it ended; let all Pods of a group restart together (LWS: restartPolicy "
        "RecreateGroupOnPodRestart), and give the workers a liveness probe",
        weight=82,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/no-leader",
        r"Missing argument --ray_address"
        r"|(?:LWS_LEADER_ADDRESS|MASTER_ADDR|VLLM_HOST_IP): (?:unbound variable|parameter not set)",
        "a worker of the replica is not told its leader's address: the variable that holds it is empty",
        "write $(NAME) in the manifest, not $NAME, for what the controller sets (LWS: LWS_LEADER_ADDRESS), and "
        "check its spelling: kubectl exec POD -- env",
    ),
    Sign(
        "engine/ray-no-gpu",
        r"Current node has no GPU available|Ray does not allocate any GPUs on the driver node",
        "Ray runs vLLM's own process on a node without a free GPU",
        "ask for the GPU in the deployment (ray_actor_options: {{num_gpus: 1}} or a placement group), or start it on a "
        "worker; a head without GPUs cannot run it",
    ),
    *NETWORK,
    Sign(
        "engine/nccl",
        r"(?:NCCL "
        r"error[^\n]{0,120}|ncclSystemError[^\n]{0,120}|nccl(?:Internal|Remote)Error[^\n]{0,60}|Watchdog "
        r"caught collective operation timeout)",
        "the GPUs of a replica cannot talk to each other (NCCL)",
        "set NCCL_DEBUG=INFO and look at the first WARN; /dev/shm, NCCL_SOCKET_IFNAME, "
        "NVLink (nvidia-smi topo -m)",
        certain=False,
    ),
    Sign(
        "engine/nixl",
        r"NIXL_ERR_\w+|nixlBackendError|NIXL is not available|nixl_agent[^\n]{0,60}failed",
        "the KV cache cannot be handed over between prefill and decode (NIXL)",
        "the first UCX line above says which transport is missing: IPC_LOCK in capabilities, an RDMA device in limits "
        "(or UCX_TLS without it), UCX_NET_DEVICES, and one image on both sides",
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/chat-template",
        r"(?:supplied chat template|chat template string)[^\n]{0,40}\((?P<path>[^)\n]{1,200})\)[^\n]{0,60}"
        r"(?:path-like|looks like a file path|failed to be opened|doesn't exist)",
        "the chat template {path} is not in the container",
        "mount it (a ConfigMap) at that path; vLLM's own templates are in /vllm-workspace/examples",
    ),
    Sign(
        "weights/offline",
        r"(?:OfflineModeIsEnabled|outgoing traffic has been disabled|offline mode is enabled)[^\n]{0,160}",
        "HF_HUB_OFFLINE is set and the files are not where vLLM looks",
        "serve the local path; did the loader Job finish? kubectl get jobs",
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?:Error -?\d+ connecting to|[Ff]ailed to connect to|[Cc]annot connect to|[Cc]ould not connect to)"
        r"[^\n]{0,40}?(?P<peer>\b[a-zA-Z][\w.-]*:\d{2,5})\b(?![^\n]{0,80}(?:huggingface|hf\.co))",
        "a service that the engine needs cannot be reached: {peer}",
        "kubectl get svc,endpointslices for that name; does a NetworkPolicy let the engine out to it?",
        weight=80,
        certain=False,
    ),
    *FETCHING,
    Sign(
        "weights/unauthorized",
        r"NoCredentialsError|Unable to locate credentials|DefaultCredentialsError"
        r"|\((?:InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken)\)",
        "the bucket with the weights wants credentials, and the Pod's are missing or wrong",
        "a service account with the cloud's identity, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY from a Secret",
    ),
    Sign(
        "weights/forbidden",
        r"An error occurred \((?:AccessDenied|Forbidden|403)\)[^\n]{0,160}"
        r"|does not have (?:storage\.objects\.\w+|serviceusage\.\S+) access[^\n]{0,120}",
        "the bucket with the weights refuses the Pod's account",
        "let the account list and read the bucket (s3:ListBucket, s3:GetObject; roles/storage.objectViewer)",
    ),
    Sign(
        "weights/forbidden",
        r"403 Client Error[^\n]{0,160}|Client error '403[^\n]{0,160}|not in the authorized list|awaiting a review|"
        r"403 Forbidden[^\n]{0,120}(?:gated|token|repo|url)",
        "the hub refuses this account (403): the licence is not accepted, or the token lacks the scope",
        "accept the licence on the model's page with the token's account",
    ),
    Sign(
        "weights/unauthorized",
        r"(?:GatedRepoError|Cannot access gated repo|trying to access a gated "
        r"repo)[^\n]{0,160}|401 Client Error[^\n]{0,160}|"
        r"Client error '401[^\n]{0,160}",
        "the hub wants a token: the model is gated or private and HF_TOKEN is missing or wrong (401)",
        "put a token of an account that accepted the licence into the Secret; better: "
        "seawall pull once, then serve offline",
    ),
    Sign(
        "weights/not-found",
        r"(?:RepositoryNotFoundError|RevisionNotFoundError|(?<!Local)EntryNotFoundError)[^\n]{0,160}|"
        r"Client error '404|404 "
        r"Client Error[^\n]{0,160}",
        "the hub knows no such model, revision or file (404)",
        "check the name and --revision; a private repository answers 404 without a token",
    ),
    Sign(
        "weights/rate-limited",
        r"429 (?:Client Error|Too Many Requests)[^\n]{0,160}|You have been rate limited|HTTP " r"Error 429",
        "the hub limits the rate (429): many replicas download at once",
        "download once into a shared volume (seawall pull), start replicas from it with HF_HUB_OFFLINE=1",
    ),
    Sign(
        "weights/hub-unreachable",
        r"LocalEntryNotFoundError|couldn't connect to 'https?://|Network is unreachable|certificate verify failed|"
        r"(?:Max retries exceeded with url|ReadTimeout|ConnectTimeout|NameResolutionError|Temporary failure in name "
        r"resolution|ConnectionError(?=[^\n]{0,240}(?:http|huggingface|hf\.co|hub)))[^\n]{0,160}",
        "the hub cannot be reached from the Pod (timeout, DNS or a NetworkPolicy)",
        "kubectl exec into the Pod and resolve the host; serve from a local volume instead",
        certain=False,
    ),
    Sign(
        "weights/disk-full",
        r"(?:No space left on device|OSError: \[Errno 28\]|Disk quota exceeded)[^\n]{0,120}",
        "the disk that is written to is full",
        "a larger claim (1.2 x the weights) or emptyDir, ephemeral-storage requests; df -h in the Pod",
    ),
    Sign(
        "weights/corrupt",
        r"(?:SafetensorError|safetensors_rust\.SafetensorError|HeaderTooLarge|InvalidHeaderDeserialization"
        r"|MetadataIncompleteBuffer)[^\n]{0,120}",
        "a weight file is broken or only half written",
        "seawall pull verifies every hash and mends what is broken",
    ),
    Sign(
        "weights/no-model",
        r"(?:No supported config format found|Can't load the (?:configuration|model) (?:of|for)"
        r"|Cannot find any model weights|HFValidationError: Repo id must|"
        r"does not appear to have a file named config\.json|Invalid repository ID or local "
        r"directory specified|is not a local folder and is not a valid model "
        r"identifier|Unrecognized model in \S+|Incorrect path_or_model_id)[^\n]{0,160}",
        "there is no model at the path that vLLM was given",
        "did the loader Job finish, and is the mount the one that vLLM reads? kubectl exec ls on the path",
    ),
    Sign(
        "engine/pinned-memory",
        r"UVA is not available|pin_memory=False[^\n]{0,60}(?:WSL|not available)",
        "vLLM believes that no pinned host memory is to be had: it takes a machine for WSL whose name or kernel holds "
        "`microsoft`",
        "another Pod name (spec.hostname) without that word; in a container without it: ulimit -l (memlock) and "
        "IPC_LOCK",
        certain=False,
    ),
    Sign(
        "engine/worker-silent",
        r"TimeoutError: RPC call to (?P<call>\w+) timed out",
        "a worker of the replica did not end {call} within vLLM's time (300 s): it hangs in a kernel or a "
        "collective, or is "
        "gone",
        "the worker that logs last; py-spy dump of it before the Pod goes; VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS if "
        "the first "
        "step compiles for long; without --async-scheduling or another backend does it go on?",
        certain=False,
    ),
    Sign(
        "engine/model-files",
        r"(?P<why>No tokenizer file found[^\n]{0,80}|Can't load (?:tokenizer|image processor|feature extractor"
        r"|processor|video "
        r"processor) for[^\n]{0,80}|does not appear to have a file named (?!config\.json)[^\n]{0,60}"
        r"|Couldn't instantiate the "
        r"backend tokenizer|Tokenizer class \w+ does not exist[^\n]{0,40}"
        r"|data did not match any variant of untagged enum \w+"
        r"|Unrecognized (?:processing|image processor|video processor|feature extractor)[^\n]{0,60}"
        r"|Can't instantiate a processor"
        r"|requires the (?:tiktoken|sentencepiece|protobuf|blobfile|mistral_common) library[^\n]{0,40}"
        r"|chat template is required|tokenizer has no (?:chat_template|vocab)[^\n]{0,60})",
        "the model's tokenizer or processor cannot be read: {why}",
        "is the file there (tokenizer.json, preprocessor_config.json, params.json for Mistral)? One that a newer "
        "Transformers wrote needs a newer image; --tokenizer, --tokenizer-mode",
        certain=False,
    ),
    Sign(
        "engine/expert-parallel",
        r"(?P<why>DeepEP error[^\n]{0,80}|NVSHMEM[^\n]{0,20}(?:ERROR|error|failed|abort)[^\n]{0,80}"
        r"|nvshmem\w*_init[^\n]{0,40}fail"
        r"|IBGDA[^\n]{0,60}(?:fail|error)|deep_ep[^\n]{0,40}(?:assert|timeout)[^\n]{0,60})",
        "the exchange between experts on several GPUs fails: {why}",
        "RDMA devices in the Pods' limits and IPC_LOCK, one image and one clock of starts for all ranks (a rank "
        "that loads "
        "longer makes the others time out); --all2all-backend allgather_reducescatter goes without DeepEP",
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/permission",
        r"PermissionError: \[Errno 13\] Permission denied: '(?P<path>[^']+)'|Read-only file "
        r"system: '(?P<ro>[^']+)'",
        "the engine may not write {path}{ro}",
        "mount an emptyDir there, or set HOME, HF_HOME and VLLM_CACHE_ROOT to a writable "
        "volume; fsGroup for claims",
    ),
    Sign(
        "engine/no-user",
        r"getpwuid\(\): uid not found: (?P<uid>\d+)|no such user[^\n]{0,40}uid",
        "the user {uid} that the container runs as is not in the image's passwd file",
        "set USER and HOME (and TORCHINDUCTOR_CACHE_DIR) to a name and a writable folder, or run as a user of "
        "the image",
    ),
    Sign(
        "engine/fork",
        r"Cannot re-initialize CUDA in forked subprocess",
        "CUDA was touched before the workers were forked",
        "set VLLM_WORKER_MULTIPROC_METHOD=spawn",
    ),
    Sign(
        "engine/ready-timeout",
        r"Timed out waiting for (?:new )?engine(?: core processes to start|s to send initial message)|Did not receive "
        r"response from front-end process",
        "the engine was not ready within VLLM_ENGINE_READY_TIMEOUT_S (600 s), and vLLM gave up by itself",
        "raise VLLM_ENGINE_READY_TIMEOUT_S to the start-up budget, or load faster",
    ),
    Sign(
        "engine/unsupported-gpu",
        r"(?:not supported for the current GPU|HIP error: invalid device function|"
        r"FlashAttention only supports|CUDA capability sm_\d+ is not compatible|"
        r"Bfloat16 is only supported on GPUs with compute capability|no kernel image is "
        r"available for execution on the device|compute capability[^\n]{0,60}(?:not "
        r"supported|at least))[^\n]{0,160}",
        "this GPU cannot run this model's format",
        "use --dtype half on older GPUs, another quantization, or a newer GPU",
    ),
    Sign(
        "engine/heads",
        r"must be divisible by tensor parallel size[^\n]{0,60}",
        "the tensor-parallel size does not divide the model's heads",
        "use a power of two that divides the heads; seawall plan",
    ),
    Sign(
        "engine/ranks",
        r"World size \(\d+\) is larger than the number of|required GPUs exceeds the total number of available GPUs"
        r"|Cannot provide a placement group|Waiting for creating a placement group of specs",
        "more ranks are asked for than the Pod has GPUs",
        "make the GPU limit equal to --tensor-parallel-size x --pipeline-parallel-size",
    ),
    Sign(
        "engine/unsupported-model",
        r"(?:Model architectures? \[[^\]]*\] (?:are|is) not supported|has no vLLM "
        r"implementation|model type `?[\w-]+`? but Transformers does not "
        r"recognize)[^\n]{0,160}",
        "this vLLM does not know the model's architecture",
        "pin a newer vLLM image",
    ),
    Sign(
        "engine/unsupported-model",
        r"Model architectures? \[[^\]]*\] failed to be inspected",
        "this vLLM cannot load its class for the model's architecture",
        "the first traceback above says why (a library that is missing or too old): pin a newer vLLM image",
        certain=False,
    ),
    Sign(
        "engine/cuda-fault",
        r"(?:CUDA|HIP) error: (?:an illegal memory access|unspecified launch failure|misaligned address|"
        r"device-side assert|an illegal instruction)[^\n]{0,80}|CUDA_ERROR_(?:ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION"
        r"|LAUNCH_FAILED"
        r"|MISALIGNED_ADDRESS|ASSERT|HARDWARE_STACK_ERROR)|cudaError(?:IllegalAddress|LaunchFailure|Assert"
        r"|MisalignedAddress)"
        r"|Memory access fault by GPU node|HSA_STATUS_ERROR_\w+",
        "a kernel on the GPU touched memory that is not its own: mostly a bug of a kernel, seldom the GPU",
        "another vLLM version or attention backend, --enforce-eager to see whether it is the graphs; when it moves "
        "with the node and not with the version: dmesg there for Xid, dcgmi diag -r 3",
        certain=False,
    ),
    Sign(
        "engine/remote-code",
        r"contains custom code which must be executed|requires you to execute the (?:configuration|modeling|model) file"
        r"|(?:pass the argument|set the option) `trust_remote_code=True`",
        "the model brings its own Python code, and vLLM was not told to trust it",
        "read that code; then add --trust-remote-code (engine.extraArgs) and pin the revision",
    ),
    Sign(
        "engine/bind-address",
        r"attempting to bind on address \('(?P<host>[^']*)', (?P<port>\d+)[^)]*\): permission denied",
        "the user that it runs as may not listen on port {port} (below 1024)",
        "another --port, with the container's port and the probes; the Service may keep its own",
    ),
    Sign(
        "engine/bind-address",
        r"(?:Errno 99|[Cc]annot assign requested address)[^\n]{0,160}",
        "it is told to listen on an address that the Pod does not have",
        "leave --host out (or 0.0.0.0, :: for IPv6); --data-parallel-address and --master-addr are the leader's own",
        certain=False,
    ),
    Sign(
        "engine/port-taken",
        r"(?:address already in use|\[Errno 98\])",
        "the port is taken by another process in the Pod or on the host network",
        "another --port, or no hostNetwork",
    ),
    Sign(
        "engine/host-memory",
        r"(?:Failed core proc\(s\): \{[^}\n]*: -9\b|"
        r"node running low on memory|Cannot allocate memory|DefaultCPUAllocator: can't allocate memory|std::bad_alloc)",
        "the host memory of the container ran out",
        "raise the memory limit; /dev/shm and KV offloading count into it",
    ),
    Sign(
        "weights/other-format",
        r"There is no module or parameter named '?(?P<name>[\w.]+)"
        r"|Following weights were not initialized from checkpoint"
        r"|Unexpected key\(s\) in state_dict",
        "the weight files are not those of the model that vLLM builds ({name})",
        "is the folder one model's, whole and unmixed? A newer vLLM may know the format; seawall pull verifies files",
        certain=False,
    ),
    Sign(
        "image/platform",
        r"exec (?P<program>/\S{1,120}): exec format error",
        "the image is for another CPU architecture: {program} does not run here",
        "choose nodes by kubernetes.io/arch, or an image for this one (arm64 on GB200, GH200 and Graviton)",
    ),
    Sign(
        "engine/import",
        r"(?:ModuleNotFoundError: No module named|ImportError: [^\n]{0,160}(?:undefined symbol"
        r"|cannot open shared object file|version `[^'\n]*' not found))[^\n]{0,120}",
        "a Python package of the image is missing or was built against another version",
        "use vLLM's own image unchanged, or install the package in a build of your own (not at start)",
    ),
    Sign(
        "engine/bad-config",
        r"validation errors? for \w*(?:Config|Args)\b(?:\n[^\n]{0,200}){0,3}?\n\s*Value error, (?P<why>[^\n\[]{5,240})"
        r"|(?P<quantization>Unknown quantization method: \S+"
        r"|Quantization method specified in the model config[^\n]{0,160})",
        "vLLM refuses its configuration: {why}{quantization}",
        "change what the message names; seawall lint and seawall plan check the same before",
    ),
    Sign(
        "engine/bad-config",
        r"(?:ValueError|AssertionError|NotImplementedError): "
        r"(?P<refusal>[^\n]{0,80}?(?:is not supported (?:for|by|with) this model|(?:is|are) not supported "
        r"(?:together )?with|should have the same|is not compatible with|cannot be used (?:with|together)"
        r"|is only supported (?:on|for|with)|is disabled but|is greater than max_|is not divisible by)[^\n]{0,160})",
        "vLLM refuses its configuration: {refusal}",
        "change what the message names; seawall lint and seawall plan check the same before",
        weight=80,
        certain=False,
    ),
    Sign(
        "gpu/not-visible",
        r"No platform detected, vLLM is running on UnspecifiedPlatform",
        "the container sees no GPU",
        "ask for nvidia.com/gpu in limits; is the device plugin running? kubectl -n kube-system get pods | grep nvidia",
        any_level=True,
    ),
    *AROUND,
    Sign(
        "engine/died",
        r"(?:EngineDeadError|Engine core initialization failed|Engine process failed to start|EngineCore "
        r"(?:encountered a fatal error|died unexpectedly|failed to start)"
        r"|The actor is dead because its worker process has died)"
        r"[^\n]{0,120}",
        "the engine process died; the first error above it says why",
        "kubectl logs --previous, read from the first ERROR on",
        weight=40,
        certain=False,
    ),
)


@dataclass(frozen=True)
class Said:
    """A sign that was found, with the line that shows it."""

    sign: Sign
    what: str
    line: str
    groups: dict[str, str] = field(default_factory=dict)
    """What the message names: `cuda`, `found`, ..."""


_QUIET = re.compile(r"(?:\([^)\n]{1,60}\) *)?(?:\[[^\]\n]{1,40}\] *)?(?:INFO|WARNING|DEBUG)\b")
"""How a line begins that vLLM logs below the level of an error."""


def read(text: str) -> Said | None:
    """The first sign in the table's order that the text shows; None when it shows none."""
    for sign in SIGNS:
        for m in re.finditer(sign.pattern, text, re.IGNORECASE | re.MULTILINE):
            start = text.rfind("\n", 0, m.start()) + 1
            if not sign.any_level and _QUIET.match(text, start):
                continue
            return _said(sign, m, text)
    return None


def _said(sign: Sign, m: re.Match[str], text: str) -> Said:
    start, end = text.rfind("\n", 0, m.start()) + 1, text.find("\n", m.end())
    line = text[start : end if end >= 0 else len(text)].strip()
    groups = {k: (v or "").strip() for k, v in m.groupdict().items()}
    what = re.sub(r" \(Xid \)", "", sign.what.format(**groups)).strip()
    return Said(sign, redacted(what), redacted(" ".join(line.split())[:240]), groups)


def read_alive(text: str) -> Said | None:
    """The last sign of what a running program asks for in vain; None when its log shows none."""
    found = [
        (m.start(), sign, m)
        for sign in SIGNS
        if sign.alive
        for m in re.finditer(sign.pattern, text, re.IGNORECASE | re.MULTILINE)
    ]
    if not found:
        return None
    _, sign, m = max(found, key=lambda f: f[0])
    return _said(sign, m, text)


def redacted(line: str) -> str:
    """Without tokens that a log may hold."""
    line = re.sub(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}", r"\1 ...", line)
    return re.sub(
        r"\b(hf_|sk-|ghp_|AKIA)[A-Za-z0-9_-]{6,}|(?<=[?&])(token|X-Amz-Signature)=[^&\s]+", r"\1...", line
    )
