"""What a GPU's runtime answers when a call fails, kind by kind: the messages of CUDA, HIP, Level Zero and XLA "
"are a list
that ends, whoever prints them (PyTorch, Triton, NCCL, FlashInfer).

A table only. Memory that runs out is `memory.py`, devices that are not there are `devices.py`.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

_OF = (
    r"(?:(?:CUDA|HIP|XPU|NPU)(?: driver| runtime)? (?:error|failure)[^:\n]{0,24}|CUDART error|HIPRT error"
    r"|Triton Error \[\w+\]"
    r"|Error \d{1,3}|[Cc]uda(?:Get\w+)? failed with error|CUDA_CHECK[^\n]{0,40}|cu[A-Z]\w+ failed[^:\n]{0,24}): ?'?"
)
"""Before the runtime's own words."""
FAULTS: tuple[Sign, ...] = (
    Sign(
        "gpu/not-visible",
        _OF + r"(?P<why>invalid device ordinal)|CUDA_ERROR_INVALID_DEVICE|cudaErrorInvalidDevice\b"
        r"|(?P<number>[Pp]hysical device \S+ for logical device \S+ is not visible[^\n]{0,60}"
        r"|device_id \S+ is out of range[^\n]{0,60}|visible device ordinal \S+ is out of range[^\n]{0,60})",
        "a rank asks for a GPU by a number that the container does not have: {why}{number}",
        "as many GPUs in limits as --tensor-parallel-size x --pipeline-parallel-size x local data parallel "
        "ranks; leave "
        "CUDA_VISIBLE_DEVICES (HIP_, ROCR_, ZE_AFFINITY_MASK) out, or count in it from 0 as in the container: "
        "nvidia-smi "
        "-L there",
        certain=False,
    ),
    Sign(
        "gpu/driver-fails",
        _OF + r"(?:unknown error|initialization error|OS call failed|driver shutting down)"
        r"|CUDA unknown error|cudaErrorUnknown\b|cudaErrorInitializationError|CUDA_ERROR_(?:UNKNOWN|NOT_INITIALIZED)"
        r"|CUDA initialization: Unexpected error",
        "the driver does not let CUDA begin in this container, although the GPU is there",
        "(1) the node: nvidia-smi there, dmesg for Xid, modprobe nvidia_uvm, a reboot after an update of the "
        "driver; (2) "
        "the container: all of /dev/nvidia*, nvidia-uvm too (the device plugin and NVIDIA's runtime give them), no "
        "CUDA_VISIBLE_DEVICES that is wrong; (3) a process that touched CUDA before it forked: "
        "VLLM_WORKER_MULTIPROC_METHOD=spawn. A Pod with nvidia-smi and a CUDA sample on that node tells which",
        certain=False,
    ),
    Sign(
        "engine/no-peer-access",
        r"peer access (?:is not supported|has not been enabled)[^\n]{0,60}|cudaErrorPeerAccess\w+"
        r"|CUDA_ERROR_PEER_ACCESS\w+|can'?t (?:access|use) peer[^\n]{0,60}|P2P[^\n]{0,30}(?:not supported"
        r"|unsupported)",
        "the GPUs of the replica cannot read each other's memory, and one of its kernels takes that for granted",
        "--disable-custom-all-reduce, VLLM_ALLREDUCE_USE_SYMM_MEM=0 and NCCL_P2P_DISABLE=1; nvidia-smi topo -p2p "
        "r shows "
        "which pairs can",
        certain=False,
    ),
    Sign(
        "engine/cuda-graphs",
        r"not permitted when stream is capturing|previous error during capture|cudaErrorStreamCapture\w+"
        r"|CUDA_ERROR_STREAM_CAPTURE\w+|legacy stream depend on a capturing|hipErrorStreamCapture\w+"
        r"|(?:graph|capture)[^\n]{0,40}(?:captured|capturing)[^\n]{0,40}(?:not allowed|unjoined|invalidated)",
        "a kernel or a library does something that may not be done while CUDA graphs are captured (an allocation, a "
        "wait, a first compile)",
        '--compilation-config \'{{"cudagraph_mode": "PIECEWISE"}}\' first, --enforce-eager to see that it is '
        "this; the "
        "error above it, if there is one, is the cause; a newer vLLM image",
        certain=False,
    ),
    Sign(
        "engine/unsupported-gpu",
        _OF
        + r"(?P<why>operation not supported|API call is not supported[^\n]{0,40})|CUDA_ERROR_NOT_SUPPORTED"
        r"|cudaErrorNotSupported|cudaErrorCallRequiresNewerDriver",
        "the driver refuses a call on this GPU: mostly virtual memory, memory shared between processes or peer "
        "access on a "
        "vGPU, a MIG slice, WSL or under a library that shares GPUs",
        "take expandable_segments:True out of PYTORCH_CUDA_ALLOC_CONF and start without --enable-sleep-mode; "
        "NCCL_CUMEM_ENABLE=0, --disable-custom-all-reduce; a vGPU profile with unified memory; else a newer driver",
        certain=False,
    ),
    Sign(
        "gpu/busy",
        r"MPS (?:client|server|daemon)[^\n]{0,60}(?:fail|not ready|error|terminated|abort)[^\n]{0,40}"
        r"|cudaErrorMps\w+|CUDA_ERROR_MPS_\w+",
        "NVIDIA's MPS on the node does not take this process in: its daemon is not up, or full, or another "
        "client broke it",
        "the MPS daemon's Pod (device plugin with sharing: mps) and its log on that node; restart it and delete "
        "the Pods "
        "that share this GPU; hostIPC and /tmp/nvidia-mps mounted where the daemon runs on the host",
        certain=False,
    ),
    Sign(
        "engine/kernel",
        r"(?P<why>"
        + _OF
        + r"(?:invalid argument|invalid configuration argument|too many resources requested for launch"
        r"|invalid resource handle|named symbol not found|invalid texture|invalid pitch"
        r"|the launch timed out[^\n]{0,30}"
        r"|invalid value[^\n]{0,30}|shared object initialization failed|invalid device context|context is destroyed))"
        r"|CUDA_ERROR_(?:INVALID_VALUE|LAUNCH_OUT_OF_RESOURCES|INVALID_HANDLE|INVALID_CONTEXT|LAUNCH_TIMEOUT)"
        r"|cudaErrorInvalid(?:Value|Configuration|ResourceHandle)",
        "a kernel was called with sizes, or in a place, that the GPU does not take ({why}): a bug of a kernel "
        "for this "
        "shape or this GPU",
        "another backend of that part (--attention-backend, --moe-backend, --linear-backend); smaller "
        "--max-num-batched-tokens and --max-num-seqs; --enforce-eager tells whether it is the graphs; another "
        "vLLM image, "
        "newer first",
        weight=85,
        certain=False,
    ),
    Sign(
        "engine/cuda-fault",
        _OF
        + r"(?:an illegal memory access|invalid program counter|invalid address space|hardware stack error"
        r"|unspecified launch failure|misaligned address|"
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
        "engine/cuda-library",
        r"(?P<status>(?:CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_(?!ALLOC_FAILED)\w+)",
        "a CUDA library failed ({status}): another version of it than PyTorch's is found first, or the GPU's "
        "memory is full",
        "take other CUDA folders out of LD_LIBRARY_PATH; a lower --gpu-memory-utilization leaves it room; seldom "
        "the GPU",
        certain=False,
    ),
    Sign(
        "gpu/lost",
        r"UR_RESULT_ERROR_DEVICE_LOST|ZE_RESULT_ERROR_DEVICE_LOST|hipErrorGraphicsContextLost|SUSPECT REMOTE ERROR"
        r"|HCCL[^\n]{0,60}device (?:is )?lost|DEVICE_LOST",
        "the driver gave up on the GPU while it worked (device lost): a hang that it reset, or a fault of the device",
        "dmesg on the node; a newer driver and compute runtime; another vLLM image; does it move with the node? "
        "Then the "
        "GPU",
        certain=False,
    ),
    Sign(
        "engine/kernel",
        r"(?:UR|ZE)_RESULT_ERROR_(?P<why>\w+)",
        "Intel's runtime refuses a kernel or a call (Level Zero: {why})",
        "an image with a newer compute runtime and driver for this GPU; --enforce-eager; smaller "
        "--max-num-batched-tokens and --max-model-len",
        certain=False,
    ),
)
"""In this order: an earlier sign explains a later one."""
