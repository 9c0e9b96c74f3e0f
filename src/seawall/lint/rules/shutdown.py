"""Rules about how a replica stops: the one relation of preStop, --shutdown-timeout and the grace period."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container
from seawall.lint.patch import Patcher
from seawall.lint.world import Manifests

PRE_STOP_S = 15
DRAIN_S = 90
DEFAULT_GRACE_S = 30
SLACK_S = 2
_DRAINS_SINCE = (0, 18)
"""The first release with --shutdown-timeout."""


def pre_stop_s(container: YamlNode) -> float | None:
    """Seconds that the preStop hook waits: `sleep`, or a `sleep N` in an exec; None without a hook, 0 when unknown."""
    hook = container.at("lifecycle", "preStop")
    if not hook:
        return None
    seconds = hook.at("sleep", "seconds").number()
    if seconds is not None:
        return seconds
    words = " ".join(n.text() for n in hook.at("exec", "command"))
    return max((float(s) for s in re.findall(r"sleep\s+(\d+(?:\.\d+)?)", words)), default=0.0)


def drain_s(engine: Container) -> float | None:
    """--shutdown-timeout in seconds; None when it is absent."""
    try:
        value = engine.command.value("--shutdown-timeout")
        return None if value is None else float(value)
    except ValueError:
        return None


def grace(pod: YamlNode) -> float:
    return pod["terminationGracePeriodSeconds"].number(DEFAULT_GRACE_S) or 0.0


@rule(
    "shutdown/aborts-streams",
    "error",
    "SIGTERM aborts running requests",
    story="""vLLM's default --shutdown-timeout is 0: on SIGTERM it aborts what runs. Measured on 0.32 with
    streams open: in three of five trials they hung without data or end, in the others they ended with an
    error or finish_reason "abort". Every rollout, scale-down and drain does this to every client of the
    stopped replica. With --shutdown-timeout 30 all finished.""",
    cure="Add --shutdown-timeout 90 (vLLM 0.18 and later; longer than your longest stream), with a preStop delay "
    "and a grace period above both.",
    fixable=True,
)
def aborts_streams(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.whole_servers:
        engine = workload.engine
        if not engine.plain_flags or engine.command.option("--config") or engine.version < _DRAINS_SINCE:
            continue
        if engine.command.is_open or engine.command.demo:
            continue
        seconds = drain_s(engine)
        option = engine.command.option("--shutdown-timeout")
        sure = engine.pinned and workload.obj.kind != "Pod"
        if option is None:
            edits = (
                ()
                if engine.command.script or not engine.pinned
                else patch.add_items(engine.node["args"], ["--shutdown-timeout", str(DRAIN_S)])
            )
            yield say(
                workload.obj,
                engine.node["args"] or engine.command.node,
                "on SIGTERM vLLM aborts what it is decoding (--shutdown-timeout is 0): every "
                "rollout, scale-down and node drain "
                "cuts or hangs all streams of a replica.",
                severity=None if sure else "warning",
                edits=edits,
            )
        elif seconds == 0:
            yield say(
                workload.obj,
                option.node,
                "--shutdown-timeout 0 aborts every running stream on SIGTERM.",
                edits=patch.replace(option.value_node, str(DRAIN_S))
                if option.value_node is not option.node
                else (),
            )


@rule(
    "shutdown/no-prestop",
    "error",
    "No delay before SIGTERM",
    story="""Endpoints are removed and SIGTERM is sent at the same time. Routers need seconds to notice;
    requests that still arrive at a draining vLLM get HTTP 500 or an empty 200 with finish_reason "abort"
    (its /health stays 200 meanwhile). A preStop sleep keeps the server whole until nobody routes to it. A
    warning where no Service in sight leads to the Pod.""",
    cure="Add lifecycle.preStop.sleep.seconds: 15 (GA in Kubernetes 1.34; before, an exec of `sleep 15`).",
    fixable=True,
)
def no_pre_stop(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.whole_servers:
        node = workload.engine.node
        seconds = pre_stop_s(node)
        if (
            workload.multi_node
            or workload.obj.kind == "InferenceService"
            or (seconds is not None and seconds >= 1)
        ):
            continue
        if seconds is None:
            lines = ["lifecycle:", "  preStop:", "    sleep:", f"      seconds: {PRE_STOP_S}"]
            yield say(
                workload.obj,
                node["lifecycle"],
                "SIGTERM comes before the routers have noticed: requests that still arrive get 500 "
                "or an empty answer marked `abort`.",
                severity=None if world.selecting(workload, "Service") else "warning",
                edits=() if node["lifecycle"] else patch.add_key(node, lines),
            )
        elif not node.at("lifecycle", "preStop", "httpGet"):
            yield say(
                workload.obj,
                node.at("lifecycle", "preStop"),
                "the preStop hook does not wait: SIGTERM comes before the routers have noticed.",
            )


@rule(
    "shutdown/grace-too-short",
    "error",
    "The grace period ends before the drain",
    story="""terminationGracePeriodSeconds (30 by default) covers the preStop hook and the drain together.
    When it runs out the kubelet sends SIGKILL: all streams that were still draining die. It must be longer
    than preStop + --shutdown-timeout.""",
    cure="Set terminationGracePeriodSeconds above preStop + --shutdown-timeout, e.g. 120 for 15 + 90.",
    fixable=True,
)
def grace_too_short(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.whole_servers:
        pod, engine = workload.pod, workload.engine
        wait, drain = pre_stop_s(engine.node) or 0.0, drain_s(engine)
        have = grace(pod)
        node = pod["terminationGracePeriodSeconds"]
        if drain is None and wait < have:
            continue  # without a drain vLLM ends at once: what is lost is lost to that
        need = int(wait + (drain or 0) + SLACK_S)
        if have >= need:
            continue
        want = int((wait or PRE_STOP_S) + (drain if drain is not None else DRAIN_S) + 15)
        lines = [f"terminationGracePeriodSeconds: {want}"]
        edits = patch.replace(node, str(want)) if node else patch.add_key(pod, lines)
        given = f"{have:g} s" if node else f"the default {have:g} s"
        said = (
            f"preStop {wait:g} s + drain {drain:g} s need more than {given}"
            if drain is not None
            else f"preStop alone takes {wait:g} s of {given}"
        )
        yield say(
            workload.obj,
            node,
            f"{said}; then the kubelet kills what still streams.",
            f"Set terminationGracePeriodSeconds: {want}.",
            edits=edits,
        )


def _bash_execs(shell: str, script: str) -> bool:
    """Whether bash, since 5.1, replaces itself by the script's last command.

    It does when that is a plain one (in no block, no pipe, nothing redirected), with nothing in the background on
    its line and nothing after it: tried on bash 5.2.
    """
    if shell.strip().rsplit("/", 1)[-1] != "bash" or script.endswith("\n\n"):
        return False
    whole = re.sub(r"\\\n", " ", script.strip().rstrip(";"))
    last = re.split(r";|&&|\n", whole)[-1]
    aside = re.search(r"(?<![&>])&(?![&>])", whole.rsplit("\n", 1)[-1])
    plain = not re.search(r"[|<>&]", last) and not re.match(r"\s*([#})]|done\b|fi\b|esac\b)", last)
    return "vllm" in last and plain and not aside


@rule(
    "shutdown/shell-swallows-sigterm",
    "warning",
    "A shell stands between SIGTERM and vLLM",
    story="""A shell that runs a script as process 1 does not pass SIGTERM on: vLLM never drains, and the
    kubelet kills it after the whole grace period. `exec` replaces the shell by vLLM.""",
    cure="Write `exec vllm serve ...` as the script's last command.",
)
def shell_swallows(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        for engine in workload.engines:
            if not engine.command.script:
                continue
            words = [n.text() for n in [*engine.node["command"], *engine.node["args"]]]
            script = next((w for w in words[1:] if not re.fullmatch(r"-\w+", w)), "")
            commands = [
                c
                for c in re.split(r"(?<!\\)\n|;|&&|(?<![&>])&(?![&>])", script.strip())
                if c.strip() and not c.strip().startswith("#")
            ]
            if "exec " in script or len(commands) < 2 or "trap" in script or _bash_execs(words[0], script):
                continue
            yield say(
                workload.obj,
                engine.command.node,
                f"{shlex.split(words[0])[0]} is process 1 and keeps SIGTERM for itself: vLLM never "
                "drains and is killed at the end of the grace period.",
            )
