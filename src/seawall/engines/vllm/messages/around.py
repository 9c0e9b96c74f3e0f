"""What logs say of that which stands around an engine: the cluster's rights, the node's toolkit and devices, services
that it needs, limits of its container. Routers, device plugins and Ray's heads beside it say the same.

A table only; the texts are those of Kubernetes' clients, NVIDIA's toolkit, ROCm, Ray, Dynamo, LMCache and Mooncake.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

AROUND: tuple[Sign, ...] = (
    Sign(
        "cluster/rights",
        r"is forbidden: User \\?\"(?:system:serviceaccount:(?P<account>[\w.-]+:[\w.-]+)|(?P<user>[^\"\\]{1,80}))\\?\" "
        r"cannot (?P<verb>\w+) resource \\?\"(?P<kind>[\w./-]+)\\?\"",
        "the account {account}{user} that it runs as may not {verb} {kind}: it finds nothing of what it works on",
        "give it a Role and a RoleBinding in that namespace, or name the right serviceAccountName: kubectl auth can-i "
        "VERB KIND --as=system:serviceaccount:NAMESPACE:NAME",
        weight=92,
        any_level=True,
        alive=True,
    ),
    Sign(
        "cluster/no-kind",
        r"no matches for kind \\?\"(?P<kind>\w+)\\?\" in version \\?\"(?P<version>[\w./-]+)\\?\""
        r"|(?:CRD|CustomResourceDefinition|resource) \\?\"?(?P<crd>[a-z]+\.[\w.-]+\.[\w.-]+)\\?\"? (?:is )?not "
        r"(?:found|installed|established)",
        "a program works on a kind of object that the cluster does not serve: {kind} {version}{crd}",
        "install or update its CustomResourceDefinitions (those of the program's own release: kubectl get crds, "
        "kubectl "
        "api-resources), or an older program for the version that is there",
        weight=92,
        any_level=True,
        alive=True,
    ),
    Sign(
        "gpu/toolkit",
        r"Incompatible (?:strategy|platform) detected|invalid device discovery strategy"
        r"|nvidia-container-cli(?:\.real)?: (?:ldcache error|mount error|container error|detection error|permission "
        r"error|input error)[^\n]{0,120}|nvidia-container-runtime\S*: (?:no such file"
        r"|executable file not found)[^\n]{0,80}"
        r"|failed to discover GPU vendor from CDI|could not select device driver"
        r"|failed to get (?:driver|NVIDIA) (?:root|libraries)[^\n]{0,60}",
        "NVIDIA's container toolkit on the node does not work: it cannot put the GPU into a container",
        "nvidia-ctk runtime configure --runtime=containerd (--set-as-default) and restart it, or let the GPU operator "
        "do it; a hook that dies: update the toolkit, CDI mode instead of legacy",
        weight=93,
        any_level=True,
    ),
    Sign(
        "gpu/not-visible",
        r"No HIP GPUs are available|hipErrorNoDevice|no ROCm-capable device is detected|ROCk module is NOT loaded"
        r"|Unable to open /dev/kfd|Could not initialize Tensile host|/dev/kfd[^\n]{0,60}(?:Permission denied"
        r"|No such file)",
        "the container sees no AMD GPU",
        "ask for amd.com/gpu in limits (its device plugin gives /dev/kfd and /dev/dri); a user that is not root needs "
        "the groups video and render (securityContext.supplementalGroups)",
    ),
    Sign(
        "gpu/not-visible",
        r"No XPU devices? (?:are|is) (?:available|found)|synDeviceAcquire[^\n]{0,60}fail|Device acquire failed"
        r"|Unable to initialize backend '?(?:tpu|TPU)|TPU initialization failed|No Neuron devices? found"
        r"|nrt_init failed"
        r"|open\(/dev/(?:accel|vfio)\S*\)",
        "the container sees no accelerator, or another process holds it",
        "ask for the device in limits (gpu.intel.com/i915, habana.ai/gaudi, google.com/tpu, "
        "aws.amazon.com/neuron); is "
        "its plugin running, and was the process before it ended?",
    ),
    Sign(
        "engine/ray-no-gpu",
        r"replicas that have taken more than \d+s to be scheduled[^\n]{0,200}Resources required for each replica: "
        r"(?P<needs>[^\n]{1,200}?), total resources available: (?P<has>[^\n]{1,200}?)\. "
        r"|No available node types can fulfill resource request[s]? (?P<asked>[^\n]{1,160})"
        r"|The following resource request cannot be scheduled right now: (?P<now>[^\n]{1,160})"
        r"|Not enough resources to allocate [^\n]{0,160}",
        "Ray has no node with what a replica asks for: {needs}{asked}{now} {has}",
        "ray status: GPUs of the worker group, accelerator_type as Ray calls it, and a worker group that may grow; "
        "are its Pods placed?",
        weight=88,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?:[Ff]ailed to connect to|[Cc]annot connect to|[Cc]ould not connect to|[Uu]nable to connect to"
        r"|[Ee]rror connecting to|[Cc]onnection to) "
        r"(?:the )?(?P<peer>(?:NATS|[Ee]tcd|Redis|redis|Kafka|Mooncake|mooncake|LMCache|Valkey|PostgreSQL)\b"
        r"(?: server| master| store)?)[^\n]{0,200}?(?:(?P<address>[\w.-]+:\d{2,5})|$)",
        "a service that it needs cannot be reached: {peer} {address}",
        "is it up, and is its address right in this namespace (localhost is the Pod itself)? kubectl get "
        "svc,endpointslices; a NetworkPolicy or the cloud's security group between nodes (NATS 4222, etcd 2379)?",
        weight=80,
        certain=False,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?:[Cc]heck|[Vv]erify|[Ii]s) (?:the |that )?(?P<peer>[Ee]tcd|NATS|nats|[Rr]edis|[Cc]onsul"
        r"|[Kk]afka)(?: server)?"
        r"[^\n]{0,40}? (?:status|running|reachable|up)[^\n]{0,20}?(?P<address>(?:\w+://)?[\w.-]+:\d{2,5})?\b",
        "a service that it needs cannot be reached: {peer} {address}",
        "is it up, and is its address right in this namespace (localhost is the Pod itself)? kubectl get "
        "svc,endpointslices; its address comes from the environment (ETCD_ENDPOINTS, NATS_SERVER) or the chart",
        weight=80,
        certain=False,
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?P<peer>etcd|consul|redis|nats)[^\n]{0,80}(?:lease|session|keep ?alive|heartbeat)[^\n]{0,60}(?:lost"
        r"|expired|not found"
        r"|failed|revoked)|(?:lease|keep ?alive)[^\n]{0,60}(?:lost|expired|not found|revoked)[^\n]{0,80}(?P<by>etcd"
        r"|consul)",
        "its lease with {peer}{by} was lost, so it is no member any more and ends: that service was slow or away "
        "for a "
        "while",
        "is {peer}{by} well (its own Pods, restarts, CPU in requests, a fast disk: etcd writes to disk)? It is at "
        "fault, "
        "not the engine; newer Dynamo finds its members through Kubernetes (no etcd)",
        weight=80,
        certain=False,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?:Failed to (?:scrape|fetch|reach|query)|[Cc]annot connect to host"
        r"|Failed to connect to)[^\n]{0,60}?(?:https?://)?"
        r"(?P<peer>(?!localhost|127\.)[\w.-]+:\d{2,5})[^\n]{0,240}?(?P<why>Connection refused|Connect call failed"
        r"|timed out"
        r"|No route to host|Max retries exceeded|Name or service not known)",
        "a router or client beside the engines cannot reach {peer} ({why})",
        "is that an engine's address and port, is it up (kubectl get pods -o wide, svc, endpointslices), and does a "
        "NetworkPolicy let it in?",
        weight=70,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"nats[\w.]*errors\.(?P<nats>ServiceUnavailableError|NoRespondersError|NoStreamResponseError)"
        r"|JetStream (?:is )?not (?:enabled|available)",
        "the NATS server is reached and has no JetStream, which is asked for ({nats})",
        "start NATS with it (nats-server -js; in its chart config.jetstream.enabled=true) and a volume for it; "
        "newer Dynamo "
        "does without NATS",
        weight=80,
        certain=False,
    ),
    Sign(
        "engine/peer-unreachable",
        r"\b(?P<peer>nats|redis|valkey|etcd3?|pymongo|kafka|psycopg2?"
        r"|grpc)\.(?:\w{1,40}\.){0,5}(?:\w{0,40}(?:Connection|Unavailable|NoServers"
        r"|Timeout)\w{0,40})(?=:)[^\n]{0,200}",
        "a service that it needs cannot be reached: {peer}",
        "is it up, and is its address right in this namespace (localhost is the Pod itself)? kubectl get "
        "svc,endpointslices; does a NetworkPolicy let the engine out to it?",
        weight=80,
        certain=False,
    ),
    Sign(
        "engine/peer-unreachable",
        r"(?:Get|Post|Put) \\?\"https?://(?!localhost|127\."
        r"|\[?::1)(?P<peer>[\w.-]+(?::\d+)?)[^\n\"]{0,200}\"?: dial tcp[^\n]{0,60}: "
        r"(?P<why>[^\n\"]{0,80}(?:no such host|connection refused|i/o timeout|network is unreachable"
        r"|no route to host))",
        "a service that it asks cannot be reached: {peer}",
        "kubectl get svc,endpointslices for that name, in that namespace; does a NetworkPolicy let it out?",
        weight=80,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"gaierror: \[Errno -?\d+\] [A-Z][\w ,]{5,60}(?:: (?P<peer>[\w.-]+))?|[Ff]ailed to resolve (?:host "
        r"|hostname )?"
        r"'?(?P<host>[\w.-]+)",
        "a name that it was given is not known to the cluster's DNS: {peer}{host}",
        "the leader's or service's full name in this namespace, and its headless Service (with "
        "publishNotReadyAddresses "
        "for ranks that find each other before they are ready): kubectl get svc",
        weight=80,
        certain=False,
    ),
    Sign(
        "weights/bucket",
        r"Could not (?:send|receive|create) runai_(?:request|response|streamer)[^\n]{0,60}(?P<why>b?'[^'\n]{2,80}')"
        r"|libstreamer[^\n]{0,40}(?P<said>b?'[^'\n]{2,80}')|(?P<missing>NoSuchBucket|NoSuchKey"
        r"|NotFound: 404 GET \S{1,120})"
        r"|An error occurred \((?P<code>NoSuchBucket|404|NoSuchKey|301|PermanentRedirect)\)",
        "the weights cannot be read from the bucket: {why}{said}{missing}{code}",
        "the bucket's and the folder's name, its region and endpoint (AWS_ENDPOINT_URL, "
        "RUNAI_STREAMER_S3_ENDPOINT) and "
        "the Pod's credentials: list it from a Pod with the same service account",
        certain=False,
    ),
    Sign(
        "engine/nccl",
        r"ProcessGroupNCCL's watchdog got stuck|Heartbeat monitor timed out|NCCL (?:watchdog|communicator)[^\n]{0,80}"
        r"(?:timeout|timed out|aborted)|DistBackendError[^\n]{0,120}|RCCL error[^\n]{0,80}",
        "the GPUs of a replica do not talk to each other any more (NCCL): one rank hangs or is gone",
        "(1) the rank that logs last before it names the fault; Xid on its node; (2) at the first collective "
        "already: the direct "
        "way between GPUs, NCCL_P2P_DISABLE=1 and --disable-custom-all-reduce; NCCL_DEBUG=INFO; the driver",
        certain=False,
        any_level=True,
    ),
)
"""Behind the other tables, which explain more where both match."""
