"""What NCCL and its plug-ins say when the GPUs of a replica cannot talk to each other: the first warning is the cause.

A table only; the texts are those of NCCL 2.18 to 2.28 and its OFI and InfiniBand transports.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

_ID = "engine/nccl"
NETWORK: tuple[Sign, ...] = (
    Sign(
        _ID,
        r"nvls\.cc:\d+[^\n]{0,20}NCCL WARN|NVLS[^\n]{0,60}(?:failed|not supported|unavailable)"
        r"|[Mm]ulticast[^\n]{0,60}(?:failed|not supported|unavailable)|CUDASymmetricMemory[^\n]{0,120}",
        "NCCL cannot use NVLink SHARP (NVLS, multicast): the container lacks what the node's fabric manager offers",
        "NCCL_NVLS_ENABLE=0 and TORCH_SYMM_MEM_DISABLE_MULTICAST=1; or the fabric manager running and "
        "/dev/nvidia-caps in "
        "the container",
        certain=False,
        any_level=True,
    ),
    Sign(
        _ID,
        r"custom_all_reduce\.cuh:\d+ '(?P<why>[^'\n]{2,60})'",
        "vLLM's own all-reduce does not work between these GPUs ({why}): no peer access, a virtual machine, or "
        "memory that "
        "cannot be shared",
        "--disable-custom-all-reduce; without PYTORCH_CUDA_ALLOC_CONF=expandable_segments",
        certain=False,
        any_level=True,
    ),
    Sign(
        _ID,
        r"NCCL WARN[^\n]{0,80}(?:ibv_(?:reg_mr|create_cq|create_qp)\w*[^\n]{0,40}(?:Cannot allocate memory"
        r"|failed)|memlock)"
        r"|(?:libfabric|\bEFA\b|\bibv_\w{1,40}|\brdma|\bUCX\b|\buct_|mlx5)[^\n]{0,120}(?:\(-12\)"
        r"|Cannot allocate memory)"
        r"|Failure to post internal receive buffers|max locked memory",
        "the network card may not pin memory (InfiniBand, RoCE, EFA): the container's limit of locked memory "
        "(memlock) is too low",
        "add IPC_LOCK to the container's capabilities and raise memlock (ulimit -l) in the node's runtime "
        "(LimitMEMLOCK=infinity); NCCL_IB_DISABLE=1 goes without InfiniBand",
        certain=False,
        any_level=True,
    ),
    Sign(
        _ID,
        r"NCCL WARN[^\n]{0,60}(?:[Nn]o (?:socket )?interface found|Bootstrap : no socket)",
        "NCCL finds no network interface of the name that it was given (NCCL_SOCKET_IFNAME)",
        "ip -br addr in the Pod; leave NCCL_SOCKET_IFNAME out, or set it to eth0 or to ^lo,docker",
        any_level=True,
    ),
    Sign(
        _ID,
        r"NCCL WARN[^\n]{0,80}(?:peer access|P2P|peer-to-peer|Missing \"iommu)",
        "NCCL's direct way between the GPUs does not work: PCIe access control (ACS, IOMMU) or a virtual machine "
        "is between",
        "NCCL_P2P_DISABLE=1 and --disable-custom-all-reduce; or switch ACS off on the node",
        certain=False,
        any_level=True,
    ),
    Sign(
        _ID,
        r"(?P<why>ncclIbRoceGetVersionNum|ibv_(?:modify_qp|query_gid)[^\n]{0,80}(?:fail|error)"
        r"|Got completion[^\n]{0,80}(?:status=12\b|error 12\b|vendor err 129)|Failed to modify QP to RT[RS]"
        r"|[Nn]o suitable GID|[Ii]nvalid GID|GID (?:index|table)[^\n]{0,60}(?:not found|invalid|empty|mismatch))",
        "two RDMA cards of the replica do not reach each other (RoCE, {why}): mostly another entry of the card's "
        "address "
        "table (GID) than the network routes, or a card that is not of this network",
        "NCCL_IB_GID_INDEX to the RoCE v2 entry with the Pod network's address (show_gids; often 3), NCCL_IB_HCA to "
        "the cards that carry the network; Mooncake: MC_GID_INDEX and device_name, UCX: UCX_IB_GID_INDEX and "
        "UCX_NET_DEVICES; NCCL 2.26 and later choose in containers; NCCL_IB_DISABLE=1 tells whether it is this",
        certain=False,
        any_level=True,
    ),
    Sign(
        _ID,
        r"(?:NET/OFI|nccl_net_ofi|libfabric)[^\n]{0,160}(?:[Ff]ail|[Ee]rror|[Uu]nable|Invalid argument|not found)"
        r"[^\n]{0,80}|fi_(?:getinfo|endpoint|domain|mr_reg\w*)[^\n]{0,60}(?:failed|No data available|Invalid)",
        "NCCL's way over EFA fails (libfabric): the cards are not in the container, or its plug-in and libfabric "
        "are not "
        "of one release",
        "all of the node's vpc.amazonaws.com/efa in limits beside hugepages-2Mi and IPC_LOCK; aws-ofi-nccl and "
        "libfabric "
        "of one EFA installer in the image (fi_info -p efa shows the cards, -c FI_HMEM whether they reach the GPU); a "
        "security group that lets itself in and out",
        certain=False,
        any_level=True,
    ),
    Sign(
        _ID,
        r"NCCL WARN[^\n]{0,60}(?:Got completion|NET/IB|NET/OFI|[Cc]onnect to [\d.<>]+ failed|socketProgress"
        r"|socketPollConnect"
        r"|Call to (?:connect|recv)[^\n]{0,40}failed)[^\n]{0,120}",
        "the network between the nodes of a replica fails (NCCL): a port, a security group, an interface or RDMA",
        "all ports between the Pods open? NCCL_SOCKET_IFNAME; NCCL_IB_DISABLE=1 to see whether it is RDMA; EFA: "
        "its plug-in "
        "in the image and vpc.amazonaws.com/efa in limits",
        certain=False,
        any_level=True,
    ),
    Sign(
        _ID,
        r"NCCL (?:WARN )?(?:version mismatch|Mismatched)[^\n]{0,80}|NCCL WARN[^\n]{0,60}(?:mismatch"
        r"|Duplicate GPU detected)"
        r"[^\n]{0,100}",
        "the ranks of a replica do not agree (NCCL): another version, or two ranks on one GPU",
        "one image for all its Pods; each rank its own GPU (CUDA_VISIBLE_DEVICES, time-slicing gives one GPU twice)",
        certain=False,
        any_level=True,
    ),
)
"""Before NCCL's own error in `ranks.py`, which only says that there was one."""
