"""Deaths of which no sign and no exception tells: by the exit status, the place, and a native stack's own words.

Pure. Forbidden here: to read messages that `engines/vllm/messages/` knows.
"""

from __future__ import annotations

import re

from seawall.diagnose.cause import Cause
from seawall.diagnose.facts import Object, name_of, part, whole
from seawall.diagnose.programs import NO_SMI
from seawall.engines.vllm.raised import last_error

BY_SIGNAL = (132, 134, 136, 137, 139, 143)
"""Exit statuses of processes that a signal ended."""
_CRASHES = {
    132: (
        "SIGILL",
        "this CPU lacks an instruction that the image was built for (AVX512, AMX)",
        "an image for this CPU (vLLM's CPU images have an AVX2 variant), or nodes that have the instruction",
    ),
    134: (
        "SIGABRT",
        "a native library gave up",
        "the lines above its stack name it: kubectl logs --previous",
    ),
    136: (
        "SIGFPE",
        "a division by zero in native code",
        "another version of the image; report it with the log",
    ),
    139: (
        "SIGSEGV",
        "native code crashed: kernels, a library or a driver that do not go together",
        "use vLLM's own image unchanged; try --enforce-eager and NCCL_P2P_DISABLE=1 to see which part it is; "
        "dmesg on the node names the library",
    ),
}
"""Exit status -> (signal, what it means, what to do) of deaths in native code, which write no traceback of "
"Python's."""
_STACK = re.compile(
    r"Segfault encountered|Fatal Python error|Caught signal \d+|terminate called after|\*\*\* SIG\w+ received|"
    r"double free|free\(\): invalid|stack smashing|what\(\): "
)
_WORDS = re.compile(r"(?:what\(\): |Fatal Python error: |Caught signal )[^\n]{1,200}")
_PARTS = (
    (
        "NIXL or UCX, which hands the KV cache over",
        r"nixl|libucp|libucs|libuct|ucp_|uct_",
        "did an engine on the other side restart just before? Then restart both sides together; the same "
        "tensor-parallel "
        "size, image and NIXL on both; a newer image",
    ),
    (
        "NCCL",
        r"nccl",
        "NCCL_DEBUG=INFO names the transport; NCCL_P2P_DISABLE=1, NCCL_NVLS_ENABLE=0, NCCL_IB_DISABLE=1 one by "
        "one show which "
        "it is; one image on all nodes",
    ),
    (
        "LMCache or Mooncake, the cache connector",
        r"lmcache|mooncake|transfer_engine",
        "start once without --kv-transfer-config; the connector's version that is made for this vLLM",
    ),
    (
        "a kernel (FlashInfer, FlashAttention, Triton, CUTLASS)",
        r"flashinfer|flash_attn|triton|cutlass|deep_gemm|deep_ep",
        "another --attention-backend or --moe-backend, --enforce-eager to see whether it is the graphs; an "
        "empty kernel cache; "
        "a newer image",
    ),
    (
        "the GPU's driver library",
        r"libcuda\.so|libamdhip|libhsa|libze_",
        "",
    ),
)
"""The part that crashed, what frames' names give it away, what to do; empty: what its signal's deaths are told."""


_NO_PROGRAM = re.compile(
    r"(?:^|: )(?P<program>[\w./-]+): (?:command )?(?P<why>not found|No such file or directory|Permission denied"
    r"|cannot execute)"
    r"|'(?P<env>[\w./-]+)': No such file or directory",
    re.M,
)
"""What a shell says of a program that it cannot start."""


def _program(log: str) -> str:
    """The program that a shell did not find or may not start; empty when the log names none."""
    found = list(_NO_PROGRAM.finditer(log))
    return str(found[-1]["program"] or found[-1]["env"]) if found else ""


def unexplained(
    pod: Object, status: Object, end: Object, init: bool, *, probed: bool, fact: str, log: str
) -> Cause:
    """The cause of a death whose log no sign explains, from its exit code and the place where it happened."""
    subject = f"Pod/{name_of(pod)}"
    logs = f"kubectl logs {name_of(pod)} -c {status.get('name')} --previous"
    more = last_error(log)
    facts_seen = (fact, *((f"log: {more}",) if more else ()))
    deleted = part(pod, "metadata").get("deletionTimestamp") is not None
    code = whole(end.get("exitCode"))
    if not probed and code == 137 and not deleted:
        return Cause(
            id="container/killed",
            certainty="possible",
            subject=subject,
            weight=60,
            what="it was killed with SIGKILL: the node's memory ran out, or a probe or grace period ended",
            evidence=facts_seen,
            do="kubectl describe pod (events); dmesg on the node",
        )
    if code in (126, 127):
        program = _program(log)
        if program.endswith("nvidia-smi"):
            what, do, name = NO_SMI
            return Cause(
                id=name, certainty="likely", subject=subject, weight=96, what=what, evidence=facts_seen, do=do
            )
        missing = code == 127
        return Cause(
            id="container/no-program",
            certainty="certain" if program else "likely",
            subject=subject,
            weight=96,
            what=f"the shell finds no program {program or 'of that name'} in the image (exit 127)"
            if missing
            else f"the shell may not execute {program or 'the program'} (exit 126)",
            evidence=facts_seen,
            do="correct the command, or the image: vLLM may be elsewhere in it (python3 -m "
            "vllm.entrypoints.openai.api_server, /opt/venv/bin/vllm)"
            if missing
            else "chmod +x it (a ConfigMap's defaultMode: 0755), or call it with sh",
        )
    if init:
        return Cause(
            id="init/crash",
            certainty="certain",
            subject=subject,
            weight=90,
            what=f"the init container {status.get('name')} fails, so vLLM never starts" + _quoted(more),
            evidence=facts_seen,
            do=logs,
        )
    if code == 0:
        return Cause(
            id="container/no-server",
            certainty="likely",
            subject=subject,
            weight=80,
            what="its command ends by itself without an error, so it is started again and again: it runs no server",
            evidence=facts_seen,
            do=f"is it `vllm serve MODEL ...`, and do all words reach it? {logs}",
        )
    if code == 135:
        return Cause(
            id="engine/shm",
            certainty="likely",
            subject=subject,
            weight=88,
            what="it died of a bus error (SIGBUS): /dev/shm is too small for the ranks of a replica (64 MiB in a Pod)",
            evidence=facts_seen,
            do="mount an emptyDir {medium: Memory, sizeLimit: 8Gi} at /dev/shm",
        )
    if code in _CRASHES or _STACK.search(log):
        return _crashed(subject, code if code in _CRASHES else 134, log, facts_seen)
    if _PANIC.search(log):
        return _panicked(subject, log, facts_seen)
    hint = " (argument error: vLLM refuses its command line)" if code == 2 else ""
    return Cause(
        id="container/crash",
        certainty="possible",
        subject=subject,
        weight=70,
        what=f"it ends by itself{hint}" + (_quoted(more) or "; the log at hand does not say why"),
        evidence=facts_seen,
        do=logs,
    )


_PANIC = re.compile(
    r"^panic: [^\n]{1,240}|^thread '[^'\n]{1,60}' [^\n]{0,40}panicked at [^\n]{1,240}"
    r"(?:(?<=:)\n[^\n]{1,240})?",
    re.M,
)
"""How programs in Go and Rust end of their own faults: exit status 2 and 101, which mean no argument there."""


def _panicked(subject: str, log: str, facts_seen: tuple[str, ...]) -> Cause:
    said = _PANIC.search(log)
    where = re.search(r"^(?:\S+/)?(?P<frame>[\w.-]+\.[\w.()*]+)\(", log[said.end() :] if said else "", re.M)
    return Cause(
        id="container/crash",
        certainty="likely",
        subject=subject,
        weight=72,
        what="a fault of the program itself (a panic in Go or Rust): "
        + (" ".join(said[0].split())[:240] if said else "")
        + (f", in {where['frame']}" if where else ""),
        evidence=facts_seen,
        do="another version of it, newer first (look for these words among its issues); where it began with an "
        "object that "
        "was applied just before, take that back",
    )


def _quoted(words: str) -> str:
    return f"; its last error: {words}" if words else ""


def _crashed(subject: str, code: int, log: str, facts_seen: tuple[str, ...]) -> Cause:
    signal, means, do = _CRASHES[code]
    stack = _STACK.search(log)
    around = log[max(0, stack.start() - 400) : stack.start() + 6000] if stack else ""
    words = _WORDS.search(around)
    where, part_do = next(
        ((what, do) for what, pattern, do in _PARTS if re.search(pattern, around, re.I)), ("", "")
    )
    said = " ".join(words[0].split()) if words else ""
    return Cause(
        id="container/segfault",
        certainty="likely",
        subject=subject,
        weight=80,
        what=f"it died of {signal}"
        + (f" in {where}" if where else "" if stack else ", without a word in its log")
        + (f" ({said})" if said else "")
        + f": {means}",
        evidence=facts_seen,
        do=part_do or do,
    )
