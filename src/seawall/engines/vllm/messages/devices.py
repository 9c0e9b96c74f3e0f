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
        "set CUDA_VISIBLE_DEVICES=0 in the container, which sees its own slice only; a newer vLLM may know ids "
        "(0.20 does not everywhere)",
    ),
    Sign(
        "gpu/not-visible",
        r"_extractNVMLErrorsAsClasses[^\n]{0,120}|NVMLError_(?P<name>NotFound|InvalidArgument|NotSupported"
        r"|NoPermission"
        r"|InsufficientPower|IRQIssue|GpuIsLost|Uninitialized)",
        "NVML refuses what vLLM asks of a GPU {name} (Ray hides the words: it cannot hand this exception on)",
        "nvidia-smi -L in that container. MIG slices, vGPU: CUDA_VISIBLE_DEVICES=0 there, one engine for each "
        "container; Ray: "
        "one replica for each worker Pod, so that it does not choose among slices by number",
        certain=False,
    ),
    Sign(
        "gpu/not-visible",
        r"(?P<call>aclrtSetDevice|rtSetDevice|drvMngGet\w+)[^\n]{0,80}(?:107001|507033|error code|[Ff]ailed)"
        r"|Check whether the device ID is valid|[Ii]nvalid device ID\.|(?P<npu>npu get board type failed"
        r"|No NPUs? (?:is|are) "
        r"available)",
        "the NPU (Ascend) that vLLM asks for by number is not in the container {call}{npu}",
        "ASCEND_RT_VISIBLE_DEVICES has to name the devices that the plugin gave, counted as in the container (ls "
        "/dev/davinci*; from 0 where they are counted anew), or leave it out; huawei.com/Ascend... in limits",
        certain=False,
    ),
    Sign(
        "engine/rendezvous",
        r"slice_builder_worker_addresses|Expected (?P<wanted>\d+) worker addresses, got (?P<has>\d+)"
        r"|TPU_(?:PROCESS_ADDRESSES|WORKER_HOSTNAMES)[^\n]{0,60}(?:not set|invalid|mismatch)",
        "the TPU's runtime is told of another number of hosts than the slice has ({has} of {wanted})",
        "all Pods of the slice have to run (GKE sets TPU_WORKER_HOSTNAMES and TPU_WORKER_ID by the headless Service's "
        "name: subdomain, completions or LWS size = hosts of the topology); for one host only: unset "
        "TPU_PROCESS_ADDRESSES and TPU_WORKER_HOSTNAMES",
        certain=False,
    ),
    Sign(
        "gpu/busy",
        r"(?P<device>/dev/(?:vfio/|accel)\w*)[^\n]{0,60}(?:Device or resource busy|in use)|libtpu\.so already in use"
        r"|libtpu_lockfile|The TPU is already in use",
        "the TPU is held by another process, or by the lock of one that was killed ({device})",
        "end the process before (an old engine in the same Pod or on the host), and remove /tmp/libtpu_lockfile "
        "before "
        "the start; one engine for each slice",
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
        r"unknown device(?: id)?: no-gpu-has-(?P<share>\w+?)-to-run|device error: no-gpu-has-(?P<size>\w+?)-to-run",
        "the plugin that shares GPUs found none with {share}{size} of memory left for the container",
        "was the Pod placed by the sharing scheduler (its extender, schedulerName), and is the memory that it "
        "asks for "
        "(aliyun.com/gpu-mem) in the plugin's unit (GiB or MiB)? Ask for a smaller share, or free one",
        any_level=True,
    ),
    Sign(
        "gpu/driver-too-old",
        r"nvidia-container-cli: requirement error",
        "the image asks for a newer driver or CUDA than the node's NVIDIA driver (or its old toolkit) offers",
        "an image for an older CUDA, or update the driver (GPU operator: driver.version) and the container toolkit; "
        "NVIDIA_DISABLE_REQUIRE=1 only skips the question",
        any_level=True,
    ),
    Sign(
        "gpu/no-driver",
        r"(?P<device>/dev/nvidia\w*)\\?\"?: (?:lstat [^\n]{0,40})?no such file or directory",
        "the node has no {device}: its NVIDIA driver is not loaded, or has not made its devices yet",
        "nvidia-smi on the node makes them; else nvidia-modprobe -c 0 -u (nvidia-uvm), and the persistence "
        "daemon at boot",
        any_level=True,
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
        "are the two figures the same, it is the count of HAMi (a newer HAMi). One engine per GPU; engines that "
        "share one must not start at the same time (time-slicing, HAMi, MPS), or set "
        "--kv-cache-memory-bytes, which measures nothing",
        certain=False,
    ),
    Sign(
        "gpu/out-of-memory",
        r"HAMI-core ERROR[^\n]{0,120}OOM (?P<wanted>1844\d{16}) / (?P<has>\d+)",
        "HAMi's own count of the memory in use has run below zero: the GPU is not full, every request is refused",
        "a newer HAMi (a bug of its count when processes end); delete the Pod so that the count begins anew",
        any_level=True,
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
        r"(?P<why>Could not resolve Linux kernel version|Unable to load the (?:kernel module )?'?nvidia[\w.-]*'?"
        r"|Could not unload NVIDIA driver kernel modules[^\n]{0,40}|could not insert '?nvidia[^\n]{0,80}"
        r"|Unable to (?:find|locate)[^\n]{0,20}linux-(?:headers|modules|image)[^\n]{0,60}"
        r"|[Ff]ailed to (?:install|find|get) (?:the )?kernel[- ](?:headers|modules)[^\n]{0,60}"
        r"|No package kernel-(?:headers|devel)[^\n]{0,60}|nouveau[^\n]{0,60}(?:in use|is loaded|already))",
        "the node's NVIDIA driver cannot be built or loaded for its kernel: {why}",
        "a driver for that very kernel (GPU operator: driver.version, usePrecompiled), its kernel headers in "
        "the node's package "
        "source, nouveau blacklisted, Secure Boot off; or install it on the node and set driver.enabled=false",
        any_level=True,
    ),
    Sign(
        "gpu/device-plugin",
        r"(?P<why>More than one MIG device type present|migEnabled=true was not configured|invalid MIG configuration"
        r"|devices on the node must be configured with the same migEnabled|no MIG devices (?:found|present))",
        "the device plugin refuses how the node's GPUs are cut into MIG slices: {why}",
        "mig.strategy: mixed (each profile is a resource of its own, nvidia.com/mig-...) where profiles "
        "differ; for single, "
        "one profile on all GPUs (node label nvidia.com/mig.config); then restart the plugin",
        any_level=True,
    ),
    Sign(
        "gpu/device-plugin",
        r"No devices found\. Waiting indefinitely"
        r"|Failed to initialize NVML[^\n]{0,80}\n[^\n]{0,80}If this is a GPU node",
        "the device plugin saw no GPU when it started, and does not look again: the node offers none",
        "nvidia-smi on the node, then restart the device plugin: delete its Pod (after a reboot it was there "
        "before the "
        "driver); NVIDIA's runtime has to be containerd's default, or the plugin's runtimeClassName",
        any_level=True,
        alive=True,
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
        "gpu/toolkit",
        r"nvidia-container-cli(?:\.real)?: initialization error: (?P<why>change root failed[^\n]{0,60}"
        r"|driver rpc error[^\n]{0,60}|privilege change failed[^\n]{0,40})",
        "NVIDIA's toolkit on the node does not find the driver where it is configured to look: {why}",
        "the driver's root in /etc/nvidia-container-runtime/config.toml and the toolkit's DaemonSet: "
        "/run/nvidia/driver "
        "where the GPU operator brings the driver (is its Pod up?), / where it is installed on the node "
        "(driver.enabled=false); then restart containerd",
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/ray-no-gpu",
        r"File \"[^\"\n]{0,200}/ray/(?:serve|_private"
        r"|llm)/[^\n]{0,200}(?:\n[^\n]{0,300}){0,60}?No CUDA GPUs are available",
        "the Ray actor that runs vLLM was given no GPU: Ray hides the node's from it",
        "num_gpus in the deployment's ray_actor_options (or a GPU in its placement group's bundles); CUDA "
        "must not be touched "
        "in the driver before; a Ray and vLLM that fit each other",
        certain=False,
    ),
    Sign(
        "gpu/not-visible",
        r"CUDA_ERROR_NO_DEVICE|cudaErrorNoDevice|no CUDA-capable device is detected"
        r"|libcuda\.so[.\d]*: cannot open shared object|Found no NVIDIA driver|"
        r"Failed to infer device type|No CUDA GPUs are available|no NVIDIA GPU "
        r"detected|nvidia-container-cli: initialization error"
        r"|libnvidia-ml\.so[.\d]*: cannot open shared|could not load NVML library"
        r"|Device string must not be empty|NVML: ERROR_LIBRARY_NOT_FOUND",
        "the container sees no GPU",
        "ask for nvidia.com/gpu in limits; is the device plugin running? kubectl -n "
        "kube-system get pods | grep nvidia",
    ),
    Sign(
        "gpu/not-visible",
        r"nvidia-container-cli(?:\.real)?: device error[^\n]{0,80}",
        "NVIDIA's runtime does not find the device that the container is to get",
        "nvidia-smi -L on the node against the device plugin's list: restart the plugin on that node, delete the Pod",
        certain=False,
        any_level=True,
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
