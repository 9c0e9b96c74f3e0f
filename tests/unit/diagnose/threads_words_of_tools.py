"""Words of shells, fetchers, file systems, runtimes and CUDA's libraries that every engine may end with."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from .shapes import Case, engine, init_died, traced
from .test_catalogue import died, waiting

CASES: list[Case] = [
    (("container/no-program",), ["vllm"], died("/bin/sh: 1: vllm: not found\n", 127)),
    (("container/no-program",), ["vllm"], died("bash: line 1: vllm: command not found\n", 127)),
    (("container/no-program",), [], died("/usr/bin/env: 'python': No such file or directory\n", 127)),
    (("container/no-program",), ["start.sh"], died("/bin/bash: /scripts/start.sh: Permission denied\n", 126)),
    (("weights/token-form",), ["line"], died("httpx.LocalProtocolError: Illegal header value b'Bearer hf_abcdefg\\n'\n")),
    (("engine/bind-address",), ["port"], died("ERROR:    [Errno 13] error while attempting to bind on address ('0.0.0.0', 80): permission denied\n")),
    (("engine/bind-address",), ["address"], died("OSError: [Errno 99] error while attempting to bind on address ('10.2.3.4', 8000): cannot assign requested address\n")),
    (("weights/storage",), ["storage"], engine("OSError: [Errno 116] Stale file handle: '/models/model-00001-of-00004.safetensors'")),
    (("weights/storage",), ["storage"], engine("OSError: [Errno 107] Transport endpoint is not connected: '/mnt/models/config.json'")),
    (("weights/storage",), ["lock"], died("OSError: [Errno 37] No locks available\n")),
    (("engine/nccl",), ["all-reduce"], engine("Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:455 'invalid argument'")),
    (("engine/unsupported-gpu",), [], engine("RuntimeError: Triton Error [CUDA]: device kernel image is invalid")),
    (("engine/cuda-library",), ["CUBLAS"], engine("RuntimeError: CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasGemmEx( handle, opa, opb)`")),
    (("engine/no-compiler",), [], engine("/usr/bin/ld: cannot find -lcuda: No such file or directory\nsubprocess.CalledProcessError: Command '['/usr/bin/gcc', '/tmp/x/main.c']' returned non-zero exit status 1.")),
    (("engine/model-files",), [], died(traced("vllm/transformers_utils/config.py", "json/decoder.py", "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"))),
    (("weights/not-found",), ["404"], init_died("curl: (22) The requested URL returned error: 404\n", 22, name="fetch")),
    (("weights/unauthorized",), [], init_died("curl: (22) The requested URL returned error: 401\n", 22, name="fetch")),
    (("weights/unauthorized",), [], init_died("ServiceException: 401 Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object.\n", 1, name="fetch")),
    (("weights/disk-full",), ["full"], init_died("curl: (23) Failed writing body (0 != 16384)\ncurl: No space left on device\n", 23, name="fetch")),
    (("weights/hub-unreachable",), [], init_died("wget: unable to resolve host address 'huggingface.co'\n", 4, name="fetch")),
    (("container/cannot-start",), ["memory"], waiting("CreateContainerError", "failed to create containerd task: container init was OOM-killed (memory limit too low?)")),
    (("container/cannot-start",), ["directory"], waiting("RunContainerError", 'failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error mounting "/var/lib/kubelet/pods/x/volume-subpaths/cfg" to rootfs at "/app/template.jinja": not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)?')),
    (("container/cannot-start",), ["name"], waiting("CreateContainerError", 'failed to reserve container name "vllm_chat": name "vllm_chat" is reserved for "abc"')),
    (("container/cannot-start",), ["write"], waiting("RunContainerError", "OCI runtime create failed: mkdir /mnt/models: read-only file system: unknown")),
]  # fmt: skip
