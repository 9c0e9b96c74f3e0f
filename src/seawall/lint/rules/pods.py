"""Rules about Pods that the API server's own validation refuses: every field is known and typed, and together they
are no Pod. Source: Kubernetes' pkg/apis/core/validation.

Forbidden here: names and quantities (`names.py`), fields and types (`schema.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.kinds import pod_specs
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.rules.resources import cores, quantity
from seawall.lint.rules.schema import open_text, whole
from seawall.lint.world import Manifests

Wrong = Iterator[tuple[YamlNode, str]]
"""(where it stands, what is wrong with it)."""
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HANDLERS = ("httpGet", "exec", "tcpSocket", "grpc", "sleep")
_SOURCES_BESIDE = {"name"}


@rule(
    "api/not-a-pod",
    "error",
    "A Pod that the API server refuses",
    story="""Some things are checked over several fields: a mount names a volume of the Pod, requests are not above
    limits, a GPU stands under limits, a probe has one way to ask and a port, a liveness probe succeeds once, two
    volumes, containers, mounts or ports have different names or paths, a variable has a value or a source, a
    toleration with Exists has no value. `kubectl apply` of a Pod fails; of a Deployment it succeeds for some of them,
    and its ReplicaSet makes no Pod (`FailedCreate`). Spelt the same way in every version of Kubernetes in use.""",
    cure="Write what the message asks for.",
)
def not_a_pod(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.objects:
        for pod, _ in () if obj.fragment else pod_specs(obj):
            for node, why in _of_pod(obj, pod):
                if not open_text(node):
                    yield say(obj, node, f"{why}: the API server refuses it.")


def _of_pod(obj: Obj, pod: YamlNode) -> Wrong:
    containers = [*pod["initContainers"], *pod["containers"]]
    yield from _twice(pod["volumes"], "name", "two volumes are named {}")
    yield from _twice(containers, "name", "two containers are named {}")
    for container in containers:
        if whole(obj):
            yield from _missing(obj, pod, container)
        yield from _twice(container["volumeMounts"], "mountPath", "two volumes are mounted at {}")
        yield from _twice(container["ports"], "name", "two ports are named {}")
        yield from _resources(container)
        yield from _variables(container["env"])
        for name in _PROBES:
            yield from _probe(name, container[name])
        for hook in ("preStop", "postStart"):
            yield from _one_handler(hook, container.at("lifecycle", hook))
    for volume in pod["volumes"]:
        yield from _volume(volume)
    for toleration in pod["tolerations"]:
        yield from _toleration(toleration)
    yield from _affinity(pod, whole(obj))


def _missing(obj: Obj, pod: YamlNode, container: YamlNode) -> Wrong:
    """What a container lacks; of patches and of kinds whose controllers add to their Pods nobody can say."""
    yield from _mounts(obj, pod, container)
    for key, node in container.at("resources", "requests").items():
        if "/" in key and not container.at("resources", "limits", key) and node.text() not in ("", "0"):
            yield node, f"{key} is requested without a limit, and devices cannot be overcommitted"
    for name in _PROBES:
        probe = container[name]
        if probe.entries and not any(probe[key] for key in _HANDLERS):
            yield probe, f"{name} says nothing of how to ask (httpGet, exec, tcpSocket or grpc)"
        for how in ("httpGet", "tcpSocket"):
            if probe[how].entries is not None and not probe[how]["port"]:
                yield probe[how], f"{name}.{how} has no port"


def _twice(items: Iterable[YamlNode], key: str, said: str) -> Wrong:
    seen: Counter[str] = Counter()
    for item in items:
        text = item[key].text().rstrip("/") if key == "mountPath" else item[key].text()
        seen[text] += 1
        if text and seen[text] == 2:
            yield item[key], said.format(text)


def _mounts(obj: Obj, pod: YamlNode, container: YamlNode) -> Wrong:
    claims = [t.at("metadata", "name").text() for t in obj.spec["volumeClaimTemplates"]]
    known = {v["name"].text() for v in pod["volumes"]} | set(claims)
    if any("{" in name or "$" in name for name in known):
        return
    for mount in container["volumeMounts"]:
        name = mount["name"]
        if name and name.text() not in known:
            has = ", ".join(sorted(known)[:5]) or "none"
            yield name, f"no volume of the Pod is named {name.text()} (there is {has})"
        path = mount["subPath"].text()
        if path.startswith("/") or ".." in path.split("/"):
            yield mount["subPath"], f"subPath {path} is not a relative path"


def _resources(container: YamlNode) -> Wrong:
    limits, requests = container.at("resources", "limits"), container.at("resources", "requests")
    for key, node in requests.items():
        limit = limits[key]
        asked, most = (cores(node), cores(limit)) if key == "cpu" else (quantity(node), quantity(limit))
        if asked is not None and most is not None and asked > most and "/" not in key and limit:
            yield node, f"{node.text()} of {key} are requested and the limit is {limit.text()}"
    for key, node in limits.items():
        if key in ("gpu", "gpus", "nvidia", "GPU"):
            yield node, f"{key} is no resource: the name is nvidia.com/gpu (amd.com/gpu)"


def _variables(env: YamlNode) -> Wrong:
    for item in env:
        if item["valueFrom"].entries and item["value"].text():
            yield item["valueFrom"], f"{item['name'].text()} has a value and a valueFrom"
        path = item.at("valueFrom", "fieldRef", "fieldPath")
        text = path.text()
        if text and text not in _FIELDS and not text.startswith(("metadata.labels", "metadata.annotations")):
            yield path, f"a variable cannot be taken from {text}"


_FIELDS = {
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
}  # fmt: skip


def _probe(name: str, probe: YamlNode) -> Wrong:
    yield from _one_handler(name, probe)
    once = probe["successThreshold"]
    if name != "readinessProbe" and once and once.number(1) != 1:
        yield once, f"{name}.successThreshold must be 1"
    for key in ("timeoutSeconds", "periodSeconds", "failureThreshold", "initialDelaySeconds"):
        if (probe[key].number(0) or 0) < 0:
            yield probe[key], f"{name}.{key} is below 0"


def _one_handler(name: str, probe: YamlNode) -> Wrong:
    found = [key for key in _HANDLERS if probe[key]]
    if len(found) > 1:
        yield probe[found[1]], f"{name} has {' and '.join(found)}, and may have one of them"


def _volume(volume: YamlNode) -> Wrong:
    sources = [key for key in volume.entries or {} if key not in _SOURCES_BESIDE]
    if len(sources) > 1:
        yield volume[sources[1]], f"the volume {volume['name'].text()} is {' and '.join(sources)} at once"
    medium = volume.at("emptyDir", "medium")
    if medium.text() and medium.text() != "Memory" and not medium.text().startswith("HugePages"):
        yield medium, f"{medium.text()} is no medium (Memory, with a capital M)"


def _toleration(toleration: YamlNode) -> Wrong:
    operator, effect = toleration["operator"].text("Equal"), toleration["effect"].text()
    if operator == "Exists" and toleration["value"].text():
        yield toleration["value"], "a toleration with operator Exists has no value"
    if operator not in ("Exists", "Equal", "Lt", "Gt"):
        yield toleration["operator"], f"{operator} is no operator of a toleration"
    if effect and effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        yield toleration["effect"], f"{effect} is no effect (NoSchedule, PreferNoSchedule, NoExecute)"
    if toleration["tolerationSeconds"] and effect not in ("", "NoExecute"):
        yield toleration["tolerationSeconds"], "tolerationSeconds goes with the effect NoExecute only"


_REQUIRED, _WISHED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def _affinity(pod: YamlNode, whole: bool) -> Wrong:
    for spread in pod["topologySpreadConstraints"] if whole else ():
        for key in ("whenUnsatisfiable", "topologyKey", "maxSkew"):
            if not spread[key]:
                yield spread, f"a topology spread constraint needs {key}"
    node = pod.at("affinity", "nodeAffinity")
    terms = [*node.at(_REQUIRED, "nodeSelectorTerms"), *(w["preference"] for w in node[_WISHED])]
    for expression in (e for term in terms for e in term["matchExpressions"]):
        operator, values = expression["operator"].text(), list(expression["values"])
        if operator in ("In", "NotIn") and not values and "{" not in expression["values"].text():
            yield expression, f"{operator} needs values"
        if operator in ("Exists", "DoesNotExist") and values:
            yield expression["values"], f"{operator} takes no values"
    for kind in ("podAffinity", "podAntiAffinity"):
        wishes = list(pod.at("affinity", kind, _WISHED))
        for term in [*pod.at("affinity", kind, _REQUIRED), *(w["podAffinityTerm"] for w in wishes)]:
            if term.entries and not term["topologyKey"]:
                yield term, f"a term of {kind} needs topologyKey"
        for wish in [*wishes, *node[_WISHED]]:
            if wish.entries and not wish["weight"]:
                yield wish, "a preferred term needs a weight"


@rule(
    "api/not-together",
    "error",
    "Fields that cannot stand together",
    story="""A Deployment with strategy Recreate has no rollingUpdate; one that may neither add a Pod nor take one away
    (maxSurge 0, maxUnavailable 0) could never roll; progressDeadlineSeconds is above minReadySeconds; a
    PodDisruptionBudget has minAvailable or maxUnavailable; a Service with several ports names each; a Job's Pods
    restart Never or OnFailure; a claim says how it is mounted and how large it is; an HPA's window is an hour at
    most. The API server refuses the object.""",
    cure="Write what the message asks for.",
)
def not_together(world: Manifests, say: Say) -> Iterator[Finding]:
    checks = {
        "Deployment": _deployment, "PodDisruptionBudget": _budget, "Service": _service, "Job": _job,
        "PersistentVolumeClaim": _claim,
        "Ingress": _ingress, "HorizontalPodAutoscaler": _behavior, "ScaledObject": _behavior,
    }  # fmt: skip
    for kind, check in checks.items():
        for obj in world.kinds(kind):
            for node, why in check(obj):
                if not open_text(node):
                    yield say(obj, node, f"{why}: the API server refuses the object.")


def _deployment(obj: Obj) -> Wrong:
    strategy, rolling = obj.spec["strategy"], obj.spec.at("strategy", "rollingUpdate")
    if strategy["type"].text() == "Recreate" and rolling.entries:
        yield rolling, "rollingUpdate goes with the strategy RollingUpdate only"
    if rolling["maxSurge"].text() in ("0", "0%") and rolling["maxUnavailable"].text() in ("0", "0%"):
        yield rolling["maxUnavailable"], "maxSurge and maxUnavailable are both 0"
    deadline, ready = obj.spec["progressDeadlineSeconds"], obj.spec["minReadySeconds"]
    if ready and (ready.number(0) or 0) >= (deadline.number(600) or 600):
        yield ready, "minReadySeconds is not below progressDeadlineSeconds"


def _budget(obj: Obj) -> Wrong:
    if obj.spec["minAvailable"] and obj.spec["maxUnavailable"]:
        yield obj.spec["maxUnavailable"], "minAvailable and maxUnavailable are both set"


def _service(obj: Obj) -> Wrong:
    ports = list(obj.spec["ports"])
    if obj.api != "v1":
        return
    if len(ports) > 1:
        yield from ((p, "a Service with several ports names each of them") for p in ports if not p["name"])
    bare = obj.spec["type"].text() == "ExternalName" or obj.spec["clusterIP"].text() == "None"
    if obj.spec["selector"] and not ports and not bare and "{" not in str(obj.name):
        yield obj.spec, "a Service without ports"
    for port in ports:
        number = port["nodePort"].number()
        if number and not 30000 <= number <= 32767:
            yield port["nodePort"], f"nodePort {number:.0f} is outside of 30000 to 32767"


def _job(obj: Obj) -> Wrong:
    pod = obj.spec.at("template", "spec")
    policy = pod["restartPolicy"]
    if obj.api == "batch/v1" and pod.at("containers", 0, "image") and policy.text("Always") == "Always":
        yield policy or pod, "a Job's Pods restart Never or OnFailure"


def _ingress(obj: Obj) -> Wrong:
    for path in (p for r in obj.spec["rules"] for p in r.at("http", "paths")):
        if obj.api == "networking.k8s.io/v1" and path.entries and not path["pathType"]:
            yield path, "a path of an Ingress needs pathType"


def _claim(obj: Obj) -> Wrong:
    if not obj.spec["accessModes"] and not obj.spec["resources"]:
        return  # a patch
    if not obj.spec["accessModes"]:
        yield obj.spec, "a claim without accessModes"
    if not obj.spec.at("resources", "requests", "storage"):
        yield obj.spec["resources"] or obj.spec, "a claim without resources.requests.storage"


def _behavior(obj: Obj) -> Wrong:
    advanced = obj.spec.at("advanced", "horizontalPodAutoscalerConfig", "behavior")
    for part in ("scaleUp", "scaleDown"):
        body = (obj.spec["behavior"] if obj.kind == "HorizontalPodAutoscaler" else advanced)[part]
        window, chosen = body["stabilizationWindowSeconds"], body["selectPolicy"]
        if (window.number(0) or 0) > 3600:
            yield window, "a stabilization window is 3600 s at most"
        if chosen.text() not in ("", "Max", "Min", "Disabled"):
            yield chosen, f"{chosen.text()} is no selectPolicy (Max, Min, Disabled)"
        for policy in body["policies"]:
            if (policy["periodSeconds"].number(0) or 0) > 1800:
                yield policy["periodSeconds"], "a policy's period is 1800 s at most"
