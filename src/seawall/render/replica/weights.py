"""How weights get to where engines read them: a claim, a loader Job that runs `seawall pull`, the lockfile.

The Job's name carries a fingerprint of its content: a Job cannot be changed, so other weights are another Job.
It writes; engines mount read-only and wait until every file of the lockfile is there in its full size.
"""

from __future__ import annotations

import math
import re

from seawall.domain.catalog.clouds import weights_class
from seawall.domain.labels import APP, FLEET, PULL_APP, ROLE
from seawall.domain.units import binary_quantity
from seawall.engines.vllm.command import weights_form
from seawall.render.engine_args import adapter_path, model_path
from seawall.render.images import seawall_image
from seawall.render.inputs import Object, Wanted
from seawall.render.names import CONFIG_DIR, KEPT, fingerprint, fleet_meta, short
from seawall.render.replica.placement import place_loader
from seawall.render.replica.streamed import SECRET_MOUNT, SECRETS, credentials_of
from seawall.render.replica.volumes import claim_name, lock_name
from seawall.render.security import container_context, exactly, pod_context

GIB = 2**30
LOADER_MEMORY = "4Gi"


def lock_config(wanted: Wanted) -> Object | None:
    name = lock_name(wanted)
    if name is None or wanted.lock is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": fleet_meta(wanted, name, "weights"),
        "data": {"seawall.lock": wanted.lock},
    }


def volume_bytes(wanted: Wanted) -> int:
    """1.2 x the weights, adapters included, rounded up to GiB."""
    cache, plan = wanted.fleet.spec.cache, wanted.plan
    return cache.size or max(plan.volume_bytes, math.ceil(1.2 * plan.weights_bytes), GIB)


def claim(wanted: Wanted) -> Object | None:
    """The claim for the weights; None when the user has one or weights are elsewhere."""
    cache = wanted.fleet.spec.cache
    if cache.kind != "pvc" or cache.claim or not wanted.fleet.spec.engine.needs_weights:
        return None
    spec: Object = {"accessModes": [cache.access_mode]}
    if storage_class := weights_class(wanted.fleet):
        spec["storageClassName"] = storage_class
    if cache.data_source:
        spec["dataSource"] = data_source(cache.data_source)
    spec["resources"] = {"requests": {"storage": binary_quantity(volume_bytes(wanted))}}
    metadata = fleet_meta(wanted, claim_name(wanted), "weights")
    metadata.setdefault("annotations", {}).update(KEPT)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def data_source(text: str) -> Object:
    """`snapshot/NAME`, `pvc/NAME` or a bare name, which is a claim."""
    kind, _, name = text.rpartition("/")
    if kind == "snapshot":
        return {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}
    return {"kind": "PersistentVolumeClaim", "name": name}


def needs_loader(wanted: Wanted) -> bool:
    cache = wanted.fleet.spec.cache
    return (
        wanted.fleet.spec.engine.needs_weights
        and cache.kind == "pvc"
        and cache.access_mode != "ReadOnlyMany"
        and not wanted.fleet.spec.model.source.startswith("file://")
    )


def pull_container(
    wanted: Wanted, name: str, source: str, to: str, revision: str | None, lock: str | None
) -> Object:
    """One `seawall pull`: it resumes, verifies, and marks the folder complete last."""
    args = [source, "--to", to]
    if lock:
        args += ["--lock", lock]
    if revision:
        args += ["--revision", revision]
    if wanted.fleet.spec.model.allow_pickle:
        args.append("--allow-pickle")
    if not lock and (form := weights_form(wanted.fleet.spec.engine.extra_args)) != "hf":
        args += ["--form", form]
    env: list[Object] = [
        {"name": "HOME", "value": "/tmp"},
        {"name": "SEAWALL_CACHE", "value": "/tmp/seawall"},
    ]
    out: Object = {
        "name": name,
        "image": seawall_image(wanted.fleet),
        "imagePullPolicy": "IfNotPresent",
        "command": ["seawall", "pull"],
        "args": args,
    }
    # As files: an environment is shown to whoever may look at a process, and inherited by all that it starts.
    secret = wanted.fleet.spec.cache.token_secret
    if secret and source.startswith("hf://"):
        env.append({"name": "HF_TOKEN_PATH", "value": f"{SECRETS}/token"})
    elif secret:
        args += ["--secrets", SECRETS]
    out["env"] = env
    out["resources"] = exactly("2", LOADER_MEMORY, {"ephemeral-storage": "2Gi"})
    out["securityContext"] = container_context()
    mounts: list[Object] = [
        {"name": "weights", "mountPath": wanted.fleet.spec.cache.path},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if secret:
        mounts.append(SECRET_MOUNT)
    if lock:
        mounts.append({"name": "lock", "mountPath": f"{CONFIG_DIR}/lock", "readOnly": True})
    out["volumeMounts"] = mounts
    return out


def secret_volumes(wanted: Wanted) -> list[Object]:
    """The Secret that opens the source, where there is one: of a hub its key `token`, of a bucket that is streamed its
    one file, of a bucket that is copied all that it holds."""
    secret = wanted.fleet.spec.cache.token_secret
    if not secret:
        return []
    volume: Object = {"secretName": secret, "defaultMode": 0o440}
    model = wanted.fleet.spec.model
    with_file = credentials_of(wanted)
    if with_file is not None:
        volume["items"] = [{"key": with_file.key, "path": with_file.key}]
    elif all(s.startswith("hf://") for s in (model.source, *(a.source for a in model.adapters))):
        volume["items"] = [{"key": "token", "path": "token"}]
    return [{"name": "secrets", "secret": volume}]


def pulls(wanted: Wanted) -> list[Object]:
    """A container for the model and one for each adapter."""
    model = wanted.fleet.spec.model
    lock = f"{CONFIG_DIR}/lock/seawall.lock" if lock_name(wanted) else None
    out = [pull_container(wanted, "pull", model.source, model_path(wanted), model.revision, lock)]
    for n, adapter in enumerate(model.adapters):
        name = short(f"pull-{n}-" + re.sub(r"[^a-z0-9-]", "-", adapter.name.lower()).strip("-")).rstrip("-")
        out.append(
            pull_container(
                wanted, name, adapter.source, adapter_path(wanted, adapter), adapter.revision, None
            )
        )
    return out


def loader(wanted: Wanted) -> Object | None:
    """The Job. It may take a day and is tried again from where it stopped."""
    if not needs_loader(wanted):
        return None
    volumes: list[Object] = [
        {"name": "weights", "persistentVolumeClaim": {"claimName": claim_name(wanted)}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]
    lock = lock_name(wanted)
    if lock:
        volumes.append({"name": "lock", "configMap": {"name": lock, "defaultMode": 0o444}})
    volumes += secret_volumes(wanted)
    pod: Object = {
        "restartPolicy": "OnFailure",
        "serviceAccountName": short(wanted.name, "-engine"),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_context(),
        **place_loader(wanted),
        "containers": pulls(wanted),
        "volumes": volumes,
    }
    name = short(wanted.folder, f"-weights-{fingerprint([pod, wanted.lock])}")
    metadata = fleet_meta(wanted, name, "weights")
    labels = {APP: PULL_APP, FLEET: wanted.name, ROLE: "loader"}
    spec: Object = {
        "backoffLimit": 6,
        "activeDeadlineSeconds": 86400,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def job_pattern(wanted: Wanted) -> str:
    """A regular expression for the names of this fleet's loader Jobs: any content, either side of a canary, and
    the suffix that the Helm chart adds for another image."""
    folders = [wanted.folder, *([wanted.canary.folder] if wanted.canary else [])]
    tail = "-weights-00000000"
    stems = sorted({short(folder, tail).removesuffix("00000000") for folder in folders})
    return f"({'|'.join(stems)})[0-9a-f]+(-[0-9a-f]{{6}})?"


def loader_selector(wanted: Wanted) -> dict[str, str]:
    return {FLEET: wanted.name, ROLE: "loader"}


def node_pull(wanted: Wanted) -> list[Object]:
    """With `node-local`: the same pulls as init containers, into a folder of the node. The folder belongs to
    root, so they run as root, without any capability."""
    out = pulls(wanted)
    for container in out:
        container["securityContext"] = {**container_context(), "runAsUser": 0, "runAsNonRoot": False}
    return out
