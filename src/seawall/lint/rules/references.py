"""Rules about what is named in one object and stands in another: Secrets and their values, ConfigMaps, accounts."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.rules.schema import open_text
from seawall.lint.rules.weights import hub_id, offline
from seawall.lint.size import downloads
from seawall.lint.world import Manifests


@rule(
    "api/not-base64",
    "error",
    "A Secret's data that is not base64",
    story="""What stands under a Secret's `data` is base64; plain text belongs under `stringData`. The API
    server refuses the object: `illegal base64 data at input byte 0`.""",
    cure="Move it to stringData.",
)
def not_base64(world: Manifests, say: Say) -> Iterator[Finding]:
    for secret in world.kinds("Secret"):
        for key, node in secret.node["data"].items():
            if (
                isinstance(node.value, str)
                and node.text()
                and not open_text(node)
                and _decoded(node.text()) is None
            ):
                text = f"{key} is not base64: the API server refuses the Secret."
                if not re.search(r"(?i)base64|encoded|your|replace|<|\.\.\.", node.text()):
                    yield say(secret, node, text)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


@rule(
    "command/newline-in-secret",
    "error",
    "A token that ends in a line break",
    story="""`echo token | base64` encodes the line break as well (`echo -n` does not), and a block in YAML
    (`|`) keeps it. As a header it is refused before anything is sent: `Illegal header value b'Bearer
    hf_...\\n'`; as an API key it is another key than the client's.""",
    cure="Encode it with `printf %s TOKEN | base64`, or write it under stringData in one line.",
)
def newline_in_secret(world: Manifests, say: Say) -> Iterator[Finding]:
    read = set(_keys(world))
    for secret in world.kinds("Secret"):
        values = [(k, n, _decoded(n.text())) for k, n in secret.node["data"].items()]
        values += [(k, n, n.text().encode()) for k, n in secret.node["stringData"].items()]
        for key, node, value in values:
            used = (secret.namespace, secret.name, key) in read
            if used and value and value.count(b"\n") == 1 and value.endswith(b"\n"):
                yield say(secret, node, f"{key} ends in a line break: as a token or a key it is refused.")


def _keys(world: Manifests) -> Iterator[tuple[str, str, str]]:
    """(namespace, Secret, key) of the variables of containers with vLLM, and of their init containers."""
    for workload in world.workloads:
        for container in [*workload.pod["initContainers"], *workload.pod["containers"]]:
            for item in container["env"]:
                ref = item.at("valueFrom", "secretKeyRef")
                yield workload.obj.namespace, ref["name"].text(), ref["key"].text()


@rule(
    "command/object-elsewhere",
    "error",
    "A Secret, ConfigMap or account that is not in this namespace",
    story="""A Pod takes Secrets, ConfigMaps and its ServiceAccount from its own namespace only. Where the one
    that it names is not there, the container is not made (`CreateContainerConfigError`, `MountVolume.SetUp
    failed`) or the Pod is not (`serviceaccount not found`). Reported when one of that name stands in another
    namespace of the same files, or when it is nearly the name of one here that nobody uses.""",
    cure="Write it into the Pod's namespace, or correct the name.",
)
def object_elsewhere(world: Manifests, say: Say) -> Iterator[Finding]:
    made = {(o.kind, o.namespace, o.name) for o in world.kinds("Secret", "ConfigMap", "ServiceAccount")}
    for workload in world.workloads:
        named = list(_named(workload.pod))
        used = {(kind, node.text()) for kind, node in named}
        for kind, node in named:
            space, name = workload.obj.namespace, node.text()
            if not name or open_text(node) or (kind, space, name) in made or name == "default":
                continue
            others = sorted({s for k, s, n in made if (k, n) == (kind, name)})
            free = [
                n for k, s, n in made if (k, s) == (kind, space) and (k, n) not in used and _alike(n, name)
            ]
            if others and workload.obj.node.at("metadata", "namespace"):
                text = f"the {kind} {name} stands in namespace {others[0]}, and the Pod in {space}: it finds none."
                yield say(workload.obj, node, text)
            elif free:
                text = f"there is no {kind} {name} here, and nobody uses {free[0]}."
                yield say(workload.obj, node, text, f"Did you mean {free[0]}?", severity="warning")


def _alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _named(pod: YamlNode) -> Iterator[tuple[str, YamlNode]]:
    yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod["volumes"]:
        yield "Secret", volume.at("secret", "secretName")
        yield "ConfigMap", volume.at("configMap", "name")
    for container in [*pod["initContainers"], *pod["containers"]]:
        for source in container["envFrom"]:
            yield "Secret", source.at("secretRef", "name")
            yield "ConfigMap", source.at("configMapRef", "name")
        for item in container["env"]:
            yield "Secret", item.at("valueFrom", "secretKeyRef", "name")
            yield "ConfigMap", item.at("valueFrom", "configMapKeyRef", "name")


@rule(
    "network/no-egress",
    "error",
    "A policy that lets nothing out, and weights from the hub",
    story="""A NetworkPolicy with `Egress` among its types and no egress rule lets nothing out of the Pods that
    it selects, DNS neither: the download from the hub ends with `Name or service not known` or a time-out.""",
    cure="Allow egress to DNS (port 53) and to the hub (443), or serve weights from a volume with HF_HUB_OFFLINE=1.",
)
def no_egress(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        if not any(hub_id(e) and downloads(e) and not offline(e) for e in workload.engines):
            continue
        policies = world.selecting(workload, "NetworkPolicy")
        if any(p.spec["egress"].elements for p in policies):
            continue  # policies add up
        for policy in policies:
            types = {t.text() for t in policy.spec["policyTypes"]}
            if "Egress" in types:
                text = "nothing may leave these Pods, DNS neither: the model is not downloaded."
                yield say(policy, policy.spec["policyTypes"], text)


@rule(
    "storage/mounted-nowhere",
    "warning",
    "A volume that no container mounts",
    story="""A claim among the Pod's volumes is attached, and no container sees it without a volumeMount: what
    should have been kept is written to the container's own disk, and downloaded again at the next start.""",
    cure="Add a volumeMount of that name to the container.",
)
def mounted_nowhere(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.whole_servers:
        containers = [*workload.pod["initContainers"], *workload.pod["containers"]]
        mounted = {m["name"].text() for c in containers for m in [*c["volumeMounts"], *c["volumeDevices"]]}
        for volume in workload.pod["volumes"]:
            claim = volume.at("persistentVolumeClaim", "claimName")
            if claim and volume["name"].text() not in mounted and workload.obj.kind != "InferenceService":
                text = (
                    f"no container mounts the volume {volume['name'].text()}: what is "
                    f"on the claim {claim.text()} is not seen."
                )
                yield say(workload.obj, volume["name"], text)


@rule(
    "command/words-in-one",
    "error",
    "A hook or probe whose command is one string",
    story="""An exec of a probe or a hook starts no shell: `command: ["sleep 15"]` looks for a program of that
    whole name. A preStop hook fails at once (`FailedPreStopHook`) and SIGTERM comes without a delay; a probe
    always fails.""",
    cure='Write one item per word: command: ["sleep", "15"], or ["sh", "-c", "..."].',
)
def words_in_one(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.objects:
        for pod, _ in () if obj.fragment else pod_specs(obj):
            for container in [*pod["initContainers"], *pod["containers"]]:
                for name, node in _execs(obj, container):
                    words = node.text().split()
                    if len(words) > 1 and not open_text(node):
                        yield say(
                            obj, node, f"{name}: no program is called `{node.text()[:40]}`: it always fails."
                        )


def _execs(obj: Obj, container: YamlNode) -> Iterator[tuple[str, YamlNode]]:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield name, container.at(name, "exec", "command", 0)
    for hook in ("preStop", "postStart"):
        yield hook, container.at("lifecycle", hook, "exec", "command", 0)
