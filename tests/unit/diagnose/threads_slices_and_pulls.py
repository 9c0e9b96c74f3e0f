"""Nodes, scalers, volumes and queues around engines, whose messages name the cure."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import NOISE, Case, init_died, traced
from .test_catalogue import died, pod, waiting

CASES: list[Case] = [
    (('gpu/device-plugin',), ['mixed', 'MIG'], died("2021/11/29 20:40:05 Loading NVML\n2021/11/29 20:40:05 Retreiving plugins.\n2021/11/29 20:40:05 Shutdown of NVML returned: <nil>\npanic: More than one MIG device type present on node\n\ngoroutine 1 [running]:\nmain.(*migStrategySingle).GetPlugins(0x1042638)\n",2)),
    (('gpu/not-visible',), ['runtime'], init_died("sh: 1: nvidia-smi: not found\ntoolkit is not ready\n",127,name="toolkit-validation")),
    (('image/network',), ['timeout'], waiting("ErrImagePull","rpc error: code = Unknown desc = context deadline exceeded")),
    (('gpu/driver-mismatch',), ['LD_LIBRARY_PATH'], died("INFO 07-30 15:32:48 [__init__.py:239] No platform detected, vLLM is running on UnspecifiedPlatform\n/usr/local/lib/python3.12/dist-packages/torch/cuda/__init__.py:991: UserWarning: CUDA initialization: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination (Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:109.)\nRuntimeError: Failed to infer device type\n")),
    (('gpu/not-visible',), ['LD_LIBRARY_PATH'], died(NOISE+traced("vllm/engine/arg_utils.py","vllm/config/device.py","RuntimeError: Device string must not be empty"))),
    (('gpu/not-visible',), ['driver'], died("Error while running the app: unable to initialize NVML: ERROR_LIBRARY_NOT_FOUND\n")),
    (('gpu/device-plugin',), ['healthy'], Facts(pods=[pod(status={"phase":"Failed","reason":"UnexpectedAdmissionError","message":"Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, Available: 0, which is unexpected"})])),
]  # fmt: skip
