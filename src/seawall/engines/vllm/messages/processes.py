"""What a process says of the place that it runs in: files that it may not write, ports, host memory, other "
"processes of
the same engine that end or do not answer.

A table only; the texts are those of vLLM, Python and the kernel.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

PROCESSES: tuple[Sign, ...] = (
    Sign(
        "container/no-program",
        r"Failed to (?:spawn|execute|exec|run)(?: command)?:? [`'\"]?(?P<program>[\w./-]{1,80})[`'\"]?"
        r"(?:\n?[^\n]{0,60}){0,2}?(?:No such file or directory|not found)[^\n]{0,20}",
        "a launcher finds no program {program} in the container",
        "its folder has to be on PATH (a virtual environment's bin: /opt/.../venv/bin), or write its whole path in "
        "`command`; kubectl run with that image and `which {program}` shows it",
        certain=False,
    ),
    Sign(
        "engine/pinned-memory",
        r"(?P<why>Unable to pin host memory[^\n]{0,60}|cudaHost(?:Register|Alloc)[^\n]{0,60}(?:fail|error"
        r"|:)[^\n]{0,40}"
        r"|[Ff]ailed to (?:pin|lock)[^\n]{0,20} memory[^\n]{0,40}|mlock[^\n]{0,40}(?:failed|Cannot allocate))",
        "host memory cannot be pinned for the GPU: {why}",
        "the limit of locked memory (memlock, ulimit -l) of the container: LimitMEMLOCK=infinity in "
        "containerd's unit on the "
        "node, IPC_LOCK in capabilities; or a smaller cache in host memory than its limit holds",
        certain=False,
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
        "engine/permission",
        r"cannot cache function '(?P<function>[^'\n]{1,80})': no locator available",
        "Numba may keep nothing that it compiles ({function}): the folder is not writable for the container's user",
        "HOME=/tmp, or NUMBA_CACHE_DIR, TRITON_CACHE_DIR and XDG_CACHE_HOME in a writable volume",
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
        r"(?P<who>(?:DP )?[Cc]oordinator|[Aa]PI server|front-?end|[Ww]orker) process (?:failed to report|did not "
        r"(?:report|start|answer))[^\n]{0,80}",
        "a process of vLLM beside the engine ({who}) did not start within the time that is built in (30 s, 120 s from "
        "0.22 on): reading vLLM from a slow disk, or starved CPUs",
        "the image and its Python packages on a local disk, more CPU in requests while many ranks start at once; a "
        "newer "
        "vLLM image waits longer (--data-parallel-coordinator-startup-timeout where it has it)",
        certain=False,
    ),
    Sign(
        "engine/ready-timeout",
        r"Timed out waiting for (?:new )?engine(?: core processes to start|s to send initial message)|Did not receive "
        r"response from front-end process",
        "the engine was not ready within VLLM_ENGINE_READY_TIMEOUT_S (600 s), and vLLM gave up by itself",
        "is it slow or does it stand? Where the log shows weights that load or kernels that compile: raise "
        "VLLM_ENGINE_READY_TIMEOUT_S to the start-up budget, or load faster (a local disk, fewer bytes); where "
        "its last "
        "line stands for minutes, that line names what hangs (NCCL_DEBUG=INFO; ranks on other nodes that do not join)",
        certain=False,
    ),
    Sign(
        "engine/bind-address",
        r"attempting to bind on address \('(?P<host>[^']*)', (?P<port>\d+)[^)]*\): permission denied",
        "the user that it runs as may not listen on port {port} (below 1024)",
        "another --port, with the container's port and the probes; the Service may keep its own",
    ),
    Sign(
        "engine/port-taken",
        r"Could not find open port after (?P<tries>\d+) attempts starting from port (?P<port>\d+)",
        "no port is free from {port} on, which vLLM begins to look at ({tries} tries)",
        "another VLLM_PORT (or none), without hostNetwork; more than some engines on one node's network need "
        "apart ranges",
        certain=False,
    ),
    Sign(
        "engine/bind-address",
        r"Neither 127\.0\.0\.1 nor ::1 are bound",
        "the container has no loopback address, over which vLLM's own processes talk",
        "VLLM_LOOPBACK_IP to an address that it has; the network plugin brings `lo` up",
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
        r"(?P<rank>server socket has failed to listen[^\n]{0,80}(?=EADDRINUSE)"
        r"|zmq\.error\.ZMQError(?=[^\n]*already in use))?"
        r"[^\n]{0,60}?(?:address already in use|\[Errno 98\]|EADDRINUSE)",
        "the port is taken by another process in the Pod or on the host network",
        "another --port, or no hostNetwork; between ranks: another --master-port, VLLM_PORT or "
        "--data-parallel-rpc-port; "
        "an old engine that has not ended holds it, too",
    ),
    Sign(
        "engine/host-memory",
        r"\[Errno 12\] Cannot allocate memory|(?:fork|mmap|malloc|posix_memalign)[^\n]{0,60}Cannot allocate memory",
        "the host memory of the container or of its node ran out, or may not be reserved",
        "raise the memory limit; /dev/shm, pinned buffers and KV offloading count into it; "
        "a node without overcommit (vm.overcommit_memory=2) refuses the reservation already",
        certain=False,
    ),
    Sign(
        "engine/host-memory",
        r"(?:node running low on memory|DefaultCPUAllocator: can't allocate memory|std::bad_alloc)",
        "the host memory of the container ran out",
        "raise the memory limit; /dev/shm and KV offloading count into it",
    ),
    Sign(
        "container/limits",
        r"can't start new thread|pthread_create failed(?!: Invalid argument)[^\n]{0,80}"
        r"|Resource temporarily unavailable[^\n]{0,80}"
        r"(?:thread|fork)|(?:fork|clone)[^\n]{0,40}Resource temporarily unavailable|\[Errno 24\]"
        r"|Too many open files|too many file descriptors in select"
        r"|inotify watch limit reached|no space left on device[^\n]{0,20}inotify",
        "the container may have no more threads, processes or open files",
        "raise the kubelet's podPidsLimit (or the runtime's pids and nofile limits) on the node; fewer ranks or "
        "OMP_NUM_THREADS per Pod need fewer threads",
    ),
)
"""In this order: an earlier sign explains a later one."""
