"""Programs that a container's runtime does not find, or may not start, by its own words. Text in, words out."""

from __future__ import annotations

import re

NO_SMI = (
    "the container has no nvidia-smi: NVIDIA's runtime, which brings it along with the driver, did not make it",
    "runtimeClassName: nvidia, or NVIDIA's runtime as containerd's default on the node (nvidia-ctk "
    "runtime configure "
    "--set-as-default); and nvidia.com/gpu in limits",
    "gpu/not-visible",
)
"""The same of the program by which people look for GPUs."""


def no_program(message: str) -> tuple[str, str, str] | None:
    """(what, what to do, the cause's id) when the runtime found no program to start; None when the message "
    "says nothing of the kind."""
    m = re.search(
        r'exec: \\?"(?P<program>[^"]*?)\\?": (?P<why>executable file not found[^:\n]*|stat [^:\n]*: no such file[^:\n]*'
        r"|permission denied|no such file or directory|exec format error)",
        message,
    )
    if m is None:
        return None
    program, why = m["program"].rstrip("\\"), m["why"]
    usual = "container/no-program"
    if program.endswith("nvidia-smi"):
        return NO_SMI
    if " " in program.strip():
        return (
            f"the whole command line `{program[:80]}` stands in one string, and no program has that name",
            'write one item per word (command: ["vllm", "serve", "MODEL"]), or ["sh", "-c", "exec ..."]; '
            "seawall lint shows it",
            usual,
        )
    if why == "permission denied":
        return (
            f"the program {program} may not be executed ({why})",
            f"chmod +x {program} in the image, or call it with sh",
            usual,
        )
    if why == "exec format error":
        return (
            f"the program {program} is for another CPU architecture ({why})",
            "choose nodes by kubernetes.io/arch, or an image for this one",
            usual,
        )
    return (
        f"the image has no program {program} ({why})",
        "correct `command`; the image may have vLLM elsewhere (python3 -m vllm.entrypoints.openai.api_server, "
        "/opt/venv/bin/vllm)",
        usual,
    )
