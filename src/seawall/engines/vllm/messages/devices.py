"""What logs say of a node's GPUs: the driver, the fabric, slices and shares, and who else holds them.

A table only; the texts are those of CUDA, NVML, NVIDIA's toolkit and HAMi.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

DEVICES: tuple[Sign, ...] = (
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
)
"""In this order: an earlier sign explains a later one."""
