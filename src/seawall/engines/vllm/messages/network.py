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
        r"|failed)|memlock)",
        "NCCL may not pin memory for InfiniBand: the container's limit of locked memory is too low",
        "add IPC_LOCK to the container's capabilities and raise memlock in the node's runtime; NCCL_IB_DISABLE=1 goes "
        "without InfiniBand",
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
