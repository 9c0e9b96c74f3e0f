"""Why a container does not run: images, configuration, exits and probes, read with its last log. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import (
    Facts,
    Object,
    condition,
    items,
    name_of,
    part,
    seconds_between,
    whole,
)
from seawall.diagnose.hardware import refined
from seawall.diagnose.probes import by_probe
from seawall.diagnose.states import ended, statuses
from seawall.engines.vllm import metrics as vllm
from seawall.engines.vllm.raised import last_error, option_in, raised
from seawall.engines.vllm.signs import Said, read

LONG_AGO_S = 3600.0


@rule
def exits(facts: Facts) -> Iterator[Cause]:
    """Containers that died: what killed them, and what the log says."""
    for pod in facts.pods:
        for status, spec, init in statuses(pod):
            end = ended(status)
            if not end or (end.get("exitCode") == 0 and not _comes_back(status, init)):
                continue
            if _recovered(facts, status, end):
                continue
            log = facts.log(pod, str(status.get("name")))
            said = read(log) or read(
                str(end.get("message") or "")
            )  # the runtime's own words, or the log's tail
            yield from _ended(facts, pod, status, spec, init, end, said)


def _comes_back(status: Object, init: bool) -> bool:
    """Whether an end with exit status 0 is none: a server that ends is started again, and backs off."""
    waiting = part(status, "state", "waiting")
    return not init and (
        waiting.get("reason") == "CrashLoopBackOff" or ended(status).get("reason") == "OOMKilled"
    )


def _recovered(facts: Facts, status: Object, end: Object) -> bool:
    """Whether a container died long ago and has been ready since: history, not a cause."""
    ago = seconds_between(end.get("finishedAt"), facts.taken_at)
    return bool(status.get("ready")) and ago is not None and ago > LONG_AGO_S


def _ended(
    facts: Facts, pod: Object, status: Object, spec: Object, init: bool, end: Object, said: Said | None
) -> Iterator[Cause]:
    subject = f"Pod/{name_of(pod)}"
    again = f", restarted {status.get('restartCount')} times" if status.get("restartCount") else ""
    fact = f"{status.get('name')}: {end.get('reason') or 'ended'} (exit {end.get('exitCode')}){again}"
    if end.get("reason") == "OOMKilled":
        limit = part(spec, "resources", "limits").get("memory") or "none"
        yield Cause(
            id="memory/oom-killed",
            certainty="certain",
            subject=subject,
            weight=100,
            what=f"the kernel killed it: the container used more host memory than its limit ({limit}); "
            "this is not GPU memory",
            evidence=(fact,),
            do="raise the memory limit; /dev/shm (emptyDir Memory), pinned buffers and KV "
            "offloading count into it",
        )
        return
    program = no_program(str(end.get("message") or ""))
    if program:
        yield Cause(
            id="container/no-program",
            certainty="certain",
            subject=subject,
            weight=98,
            what=program[0],
            evidence=(fact, str(end.get("message"))[-240:]),
            do=program[1],
        )
        return
    killed = by_probe(facts, pod, status, spec, end, fact)
    if killed is not None:
        yield killed
        if said is None or said.sign.weight < 50:
            return
    log = facts.log(pod, str(status.get("name")))
    exception = raised(log) if said is None or said.sign.id == "engine/died" else ""
    if exception and killed is None:
        yield _raised(subject, end, exception, fact, str(status.get("name")) if init else "")
    elif said is not None:
        yield refined(facts, pod, spec, said, _from_log(subject, end, said, fact))
    elif killed is None or init:
        more = last_error(log)
        yield _unexplained(
            pod,
            status,
            end,
            init,
            probed=killed is not None,
            facts_seen=(fact, *((f"log: {more}",) if more else ())),
        )


def _raised(subject: str, end: Object, exception: str, fact: str, init: str) -> Cause:
    """An exception that no sign knows, in its own words. `init`: the init container that it ended; empty: none."""
    by_signal = whole(end.get("exitCode")) in _SIGNALS
    which = f" -c {init}" if init else ""
    option = "" if init else option_in(exception)
    if option and not by_signal:
        return Cause(
            id="engine/bad-config",
            certainty="likely",
            subject=subject,
            weight=80,
            what=f"vLLM refuses its configuration: {exception}",
            evidence=(fact, f"log: {exception}"),
            do=f"set {option} to what the message asks for; seawall lint and seawall plan check the same before",
        )
    return Cause(
        id="init/crash" if init else "engine/exception",
        certainty="possible" if by_signal else "certain" if init else "likely",
        subject=subject,
        weight=90 if init else 75,
        what=f"the init container {init} ends with {exception}" if init else f"it ends with {exception}",
        evidence=(fact, f"log: {exception}"),
        do=f"kubectl logs {subject.removeprefix('Pod/')}{which} --previous, from the first ERROR on: the catalogue "
        "does not know it",
    )


def _from_log(subject: str, end: Object, said: Said, fact: str) -> Cause:
    """What the log says it died of; of a process that was killed from outside, a line is a hint only."""
    by_signal = whole(end.get("exitCode")) in _SIGNALS and said.sign.id not in _KILLS
    return Cause(
        id=said.sign.id,
        certainty="certain" if said.sign.certain and not by_signal else "likely",
        subject=subject,
        weight=said.sign.weight,
        what=said.what,
        evidence=(fact, f"log: {said.line}"),
        do=said.sign.do,
    )


_SIGNALS = (132, 134, 136, 137, 139, 143)
_KILLS = ("engine/host-memory", "engine/shm", "gpu/xid")
"""Signs of what does end a process by a signal."""


def no_program(message: str) -> tuple[str, str] | None:
    """(what, what to do) when the runtime found no program to start; None when the message says nothing of the kind."""
    m = re.search(
        r'exec: \\?"(?P<program>[^"]*?)\\?": (?P<why>executable file not found[^:\n]*|stat [^:\n]*: no such file[^:\n]*'
        r"|permission denied|no such file or directory|exec format error)",
        message,
    )
    if m is None:
        return None
    program, why = m["program"].rstrip("\\"), m["why"]
    if " " in program.strip():
        return (
            f"the whole command line `{program[:80]}` stands in one string, and no program has that name",
            'write one item per word (command: ["vllm", "serve", "MODEL"]), or ["sh", "-c", "exec ..."]; '
            "seawall lint shows it",
        )
    if why == "permission denied":
        return (
            f"the program {program} may not be executed ({why})",
            f"chmod +x {program} in the image, or call it with sh",
        )
    if why == "exec format error":
        return (
            f"the program {program} is for another CPU architecture ({why})",
            "choose nodes by kubernetes.io/arch, or an image for this one",
        )
    return (
        f"the image has no program {program} ({why})",
        "correct `command`; the image may have vLLM elsewhere (python3 -m vllm.entrypoints.openai.api_server, "
        "/opt/venv/bin/vllm)",
    )


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
"""Exit status -> (signal, what it means, what to do) of deaths in native code, which write no traceback of Python's."""


def _unexplained(
    pod: Object, status: Object, end: Object, init: bool, *, probed: bool, facts_seen: tuple[str, ...]
) -> Cause:
    """The cause of a death whose log says nothing, from its exit code and the place where it happened."""
    logs = f"kubectl logs {name_of(pod)} -c {status.get('name')} --previous"
    deleted = part(pod, "metadata").get("deletionTimestamp") is not None
    if not probed and end.get("exitCode") == 137 and not deleted:
        return Cause(
            id="container/killed",
            certainty="possible",
            subject=f"Pod/{name_of(pod)}",
            weight=60,
            what="it was killed with SIGKILL: the node's memory ran out, or a probe or grace period ended",
            evidence=facts_seen,
            do="kubectl describe pod (events); dmesg on the node",
        )
    if init:
        return Cause(
            id="init/crash",
            certainty="certain",
            subject=f"Pod/{name_of(pod)}",
            weight=90,
            what=f"the init container {status.get('name')} fails, so vLLM never starts",
            evidence=facts_seen,
            do=logs,
        )
    if not init and end.get("exitCode") == 0:
        return Cause(
            id="container/no-server",
            certainty="likely",
            subject=f"Pod/{name_of(pod)}",
            weight=80,
            what="its command ends by itself without an error, so it is started again and again: it runs no server",
            evidence=facts_seen,
            do=f"is it `vllm serve MODEL ...`, and do all words reach it? {logs}",
        )
    if end.get("exitCode") == 135:
        return Cause(
            id="engine/shm",
            certainty="likely",
            subject=f"Pod/{name_of(pod)}",
            weight=88,
            what="it died of a bus error (SIGBUS): /dev/shm is too small for the ranks of a replica (64 MiB in a Pod)",
            evidence=facts_seen,
            do="mount an emptyDir {medium: Memory, sizeLimit: 8Gi} at /dev/shm",
        )
    if end.get("exitCode") in _CRASHES:
        signal, means, do = _CRASHES[whole(end.get("exitCode"))]
        return Cause(
            id="container/segfault",
            certainty="likely",
            subject=f"Pod/{name_of(pod)}",
            weight=80,
            what=f"it died of {signal}, without a word in its log: {means}",
            evidence=facts_seen,
            do=do,
        )
    hint = " (argument error: vLLM refuses its command line)" if end.get("exitCode") == 2 else ""
    return Cause(
        id="container/crash",
        certainty="possible",
        subject=f"Pod/{name_of(pod)}",
        weight=70,
        what=f"it ends by itself{hint}; the log at hand does not say why",
        evidence=facts_seen,
        do=logs,
    )


@rule
def evicted(facts: Facts) -> Iterator[Cause]:
    """Pods that the kubelet pushed out."""
    for pod in facts.pods:
        status = part(pod, "status")
        if status.get("reason") != "Evicted":
            continue
        message = str(status.get("message") or "")
        what = re.search(r"low on resource: ([\w.-]+)", message)
        replaced = _replaced(facts, pod)
        own, low = "exceed" in message, what[1] if what else "resources"
        yield Cause(
            id="node/evicted",
            certainty="certain",
            subject=f"Pod/{name_of(pod)}",
            weight=85,
            what="the kubelet evicted it: "
            + ("it used more ephemeral storage than its limit" if own else f"the node ran low on {low}"),
            evidence=(message[:240],),
            do="request ephemeral-storage and memory equal to the limits (Guaranteed); put caches on volumes",
            kind="risk" if replaced else "cause",
        )


def _replaced(facts: Facts, pod: Object) -> bool:
    """Whether a ready Pod of the same owner serves in its place: what is left of it is history."""
    owners = {o.get("uid") or o.get("name") for o in items(pod, "metadata", "ownerReferences")} - {None}
    return any(
        condition(p, "Ready").get("status") == "True"
        and owners & {o.get("uid") or o.get("name") for o in items(p, "metadata", "ownerReferences")}
        for p in facts.pods
    )


@rule
def overload(facts: Facts) -> Iterator[Cause]:
    """Replicas that are not broken but too small: a queue, a full KV cache, preemptions."""
    cache = facts.metrics.get(vllm.KV_USAGE, {})
    waiting = facts.metrics.get(vllm.WAITING, {})
    full = [p for p, v in cache.items() if v >= 0.95 and waiting.get(p, 0) > 0]
    if full:
        yield Cause(
            id="load/kv-full",
            certainty="certain",
            subject=f"Pod/{full[0]}",
            also=tuple(f"Pod/{p}" for p in full[1:]),
            weight=40,
            what="the KV cache is full and requests wait: more load than these replicas hold",
            evidence=(f"KV cache {cache[full[0]]:.0%}, {waiting[full[0]]:.0f} waiting",),
            do="more replicas (scaling.max), fp8 KV cache, or a shorter max_model_len; seawall "
            "simulate shows which",
        )


@rule
def slow_death(facts: Facts) -> Iterator[Cause]:
    """Pods that stay Terminating: finalizers, a dead node, a long drain."""
    for pod in facts.pods:
        told = part(pod, "metadata").get("deletionTimestamp")
        late = seconds_between(told, facts.taken_at)
        if told and late is not None and late > 60:
            unready = condition(pod, "Ready").get("status") == "Unknown"
            yield Cause(
                id="pod/stuck-terminating",
                certainty="likely",
                subject=f"Pod/{name_of(pod)}",
                weight=50,
                what=f"it should have gone {late:.0f} s ago"
                + (": its node does not answer" if unready else ""),
                evidence=(
                    f"deletionTimestamp {told}, finalizers {part(pod, 'metadata').get('finalizers') or 'none'}",
                ),
                do="node gone: kubectl delete node NODE; a finalizer: who set it?",
            )
