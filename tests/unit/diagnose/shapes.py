"""Shapes of failures that many cases share: an engine's log with what stands around it, a router that runs, a volume."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from typing import Any

from seawall.diagnose.facts import Facts

from .test_catalogue import died, event, hpa, pod, scaled

Case = tuple[tuple[str, ...], list[str], Facts]
"""Ids of which the first cause has one, words that it has to say, the facts."""

NOISE = (
    "INFO 11-30 03:00:00 [__init__.py:216] Automatically detected platform cuda.\n"
    "WARNING 11-30 03:00:01 [argparse_utils.py:257] With `vllm serve`, you should provide the model as a positional argument\n"
    "(APIServer pid=1) INFO 11-30 03:00:02 [utils.py:233] non-default args: {'model': 'org/model', 'trust_remote_code': True}\n"
    "WARNING 11-30 03:00:03 [file_download.py:1] 404 Client Error for optional file adapter_config.json\n"
)
TRACE = (
    "Traceback (most recent call last):\n"
    '  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/core.py", line 790, in run_engine_core\n'
)
TAIL = (
    "\n(APIServer pid=1) Traceback (most recent call last):\n"
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}\n"
    "[rank0]:[W1130 ProcessGroupNCCL.cpp:1496] Warning: WARNING: destroy_process_group() was not called before program exit\n"
)
ENGINE = "(EngineCore_DP0 pid=271) ERROR 06-20 19:18:46 [core.py:1229] "


PACKAGES = "/usr/local/lib/python3.12/dist-packages/"
CORE = "vllm/v1/engine/core.py"


def traced(*files_then_words: str) -> str:
    """A traceback through these files of the image's packages, the outermost first, that ends with the last words."""
    *files, words = files_then_words
    frames = "".join(f'  File "{PACKAGES}{f}", line 12, in run\n    return fn(*args)\n' for f in files)
    return f"Traceback (most recent call last):\n{frames}{words}"


def engine(text: str, code: int = 1) -> Facts:
    """An engine process that ended with these lines, and the noise of the others around them."""
    return died(NOISE + TRACE + "".join(f"{ENGINE}{line}\n" for line in text.splitlines()) + TAIL, code)


def alive(log: str, ready: bool = True, name: str = "router", **more: Any) -> Facts:
    """A Pod that runs and has not died, with its log."""
    status = {
        "name": name,
        "ready": ready,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-23T13:00:00Z"}},
    }
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    it = pod(
        "router-1",
        spec={"nodeName": "n1", "containers": [{"name": name, "image": "x/router:v1"}]},
        status={"phase": "Running", "conditions": conditions, "containerStatuses": [status]},
    )
    return Facts(taken_at="2026-11-23T14:10:00Z", pods=[it], logs={f"router-1/{name}": log}, **more)


def refused_scaler(message: str) -> Facts:
    """A ScaledObject that KEDA refuses with these words."""
    return Facts(scaledobjects=[scaled([{"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": message}])])  # fmt: skip


def scaler_says(reason: str, message: str) -> Facts:
    """A ScaledObject that is Ready, with an event of KEDA's."""
    said = event(reason, message, "chat", "ScaledObject")
    return Facts(scaledobjects=[scaled([{"type": "Ready", "status": "True"}])], events=[said])


def hpa_without(reason: str, message: str) -> Facts:
    """An HPA that cannot read its metric, with its words."""
    said = f"the HPA was unable to compute the replica count: {message}"
    condition = {"type": "ScalingActive", "status": "False", "reason": reason, "message": said}
    return Facts(hpas=[hpa([condition])])


def unmounted(message: str) -> Facts:
    """A Pod whose volume is not mounted, with the kubelet's words."""
    creating = [{"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    return Facts(pods=[pod(spec={"nodeName": "gpu-1"}, status={"containerStatuses": creating})], events=[event("FailedMount", message)])  # fmt: skip


def init_died(log: str, code: int = 1, reason: str = "Error", name: str = "storage-initializer") -> Facts:
    """An init container that ends again and again, with its log."""
    ended = {"name": name, "restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": code, "reason": reason}}}  # fmt: skip
    it = pod(
        status={
            "initContainerStatuses": [ended],
            "containerStatuses": [{"name": "vllm", "state": {"waiting": {"reason": "PodInitializing"}}}],
        },
        spec={
            "nodeName": "gpu-1",
            "initContainers": [{"name": name, "resources": {"limits": {"memory": "1Gi"}}}],
        },
    )
    return Facts(pods=[it], logs={f"chat-7d9f-abcde/{name}/previous": log})
