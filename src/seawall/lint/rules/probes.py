"""Rules about probes and the time a replica may take to start."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.engines.vllm import environment
from seawall.lint import controllers
from seawall.lint.finding import Finding, Say, Severity, rule
from seawall.lint.image import is_official
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.patch import Patcher
from seawall.lint.size import load_s, show_load
from seawall.lint.world import Manifests

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
ENGINE_TIMEOUT_S = 600
PROGRESS_DEADLINE_S = 600
UNKNOWN_S = 60.0
"""What a model of unknown size takes at least on a GPU: imports, compilation, graphs."""


def budget_s(probe: YamlNode) -> float:
    """Seconds until a failing probe acts: initialDelay + period x failureThreshold (defaults 0, 10, 3)."""
    delay, period, threshold = (
        probe[key].number(default) or 0.0
        for key, default in (("initialDelaySeconds", 0), ("periodSeconds", 10), ("failureThreshold", 3))
    )
    return delay + period * threshold


def _engines(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.whole_servers:
        if workload.obj.kind != "InferenceService":
            yield workload, workload.engine


def listens_alone(workload: Workload, engine: Container) -> bool:
    """True when vLLM's port is known and nothing else in the Pod listens on one."""
    c = engine.command
    aside = [i for i in workload.pod["initContainers"] if i["restartPolicy"].text() == "Always"]
    plain = engine.plain_flags and (c.entry != "image" or is_official(engine.image))
    return (
        plain
        and not c.option("--config")
        and not c.is_open
        and not aside
        and len(list(workload.pod["containers"])) == 1
    )


@rule(
    "probes/startup-budget",
    "error",
    "The startup probe kills the model while it loads",
    story="""A startup probe gives the container periodSeconds x failureThreshold to answer; then the
    kubelet kills it, and it starts to load from the beginning, for ever. 150 s for a 70B model in bf16
    need 0.94 GB/s for the weights alone. Budget for the slowest case: a cold page cache, a busy node
    (86 s quiet, more than 5 minutes busy were measured for one model), compilation, and at the first
    start the download: 1.5 x (weights / bandwidth + some two minutes). An error when not even the fastest disk and
    network would do, a warning when the usual ones do not (a download with no time to spare counts as such).""",
    cure="Raise failureThreshold: the probe costs nothing once the server answers.",
    fixable=True,
)
def startup_budget(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        probe = engine.node["startupProbe"]
        if not probe:
            continue
        load = load_s(world, workload, engine)
        have = budget_s(probe)
        if load is not None and have < load.prudent_s:
            period = probe["periodSeconds"].number(10) or 10
            threshold = int(1.5 * load.total_s / period) + 1
            node = probe["failureThreshold"]
            certain = have < load.floor_s
            said = f"killed after {have:g} s, again and again" if certain else f"{have:g} s may be too short"
            yield say(
                workload.obj,
                node,
                f"{said}: {show_load(load)}.",
                f"Set failureThreshold: {threshold} (x {period:g} s; 1.5 times the estimate).",
                severity=None if certain else "warning",
                edits=patch.replace(node, str(threshold)) if node else (),
            )


@rule(
    "probes/no-startup",
    "warning",
    "No startup probe",
    story="""Without a startupProbe the liveness probe judges the container while it loads: it is killed
    in the middle and starts again. With an initialDelaySeconds long enough for the slowest load, a hang
    after start goes unseen for as long.""",
    cure="Add a startupProbe on /health with periodSeconds x failureThreshold above the slowest load.",
)
def no_startup(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        live = engine.node["livenessProbe"]
        if engine.node["startupProbe"] or not live:
            continue
        load = load_s(world, workload, engine)
        need = load.prudent_s if load else UNKNOWN_S
        have = budget_s(live)
        if have < need and engine.vendor != "cpu":
            certain = load is not None and have < load.floor_s
            what = show_load(load) if load else "loading and compiling take a minute or more"
            kills = "may kill" if load is not None and have >= load.total_s else "kills"
            yield say(
                workload.obj,
                live,
                f"the liveness probe {kills} the container {have:g} s after its start, and it begins again: {what}.",
                severity="error" if certain else "warning",
            )
        else:
            yield say(
                workload.obj,
                live,
                f"a hang is seen only {have:g} s after start: the liveness delay has to cover the slowest load.",
                severity="note",
            )


@rule(
    "probes/no-readiness",
    "error",
    "No readiness probe",
    story="""A container without readinessProbe counts as ready the moment it starts. The Service sends
    it requests while it loads, and a rolling update goes on as if it served.""",
    cure="Add a readinessProbe: httpGet /health on vLLM's port.",
)
def no_readiness(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if engine.node["readinessProbe"] or workload.multi_node or workload.obj.kind == "LLMInferenceService":
            continue
        if engine.command.on("--headless"):
            continue
        started = bool(engine.node["startupProbe"])  # until it succeeds the Pod is not ready either
        loads = "the Pod is `ready` while the model loads: clients get connection refused"
        yield say(
            workload.obj,
            engine.node["readinessProbe"],
            "after its start the Pod stays `ready` whatever becomes of the engine."
            if started
            else f"{loads}, and a rollout stops the old Pods meanwhile."
            if workload.obj.kind != "Pod"
            else f"{loads}.",
            severity="note" if started else "warning" if workload.obj.kind == "Pod" else None,
        )


@rule(
    "probes/no-liveness",
    "warning",
    "Nothing restarts a hung engine",
    story="""With a startup probe alone, that probe is the only thing that ever kills the container, and
    it is done after start. An engine that dies ends the process by itself, but one that hangs does not:
    its HTTP server goes on answering, requests never end.""",
    cure="Add a livenessProbe with a generous failureThreshold; best one that decodes a token "
    "or sees the counters advance.",
)
def no_liveness(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        group = workload.obj.kind == "LeaderWorkerSet"
        if (
            engine.node["livenessProbe"]
            or (workload.multi_node and not group)
            or engine.command.on("--headless")
        ):
            continue
        hung = "a hung engine is never restarted: it keeps its requests and its place."
        lost = (
            "when a worker of the group dies or hangs, the leader's server goes on and answers nobody: without a "
            "liveness probe on the leader nothing restarts the group."
        )
        yield say(workload.obj, engine.node["livenessProbe"], lost if group else hung)


@rule(
    "probes/liveness-impatient",
    "warning",
    "The liveness probe can kill a busy server",
    story="""timeoutSeconds is 1 by default. A server under full load (tokenizing a long prompt, garbage
    collection, a starved CPU) can need longer than that to answer /health a few times in a row; the
    kubelet then kills it with all its streams, and the load moves to the next replica.""",
    cure="Give it timeoutSeconds: 5 or more and failureThreshold x periodSeconds of a minute or more.",
    fixable=True,
)
def liveness_impatient(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        probe = engine.node["livenessProbe"]
        if not probe or probe["exec"]:
            continue
        timeout = probe["timeoutSeconds"].number(1) or 1
        window = (probe["periodSeconds"].number(10) or 10) * (probe["failureThreshold"].number(3) or 3)
        if timeout <= 1 and window <= 30:
            node = probe["timeoutSeconds"]
            edits = patch.replace(node, "10") if node else patch.add_key(probe, ["timeoutSeconds: 10"])
            yield say(
                workload.obj,
                probe,
                f"{timeout:g} s to answer and {window:g} s of patience: a saturated server is killed "
                "with all its streams.",
                edits=edits,
            )


@rule(
    "probes/initial-delay-dead",
    "note",
    "A delay that does nothing",
    story="""While a startupProbe has not succeeded, the other probes do not run; afterwards
    initialDelaySeconds counts from the container's start and is over (kubelet prober/worker.go). It
    only makes the reader believe that it matters.""",
    cure="Remove initialDelaySeconds; the startupProbe does its work.",
    fixable=True,
)
def initial_delay_dead(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        if not engine.node["startupProbe"]:
            continue
        for name in ("readinessProbe", "livenessProbe"):
            probe = engine.node[name]
            delay = probe["initialDelaySeconds"]
            if (delay.number(0) or 0) > 5:
                yield say(
                    workload.obj,
                    delay,
                    f"{name}.initialDelaySeconds has no effect beside a startupProbe.",
                    edits=patch.remove_key(probe, "initialDelaySeconds"),
                )


@rule(
    "probes/port-mismatch",
    "error",
    "A probe asks a port that nothing listens on",
    story="""The probe's port is not vLLM's --port (8000 by default) and no named port of the container.
    Every probe fails with connection refused: the Pod never becomes ready, or the startup probe kills
    it for ever.""",
    cure="Name the port once (`ports: [{name: http, containerPort: 8000}]`) and use the name in all probes.",
)
def port_mismatch(world: Manifests, say: Say) -> Iterator[Finding]:
    # Of kinds that only hold Pod templates (StormService, JobSet) probe and command are written as of a Deployment.
    held = [
        (w, w.engine)
        for w in world.servers
        if w.partial and not w.obj.fragment and w.labels and not controllers.reads(w.obj.kind)
    ]
    for workload, engine in [*_engines(world), *held]:
        if not listens_alone(workload, engine):
            continue
        text = engine.command.value("--port") or "8000"
        if not text.isdigit():
            continue
        names = {p["name"].text(): p["containerPort"].text() for p in engine.node["ports"]}
        for name in PROBES:
            for how in ("httpGet", "tcpSocket", "grpc"):
                port = engine.node.at(name, how, "port")
                if not port:
                    continue
                number = port.text() if port.text().isdigit() else names.get(port.text())
                if number is None:
                    yield say(
                        workload.obj,
                        port,
                        f"{name} asks port {port.text()!r}, and the container names no such port: it always fails.",
                    )
                elif number != text and how != "grpc":
                    yield say(
                        workload.obj,
                        port,
                        f"{name} asks port {number}, vLLM listens on {text}: it always fails.",
                    )


@rule(
    "probes/engine-gives-up",
    "warning",
    "vLLM itself gives up after 600 s",
    story="""VLLM_ENGINE_READY_TIMEOUT_S is 600 s: whatever the probes allow, the API server raises when
    its engine is not ready by then, and the container restarts (vllm/envs.py). A start-up budget above
    it needs it raised as well.""",
    cure="Set the environment variable VLLM_ENGINE_READY_TIMEOUT_S to the start-up budget.",
    fixable=True,
)
def engine_gives_up(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        load = load_s(world, workload, engine)
        if (
            load is None
            or engine.env(environment.READY_TIMEOUT_S)
            or load.total_s < _CLEARLY * ENGINE_TIMEOUT_S
        ):
            continue
        if engine.version < (0, 10) or not engine.plain_flags:
            continue
        env = engine.node["env"]
        want = int(1.5 * load.total_s)
        lines = ["env:", "- name: VLLM_ENGINE_READY_TIMEOUT_S", f'  value: "{want}"']
        yield say(
            workload.obj,
            env if env else engine.node,
            f"the API server gives up after {ENGINE_TIMEOUT_S} s whatever the probes allow: "
            f"{show_load(load)}.",
            f'Set VLLM_ENGINE_READY_TIMEOUT_S: "{want}".',
            edits=() if env else patch.add_key(engine.node, lines),
        )


@rule(
    "probes/progress-deadline",
    "warning",
    "The rollout is declared failed while Pods still load",
    story="""progressDeadlineSeconds is 600 by default. When a Pod is allowed to load longer, the
    Deployment is marked `ProgressDeadlineExceeded` in the middle of a healthy rollout: Helm, Argo CD
    and Flux roll back or stop there.""",
    cure="Set progressDeadlineSeconds above the start-up budget.",
    fixable=True,
)
def progress_deadline(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        if workload.obj.kind != "Deployment" or not (
            engine.node["startupProbe"] or engine.node["readinessProbe"]
        ):
            continue  # without either the Pod is ready at once
        spec = workload.obj.spec
        load = load_s(world, workload, engine)
        startup = engine.node["startupProbe"]
        budget, usual = budget_s(startup) if startup else 0.0, load.total_s if load else 0.0
        allowed = max(budget, usual)
        node = spec["progressDeadlineSeconds"]
        have = node.number(PROGRESS_DEADLINE_S) or PROGRESS_DEADLINE_S
        if budget >= have or usual > _CLEARLY * have:
            want = int(allowed * 1.25) + 60
            edits = (
                patch.replace(node, str(want))
                if node
                else patch.add_key(spec, [f"progressDeadlineSeconds: {want}"])
            )
            yield say(
                workload.obj,
                node,
                f"the rollout fails after {have:g} s while a Pod may need {allowed:.0f} s to start.",
                f"Set progressDeadlineSeconds: {want}.",
                edits=edits,
            )


_CLEARLY = 1.1
"""How far an estimate has to be above a limit before it is worth a word: it is an estimate."""
_ALWAYS = re.compile(r"^(/(usr/)?bin/)?(true|echo|ls|date|:|exit 0)\b")
_SWALLOWED = re.compile(r"(\|\|\s*(true|exit 0|:)|;\s*(true|exit 0|echo [^;|&]*))\s*$")


def always_succeeds(probe: YamlNode) -> str:
    """Why an exec probe succeeds whatever the engine does; empty when it can fail."""
    words = [n.text() for n in probe.at("exec", "command")]
    if not words:
        return ""
    shell = words[0].rsplit("/", 1)[-1] in ("sh", "bash", "ash")
    script = words[-1].strip() if shell and len(words) > 1 else " ".join(words)
    if _ALWAYS.match(script) and not re.search(r"&&|\|(?!\|)|;", script):
        return f"`{script[:40]}` asks nothing"
    if shell and _SWALLOWED.search(script):
        return "the script ends in a success of its own"
    if (
        re.search(r"ps (aux|-ef|ax)\S*\s*\|\s*grep", script)
        and "grep -v grep" not in script
        and "[" not in script
    ):
        return "grep finds its own process"
    curl = re.search(r"\bcurl\b(?P<flags>[^|;&]*)", script)
    if (
        curl
        and not re.search(r"\s(-\w*f\w*|--fail\S*)\b", curl["flags"])
        and not re.search(r"[|;&]|\$\(|%\{", script)
    ):
        return "curl without --fail succeeds on an HTTP 503 too"
    return ""


@rule(
    "probes/always-succeeds",
    "error",
    "A probe that cannot fail",
    story="""An exec probe fails when its command's exit status is not 0. `curl` without --fail is
    content with any answer, 503 included; `|| true` and a last `echo` hide every failure. As a
    readiness probe it lets clients in while the model loads, as a startup probe it ends the start-up
    budget at once, as a liveness probe it never restarts anything.""",
    cure="Use httpGet on /health, or `curl --fail`.",
)
def probe_always_succeeds(world: Manifests, say: Say) -> Iterator[Finding]:
    effects = {
        "startupProbe": "the start-up budget ends at once, and the liveness probe judges a model that loads",
        "readinessProbe": "clients are let in whatever state the engine is in",
        "livenessProbe": "a hung engine is never restarted",
    }
    for workload in world.servers:
        parts = [
            part for _, part in workload.obj.spec["services"].items()
        ]  # Dynamo writes probes beside its Pods
        for holder in [*(engine.node for engine in workload.engines), *parts]:
            for name, effect in effects.items():
                why = always_succeeds(holder[name])
                if why:
                    worst = name == "readinessProbe" or (
                        name == "startupProbe" and bool(holder["livenessProbe"])
                    )
                    severity: Severity = "error" if worst and "curl" not in why else "warning"
                    yield say(workload.obj, holder[name], f"{name}: {why}; {effect}.", severity=severity)
