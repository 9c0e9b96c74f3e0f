"""What the ranks of one replica say when they do not find, or do not hear, each other.

A table only; the texts are those of PyTorch, Ray, NCCL and NIXL.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.network import NETWORK
from seawall.engines.vllm.messages.sign import Sign

RANKS: tuple[Sign, ...] = (
    Sign(
        "engine/rendezvous",
        r"Every node should have a unique IP address",
        "two of Ray's nodes have told it the same address for vLLM",
        "VLLM_HOST_IP=the Pod's own IP (fieldRef: status.podIP) in every Pod, not one value for all, and not "
        "from an image "
        "or a ConfigMap; without hostNetwork on one node",
    ),
    Sign(
        "engine/expert-parallel",
        r"(?P<why>Fault detected in EP all2all|all2all[^\n]{0,60}(?:timed out|timeout)|DeepEPv?2? requires[^\n]{0,60}"
        r"|mori currently only support arch[^\n]{0,40}|requires NCCL GIN)",
        "the exchange between experts on several GPUs fails: {why}",
        "--all2all-backend allgather_reducescatter goes without it; else RDMA devices with IBGDA in the Pods' limits, "
        "IPC_LOCK, GPUs and NICs that this backend is made for; is the rank that timed out alive?",
        certain=False,
    ),
    Sign(
        "engine/rendezvous",
        r"network addresses? of \((?P<host>[\w.-]+), \d+\) cannot be retrieved|gai error: -\d+[^\n]{0,60}"
        r"|failed to resolve (?:the )?(?:master|leader|rendezvous)[^\n]{0,80}|(?:master|leader|rendezvous)[^\n]{0,80}"
        r"(?:Name or service not known|Temporary failure in name resolution)",
        "the name of the replica's first rank is not known to the cluster's DNS: {host}",
        "a headless Service (clusterIP: None) with publishNotReadyAddresses: true whose name is the Pods' subdomain "
        "(serviceName) and whose selector fits them; the address in the leader's namespace; a Pod that is not ready "
        "has no name otherwise",
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/worker-silent",
        r"RayChannelError|Error pushing mutable object[^\n]{0,120}|(?:raylet"
        r"|object_manager)[^\n]{0,160}Channel closed",
        "Ray's channel between the ranks broke: one of its workers or a node's raylet died, or versions differ",
        "the rank and raylet that went first (ray list nodes, their logs in /tmp/ray/session_latest/logs); one "
        "image on "
        "all nodes; a newer Ray; VLLM_USE_RAY_COMPILED_DAG_CHANNEL_TYPE=shm; or without Ray: "
        "--distributed-executor-backend mp with --nnodes",
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/rendezvous",
        r"Unable to find address for: (?P<name>[\w.-]+)|ifa != nullptr"
        r"|[Nn]o network interface[^\n]{0,40}(?:found|match)",
        "the network interface that is named for the ranks ({name}) is not in the Pod",
        "GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME and TP_SOCKET_IFNAME to what `ip addr` shows in that Pod (mostly "
        "eth0; with "
        "hostNetwork the node's), or leave them out",
    ),
    Sign(
        "engine/rendezvous",
        r"environment variable (?P<name>MASTER_ADDR|MASTER_PORT|RANK|WORLD_SIZE) expected, but not set",
        "a rank is started without {name}, which whoever starts ranks from outside has to set",
        "leave --distributed-executor-backend external_launcher out (torchrun sets these variables, vLLM alone "
        "does not); "
        "several nodes: --nnodes, --node-rank, --master-addr",
    ),
    Sign(
        "engine/rendezvous",
        r"Gloo connectFullMesh failed[^\n]{0,160}",
        "two ranks do not reach each other over the address that each tells of itself (Gloo)",
        "GLOO_SOCKET_IFNAME=the Pod network's interface and VLLM_HOST_IP=status.podIP in all Pods; the host's "
        "name has to "
        "lead to that address (/etc/hosts); a NetworkPolicy that lets all ports of the replica's Pods through",
        certain=False,
    ),
    Sign(
        "engine/worker-silent",
        r"gloo/transport/[^\n]{0,80}(?P<why>Timed out waiting[^\n]{0,40}|Connection (?:closed|reset) by peer)"
        r"|Barrier (?:departure )?timed out after (?P<s>[\d.]+) seconds",
        "another rank of the replica is gone, or does not come along ({why}{s})",
        "the rank that went first, or that logs last, has the cause: kubectl logs of all Pods of the replica, "
        "--previous; "
        "when it only loads longer: the same disk and cache for all",
        weight=78,
        certain=False,
    ),
    Sign(
        "engine/rendezvous",
        r"(?:DistNetworkError(?![^\n]*EADDRINUSE)|DistStoreError"
        r"|Could not find any running Ray instance"
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
        "engine/worker-silent",
        r"RayChannelTimeoutError|Timed out waiting for object available to read|GetTimeoutError: Get timed out"
        r"|RayCgraph\w*Timeout",
        "a rank of the replica gave Ray no answer in time (300 s and less): its step is long (a first compile, a long "
        "prefill), or it hangs",
        "RAY_CGRAPH_get_timeout=1800 in the env of all its Pods (older: RAY_DAG_...) where a step is only long; "
        "else the "
        "rank that logs last: a collective that hangs (NCCL_DEBUG=INFO); --distributed-executor-backend mp does "
        "without "
        "Ray",
        certain=False,
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
        r"Waiting for creating a placement group[^\n]{0,80}specs=\[[^\n]{0,300}'node:(?P<ip>[\w.:]+)'"
        r"|fulfill resource request \{'node:(?P<node>[\w.:]+)'",
        "Ray finds no place for the replica's ranks: one of them has to be on the node {ip}{node}, with a free GPU",
        "VLLM_HOST_IP in each Pod has to be the address under which Ray knows it (status.podIP; ray status "
        "lists them); have "
        "all nodes joined, and is another placement group holding the GPUs?",
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/ranks",
        r"Cannot provide a placement group|Waiting for creating a placement group of specs"
        r"|is not included in a placement group[^\n]{0,200}",
        "Ray has not as many free GPUs as the replica asks for (or not where it asks for them)",
        "ray status: are all its nodes there, and who holds their GPUs (an old placement group)? The GPU limits "
        "of all Pods "
        "together have to be --tensor-parallel-size x --pipeline-parallel-size; one node: "
        "--distributed-executor-backend mp; "
        "VLLM_HOST_IP has to be the address under which Ray knows the node",
        certain=False,
    ),
    Sign(
        "engine/ray-no-gpu",
        r"Current node has no \w+ available|Ray does not allocate any GPUs on the driver node",
        "Ray runs vLLM's own process on a node without a free GPU",
        "ask for the GPU in the deployment (ray_actor_options: {{num_gpus: 1}} or a placement group), or start "
        "it on a "
        "worker; a head without GPUs cannot run it; where one node has all GPUs: --distributed-executor-backend mp",
    ),
    *NETWORK,
    Sign(
        "engine/nccl",
        r"Watchdog caught collective operation timeout(?:[^\n]{0,60}OpType=(?P<op>\w+))?",
        "the ranks of a replica waited for each other until NCCL gave up ({op})",
        "the rank that did not come: the one that logs last, a rank that died or lost its GPU (Xid); if all live: "
        "--enforce-eager (CUDA graphs of several communicators can block each other) and "
        "--disable-custom-all-reduce tell "
        "which; NCCL_DEBUG=INFO; NCCL_P2P_DISABLE=1 where the direct way is shut; a newer vLLM image",
        certain=False,
    ),
    Sign(
        "engine/nccl",
        r"(?:NCCL "
        r"error[^\n]{0,120}|ncclSystemError[^\n]{0,120}|nccl(?:Internal|Remote)Error[^\n]{0,60}|Watchdog "
        r"caught collective operation timeout)",
        "the GPUs of a replica cannot talk to each other (NCCL)",
        "NCCL_DEBUG=INFO: its first WARN names the cause. Without one: (1) a rank died or hangs: the one that "
        "logs last; (2) "
        "the direct way between GPUs on PCIe or in a virtual machine: NCCL_P2P_DISABLE=1 and "
        "--disable-custom-all-reduce; "
        "(3) several nodes: NCCL_SOCKET_IFNAME, ports; (4) /dev/shm; else the driver (nvidia-smi topo -m)",
        certain=False,
    ),
    Sign(
        "engine/nixl",
        r"(?:nixl|connector)[^\n]{0,80}(?:\n[^\n]{0,200}){1,6}?KeyError: '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}'",
        "the connector is asked for a KV cache of an engine or request that it has not met: the two sides did "
        "not shake "
        "hands over the address that one gave",
        "VLLM_NIXL_SIDE_CHANNEL_HOST=the Pod's own IP (status.podIP) on both sides, and "
        "VLLM_NIXL_SIDE_CHANNEL_PORT open "
        "between them; one image on both; did the other side restart?",
        certain=False,
    ),
    Sign(
        "engine/nixl",
        r"NIXL_ERR_\w+|nixlBackendError|NIXL is not available|nixl_agent[^\n]{0,60}failed",
        "the KV cache cannot be handed over between prefill and decode (NIXL)",
        "one image, the same tensor-parallel size (TP) and block size on both sides? The first UCX line above "
        "says which "
        "transport is missing: IPC_LOCK in capabilities, an RDMA device in limits "
        "(or UCX_TLS without it), UCX_NET_DEVICES",
        certain=False,
        any_level=True,
    ),
)
"""In this order: an earlier sign explains a later one."""
