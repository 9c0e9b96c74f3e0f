"""Rules about what a broken-into or misused replica could do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.engines.vllm import environment
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import runs_as_root
from seawall.lint.objects import Workload
from seawall.lint.patch import Patcher
from seawall.lint.world import Manifests

_SECRET_ENV = re.compile(r"(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)$")
_SECRET_VALUE = re.compile(
    r"\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|AKIA[A-Z0-9]{12,}|ghp_[A-Za-z0-9]{20,})"
)


_PLACEHOLDER = re.compile(
    r"your|replace|change[-_ ]?me|placeholder|example|dummy|insert|todo|xxx|\*\*\*|\.\.\.|<|>|\{"
    r"|not[-_ ]?(needed|used|required)|^empty$"
    r"|^none$|^[a-z]+(-[a-z]+){2,}$|^test|^fake|^sk-(test|none|no-key|local|1234)|token[-_]?here|_here$|abc123",
    re.I,
)


@rule(
    "security/root",
    "warning",
    "Runs as root",
    story="""The vLLM image runs as root unless the Pod says otherwise. A hole in a model's code or a
    parser is root in a container that has GPUs and tokens. Namespaces with Pod Security `restricted`
    refuse the Pod.""",
    cure="Set securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000}, and put "
    "HOME and caches on volumes.",
)
def root(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        if workload.partial:
            continue
        pod, mine = workload.pod["securityContext"], workload.engine.node["securityContext"]
        user = (mine["runAsUser"] or pod["runAsUser"]).number()
        root = runs_as_root(workload.engine.image)
        if (
            (mine["runAsNonRoot"] or pod["runAsNonRoot"]).value is True
            or user
            or (root is False and user is None)
        ):
            continue
        sure = root or user == 0
        yield say(
            workload.obj,
            mine or pod,
            "vLLM runs as root; namespaces with Pod Security `restricted` refuse the Pod."
            if sure
            else "nothing here keeps the image from running as root; namespaces with Pod Security `restricted` "
            "refuse the Pod.",
        )


@rule(
    "security/privileges",
    "warning",
    "Privileges that serving does not need",
    story="""allowPrivilegeEscalation is true and all default capabilities are kept unless the container
    says otherwise; privileged containers and host namespaces give the node away.""",
    cure="Set allowPrivilegeEscalation: false and capabilities: {drop: [ALL]} on every container.",
)
def privileges(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        if workload.partial:
            continue
        context = workload.engine.node["securityContext"]
        if context["privileged"].value is True:
            yield say(
                workload.obj,
                context["privileged"],
                "a privileged container owns its node.",
                "Remove privileged: a device plugin hands out GPUs without it.",
                severity="error"
                if workload.engine.vendor == "nvidia" and not workload.multi_node
                else "warning",
            )
        elif context["allowPrivilegeEscalation"].value is not False:
            yield say(
                workload.obj,
                context["allowPrivilegeEscalation"],
                "a process may gain more privileges than vLLM has.",
            )
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if workload.pod[name].value is True and not workload.multi_node:
                cure = (
                    "Mount an emptyDir {medium: Memory} at /dev/shm instead."
                    if name == "hostIPC"
                    else "Remove it."
                )
                yield say(
                    workload.obj,
                    workload.pod[name],
                    f"{name}: the container shares the node's own namespace with everything on it.",
                    cure,
                )


@rule(
    "security/seccomp",
    "note",
    "No seccomp profile",
    story="""Without seccompProfile RuntimeDefault the container may use every system call; Pod Security
    `restricted` refuses the Pod.""",
    cure="Set securityContext.seccompProfile: {type: RuntimeDefault}.",
)
def seccomp(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        pod = workload.pod["securityContext"]
        if (
            workload.partial
            or pod.at("seccompProfile", "type")
            or workload.engine.node.at("securityContext", "seccompProfile", "type")
        ):
            continue
        yield say(
            workload.obj,
            pod["seccompProfile"],
            "every system call is allowed; Pod Security `restricted` refuses the Pod.",
        )


@rule(
    "security/service-account-token",
    "warning",
    "A Kubernetes token inside the engine",
    story="""vLLM never talks to the Kubernetes API, yet every Pod gets a token for it unless told
    otherwise. Model code (--trust-remote-code, pickles, tool parsers) can read it.""",
    cure="Set automountServiceAccountToken: false.",
    fixable=True,
)
def service_account_token(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    off = {
        (o.namespace, o.name)
        for o in world.kinds("ServiceAccount")
        if o.node["automountServiceAccountToken"].value is False
    }
    for workload in world.workloads:
        node = workload.pod["automountServiceAccountToken"]
        account = workload.pod["serviceAccountName"].text("default")
        if workload.partial or node.value is False or ("Ray" in workload.obj.kind):
            continue
        if not node and (workload.obj.namespace, account) in off:
            continue
        edits = (
            patch.replace(node, "false")
            if node
            else patch.add_key(workload.pod, ["automountServiceAccountToken: false"])
        )
        yield say(
            workload.obj, node, "vLLM needs no Kubernetes token, and model code can read it.", edits=edits
        )


@rule(
    "security/secret-in-clear",
    "error",
    "A secret in the manifest",
    story="""A token or key written as a value is in Git, in `kubectl get -o yaml`, in every backup and,
    on the command line, in the node's process list.""",
    cure="Put it into a Secret and refer to it with valueFrom.secretKeyRef; then change it, it is known.",
)
def secret_in_clear(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        sources = [c["env"] for c in [*workload.pod["containers"], *workload.pod["initContainers"]]]
        for env in [*sources, *((*e.given.env, *e.given.from_maps) for e in workload.engines)]:
            for item in env:
                value = item["value"].text()
                named = (
                    _SECRET_ENV.search(item["name"].text().upper()) and len(value) >= 8 and "$" not in value
                )
                if (
                    value
                    and (named or _SECRET_VALUE.search(value))
                    and not value.startswith(("/", "vault:", "http"))
                    and not _PLACEHOLDER.search(value)
                ):
                    yield say(
                        workload.obj,
                        item["value"],
                        f"the value of {item['name'].text()} is a secret in clear text, for everybody who can "
                        "read this file.",
                    )
        yield from _in_scripts(workload, say)
        for engine in workload.engines:
            for name in ("--api-key", "--hf-token"):
                option = engine.command.option(name)
                if (
                    option
                    and option.value
                    and "$" not in option.value
                    and not _PLACEHOLDER.search(option.value)
                ):
                    yield say(
                        workload.obj,
                        option.node,
                        f"{name} with its value is in Git, in `kubectl get -o yaml` and in the node's process list.",
                        "Use the environment variable VLLM_API_KEY (or HF_TOKEN) from a Secret.",
                    )


def _in_scripts(workload: Workload, say: Say) -> Iterator[Finding]:
    """Tokens that a script exports or passes on."""
    for container in [*workload.pod["containers"], *workload.pod["initContainers"]]:
        for node in [*container["command"], *container["args"]]:
            found = re.search(r"\bhf_[A-Za-z0-9]{30,}\b", node.text())
            if found and len(set(found[0])) > 8:
                text = "a token of the hub stands in the script, for everybody who can read this file."
                yield say(workload.obj, node, text)


@rule(
    "security/dev-mode",
    "error",
    "Development endpoints in production",
    story="""VLLM_SERVER_DEV_MODE=1 opens /sleep, /pause, /collective_rpc, /reset_prefix_cache and
    /update_weights without a key (--api-key guards /v1, /v2 and /inference only): anybody who reaches
    the port can stop the server or replace its weights.""",
    cure="Remove VLLM_SERVER_DEV_MODE, or let only the operator reach the port.",
)
def dev_mode(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        for engine in workload.engines:
            item = engine.env(environment.DEV_MODE)
            if item and item["value"].text() not in ("", "0", "false"):
                yield say(
                    workload.obj,
                    item["value"],
                    "anybody who reaches the port can pause the server or replace its weights, without a key.",
                )


@rule(
    "security/remote-code",
    "warning",
    "Runs the repository's Python",
    story="""--trust-remote-code runs Python files of the model repository inside the engine. With a
    moving revision that is whatever its owner pushes next.""",
    cure="Remove it (vLLM supports most models itself), or pin --revision and --code-revision.",
)
def remote_code(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            option = engine.command.option("--trust-remote-code")
            pinned = engine.command.option("--revision") and engine.command.option("--code-revision")
            offline = (engine.env_value("HF_HUB_OFFLINE") or "").lower() in ("1", "true", "yes", "on")
            if (
                option
                and engine.command.on("--trust-remote-code")
                and not pinned
                and not offline
                and not (engine.model or "/").startswith("/")
            ):
                yield say(
                    workload.obj,
                    option.node,
                    "the engine runs whatever Python the repository's owner pushes next.",
                )


_SEES = re.compile(
    r"(?<![a-z])(vl|vlm|llava|pixtral|omni|internvl|minicpm-[vo]|paligemma|molmo|vision|multimodal|smolvlm)(?![a-z])",
    re.I,
)
"""Names of models that take images, audio or video."""


@rule(
    "security/media-urls",
    "warning",
    "Fetches whatever a request names",
    story="""A request to a multimodal model may name its images, audio and video by URL, and the engine
    fetches them from where it stands: the cloud's metadata service, the cluster's own services, a file
    of 10 GB. --allowed-local-media-path opens a folder of the Pod to every client in the same way.""",
    cure="Set --allowed-media-domains to the hosts that you serve media from (and "
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS=0), or take `data:` only; leave --allowed-local-media-path out.",
)
def media_urls(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        for engine in workload.engines:
            command = engine.command
            local = command.option("--allowed-local-media-path")
            if local and local.value:
                yield say(
                    workload.obj,
                    local.node,
                    f"every client may have files below {local.value} read into an answer.",
                )
            if _SEES.search(engine.model or "") and not command.option("--allowed-media-domains"):
                yield say(
                    workload.obj,
                    engine.model_node,
                    "the engine fetches any URL that a request names, inside the cluster, too.",
                )


@rule(
    "security/nowhere-to-write",
    "error",
    "The engine may not write where it writes",
    story="""vLLM, PyTorch, Triton and huggingface_hub write below $HOME/.cache and /tmp. With
    readOnlyRootFilesystem and no volume there, or as a user who is not root while the caches are
    mounted below /root (which only root may enter), start-up ends with `PermissionError` or `Read-only
    file system`.""",
    cure="Set HOME (and HF_HOME, VLLM_CACHE_ROOT) to a folder on an emptyDir or claim, and mount an emptyDir at /tmp.",
)
def nowhere_to_write(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        pod = workload.pod["securityContext"]
        for engine in workload.engines:
            mine, paths = (
                engine.node["securityContext"],
                [m["mountPath"] for m in engine.node["volumeMounts"]],
            )
            at = [p.text().rstrip("/") for p in paths]
            if mine["readOnlyRootFilesystem"].value is True and not any(p in ("", "/tmp") for p in at):
                yield say(
                    workload.obj,
                    mine["readOnlyRootFilesystem"],
                    "the root file system is read-only and no volume is mounted at /tmp: the engine's start ends with "
                    "`Read-only file system`.",
                )
            user = (mine["runAsUser"] or pod["runAsUser"]).number()
            below = next((p for p in paths if re.match(r"/root(/|$)", p.text())), None)
            home = engine.env("HOME") or engine.env("HF_HOME") or engine.env("HF_HUB_CACHE")
            if user and below is not None and not home:
                yield say(
                    workload.obj,
                    below,
                    f"user {user:.0f} may not enter /root: what is mounted at {below.text()} is out of reach "
                    "(`PermissionError`).",
                )
