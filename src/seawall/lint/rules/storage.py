"""Rules about the claims that hold the weights: access modes, who fills them, how fast they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.domain.units import show_seconds
from seawall.lint.command import Option
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import is_official
from seawall.lint.kinds import pod_specs
from seawall.lint.objects import Container, Obj, Workload
from seawall.lint.rules.resources import quantity
from seawall.lint.rules.rollout import surge_of
from seawall.lint.size import load_s, weights_bytes
from seawall.lint.world import Manifests

# Class names (parts of them) whose volumes attach to one node only.
_ONE_NODE = re.compile(
    r"^(gp2|gp3|io1|io2|st1|sc1)\b|ebs|^managed(-csi)?(-premium)?$|^managed-premium|azuredisk|cinder|vsphere|^local-path$|topolvm|openebs-(lvm|zfs|local)"
)
_GCE_DISK = re.compile(r"premium-rwo|standard-rwo|^standard$|pd-|hyperdisk")
_ONE_MACHINE = re.compile(r"^(local-path|hostpath|standard|microk8s-hostpath|local-storage)$")
"""Classes of clusters that are often one machine, where a second replica finds the volume on its own node."""
_SLOW_S = 600.0


_LOCAL = re.compile(
    r"^(local-path|hostpath|microk8s-hostpath|local-storage|local)$|topolvm|openebs-(lvm|zfs|local|hostpath)"
)


def _stays(claim: Obj) -> bool:
    """Whether the volume is a folder or disk of one node, to which the scheduler sends every Pod that mounts it."""
    return bool(_LOCAL.search(claim.spec["storageClassName"].text()))


def _modes(claim: Obj) -> list[str]:
    return [n.text() for n in claim.spec["accessModes"]]


def _source(claim: Obj) -> bool:
    return any(claim.spec[key] for key in ("dataSource", "dataSourceRef", "volumeName"))


@rule(
    "storage/rox-unfilled",
    "error",
    "A read-only claim that nobody can fill",
    story="""A ReadOnlyMany claim without a data source is an empty disk that every Pod mounts
    read-only. An init container that is to download into it fails to write. What works: a loader Job on
    a ReadWriteMany claim with read-only mounts, an OCI image volume, an object-store streamer, or a
    read-only disk made from a snapshot (dataSource) that was filled before.""",
    cure="Use ReadWriteMany with a loader Job, or give the claim a dataSource.",
)
def rox_unfilled(world: Manifests, say: Say) -> Iterator[Finding]:
    for claim in world.kinds("PersistentVolumeClaim"):
        if _modes(claim) != ["ReadOnlyMany"] or _source(claim) or _offered(world, claim):
            continue
        writers = [
            w
            for w in world.workloads
            for c, _, _ in world.claims_of(w)
            if c is claim and w.pod["initContainers"]
        ]
        said = " (the init container that should fill it mounts it read-only)" if writers else ""
        yield say(
            claim,
            claim.spec["accessModes"][0],
            f"an empty disk that every Pod may only read: nobody can put the weights there{said}.",
        )


def _offered(world: Manifests, claim: Obj) -> bool:
    """Whether a PersistentVolume in sight, filled by somebody, is there for a claim of this class."""
    name = claim.spec["storageClassName"].text()
    return any(
        "ReadOnlyMany" in [m.text() for m in volume.spec["accessModes"]]
        and volume.spec["storageClassName"].text() == name
        for volume in world.kinds("PersistentVolume")
    )


@rule(
    "storage/access-mode",
    "error",
    "An access mode that the storage class does not have",
    story="""EBS (gp3) and Azure disks attach to one node: ReadWriteOnce only. The claim stays Pending
    or the second Pod gets a Multi-Attach error. GCE disks (premium-rwo is a GKE class, not Azure's) can
    be ReadOnlyMany only when made from a filled source, and never ReadWriteMany as a file system.""",
    cure="Use a file class (EFS, Filestore, Azure Files, CephFS, FSx), or ReadWriteOnce for one node.",
)
def access_mode(world: Manifests, say: Say) -> Iterator[Finding]:
    for claim in world.kinds("PersistentVolumeClaim"):
        name = claim.spec["storageClassName"].text()
        for mode in claim.spec["accessModes"]:
            many = mode.text() in ("ReadOnlyMany", "ReadWriteMany")
            if many and _ONE_NODE.search(name):
                yield say(
                    claim, mode, f"{name} volumes attach to one node: a {mode.text()} claim stays Pending."
                )
            elif mode.text() == "ReadWriteMany" and _GCE_DISK.search(name) and name != "standard":
                yield say(
                    claim,
                    mode,
                    f"{name} is a disk: it cannot be written from many nodes, the claim stays Pending.",
                )


@rule(
    "storage/rwo-shared",
    "error",
    "A one-node volume for replicas on several nodes",
    story="""A ReadWriteOnce volume attaches to one node. The second replica, or the surge Pod of a
    rollout, lands on another node and waits for ever with `Multi-Attach error for volume`.""",
    cure="Use ReadWriteMany or ReadOnlyMany storage, a StatefulSet with volumeClaimTemplates, "
    "or a node-local cache.",
)
def rwo_shared(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        for claim, _, ref in world.claims_of(workload):
            if not _modes(claim) or not set(_modes(claim)) <= {"ReadWriteOnce", "ReadWriteOncePod"}:
                continue
            low, scaled = world.min_replicas(workload), bool(world.scalers(workload))
            rolling = workload.obj.spec.at("strategy", "type").text("RollingUpdate") == "RollingUpdate"
            surge, _gone = surge_of(workload, max(low, 1))
            if low > 1 or scaled:
                yield say(
                    workload.obj,
                    ref,
                    f"the claim {claim.name} is {_modes(claim)[0]}: a second replica on another node "
                    "waits with a Multi-Attach error.",
                    severity="warning"
                    if _ONE_MACHINE.search(claim.spec["storageClassName"].text())
                    else None,
                )
            elif workload.obj.kind == "Deployment" and rolling and surge and not _stays(claim):
                yield say(
                    workload.obj,
                    ref,
                    f"the claim {claim.name} is {_modes(claim)[0]}: the surge Pod of a rollout on another "
                    "node waits with a Multi-Attach error.",
                    "Use ReadWriteMany storage, or maxSurge 0.",
                    severity="warning",
                )


@rule(
    "storage/slow-class",
    "warning",
    "A storage class that loads for very long",
    story="""Scaling out is as fast as the weights arrive. GKE's `standard` is a hard disk: 200 GiB of
    it give about 24 MiB/s, 93 minutes for 141 GB. gp3 without provisioned throughput gives 125 MiB/s,
    18 minutes. The numbers are the catalogue's (seawall plan shows them).""",
    cure="Use a faster class, provisioned throughput, an object-store streamer (--load-format "
    "runai_streamer), or node-local NVMe.",
)
def slow_class(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        load = load_s(world, workload, workload.engine)
        for claim, _, _ in world.claims_of(workload):
            name = claim.spec["storageClassName"]
            if load is None or not name or not load.source.endswith(name.text()):
                continue
            reading = load.weights_bytes / load.bandwidth
            if reading > _SLOW_S:
                yield say(
                    claim,
                    name,
                    f"about {load.bandwidth / 2**20:.0f} MiB/s: {load.weights_bytes / 1e9:.0f} GB of "
                    "weights take "
                    f"{show_seconds(reading)}, at every start of a replica.",
                )


@rule(
    "storage/too-small",
    "error",
    "A claim smaller than the weights",
    story="""The download ends in `No space left on device`, and begins again at the next start.""",
    cure="Ask for 1.2 times the weights.",
)
def too_small(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.servers:
        size = weights_bytes(world, workload.engine)
        for claim, volume, _ in world.claims_of(workload):
            node = claim.spec.at("resources", "requests", "storage")
            have = quantity(node)
            mounts = [m["mountPath"].text() for m, v in workload.mounts(workload.engine.node) if v is volume]
            used = bool(mounts)
            hub = any("huggingface" in path for path in mounts)
            if (
                size
                and have
                and used
                and have < size
                and size > 2**30
                and (hub or "cache" not in claim.name.replace("hf-cache", ""))
            ):
                yield say(
                    claim,
                    node,
                    f"{node.text()} do not hold {size / 2**30:.0f} GiB of weights: the download ends in "
                    "`No space left on device`.",
                )


@rule(
    "storage/claim-missing",
    "warning",
    "A claim that is not here",
    story="""The Pod stays Pending with `persistentvolumeclaim not found` until the claim exists.
    Reported only when other claims of the namespace are in sight.""",
    cure="Correct the claim's name or namespace.",
)
def claim_missing(world: Manifests, say: Say) -> Iterator[Finding]:
    claims = {(c.namespace, c.name) for c in world.kinds("PersistentVolumeClaim")}
    for workload in world.workloads:
        here = sorted(name for space, name in claims if space == workload.obj.namespace)
        for volume in workload.pod["volumes"]:
            ref = volume.at("persistentVolumeClaim", "claimName")
            if ref and here and (workload.obj.namespace, ref.text()) not in claims:
                used = {
                    v.at("persistentVolumeClaim", "claimName").text()
                    for o in world.objects
                    for p, _ in pod_specs(o)
                    for v in p["volumes"]
                }
                free = [name for name in here if name not in used]
                if free:
                    yield say(
                        workload.obj,
                        ref,
                        f"there is no claim {ref.text()} here: the Pod stays Pending. Unused here: {', '.join(free)}.",
                    )


@rule(
    "storage/path-not-mounted",
    "error",
    "The model's folder is not in the container",
    story="""vLLM is told to serve a local path, the image is vLLM's own, which carries no models, and
    no volume of the container is mounted there or above. vLLM takes what is no folder for a
    repository's name and ends with `Repo id must be in the form 'repo_name' or 'namespace/repo_name'`.
    Of any other image it is a warning, where another role of the same object mounts that path and
    this one mounts nothing.""",
    cure="Mount the volume that holds the model at its path.",
)
def path_not_mounted(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            model = (engine.model or "").rstrip("/")
            if other := _mounted_in_another_role(world, workload, engine, model):
                yield say(
                    workload.obj,
                    engine.model_node,
                    f"{model} is served, and only {other} mounts it: here vLLM finds no model and ends.",
                    severity="warning",
                )
                continue
            plain = engine.plain_flags and is_official(engine.image) and not workload.partial
            if not plain or not model.startswith("/") or engine.command.script:
                continue
            if workload.obj.kind == "InferenceService" or model.startswith("/vllm-workspace/"):
                continue  # KServe mounts storageUri by itself; the image carries its own examples
            paths = [m["mountPath"].text().rstrip("/") for m in engine.node["volumeMounts"]]
            if not any("$" in p or "{" in p for p in paths) and not _under_a_mount(model, paths):
                yield say(
                    workload.obj,
                    engine.model_node,
                    f"{model} is served, and nothing is mounted there: vLLM finds no model and ends.",
                )


def _mounted_in_another_role(
    world: Manifests, workload: Workload, engine: Container, model: str
) -> str | None:
    """The container of the same object that mounts the model's path, where this one mounts nothing at all."""
    if not model.startswith("/") or engine.node["volumeMounts"]:
        return None
    others = [e for w in world.workloads if w.obj is workload.obj for e in w.engines if e is not engine]
    for other in others:
        paths = [m["mountPath"].text().rstrip("/") for m in other.node["volumeMounts"]]
        if (
            (other.model or "").rstrip("/") == model
            and other.image == engine.image
            and _under_a_mount(model, paths)
        ):
            return other.name
    return None


_FILES = (
    "--chat-template", "--config", "--tokenizer", "--tool-parser-plugin", "--reasoning-parser-plugin", "--ssl-keyfile",
    "--ssl-certfile", "--ssl-ca-certs", "--lora-modules",
)  # fmt: skip
_OF_IMAGE = ("/vllm-workspace/", "/usr/", "/opt/", "/etc/", "/root/")


@rule(
    "storage/file-not-mounted",
    "error",
    "A file that the command line names is not in the container",
    story="""A chat template, a config file, a certificate, a parser's plugin or a LoRA adapter is named by its path,
    the image is vLLM's own, which has none of yours, and no volume is mounted there: vLLM ends with `The supplied chat
    template (...) looks like a file path, but it failed to be opened`, or `No such file or directory`.""",
    cure="Mount it (a ConfigMap volume for small files); vLLM's own templates are in /vllm-workspace/examples.",
)
def file_not_mounted(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            plain = engine.plain_flags and is_official(engine.image) and not workload.partial
            if not plain or engine.command.script or workload.obj.kind == "InferenceService":
                continue
            paths = [m["mountPath"].text().rstrip("/") for m in engine.node["volumeMounts"]]
            if any("$" in p or "{" in p for p in paths):
                continue
            for option in engine.command.options if not engine.node["workingDir"] else ():
                name = option.value or ""
                if option.name == "--chat-template" and re.fullmatch(
                    r"(\./)?[\w.-]+\.(jinja2?|j2|json)", name
                ):
                    text = f"{name} is looked for in /vllm-workspace, which has no such file: vLLM ends."
                    yield say(
                        workload.obj, option.value_node, text, "Mount it, and name it by its whole path."
                    )
            for option, path in _named_files(engine):
                if not _under_a_mount(path, paths):
                    yield say(
                        workload.obj,
                        option.value_node,
                        f"{path} is named by {option.word}, and nothing is mounted there: vLLM ends.",
                    )


def _named_files(engine: Container) -> Iterator[tuple[Option, str]]:
    """(option, path) of the absolute paths that options name, but for those that the image itself has."""
    for option in engine.command.options:
        for word in (option.value or "").split() if option.name in _FILES and not option.open else ():
            path = word.partition("=")[2] or word
            if path.startswith("/") and not path.startswith(_OF_IMAGE) and not re.search(r"[${]", path):
                yield option, path


def _under_a_mount(path: str, mounts: list[str]) -> bool:
    return any(path == mount or path.startswith(mount + "/") for mount in mounts)
