"""Why storage keeps a replica waiting: claims that are not bound, loader Jobs that failed. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.diagnose.cause import Cause, rule
from seawall.diagnose.facts import Facts, condition, items, name_of, part, shown
from seawall.engines.vllm.signs import read


@rule
def claims(facts: Facts) -> Iterator[Cause]:
    """Claims that stay Pending, and why."""
    for claim in facts.claims:
        if part(claim, "status").get("phase") != "Pending":
            continue
        event = next(iter(facts.events_of(claim)), None)
        message = str((event or {}).get("message") or "")
        name, spec = name_of(claim), part(claim, "spec")
        modes = ", ".join(str(m) for m in spec.get("accessModes") or [])
        klass = spec.get("storageClassName")
        if "waiting for first consumer" in message or (event or {}).get("reason") == "WaitForFirstConsumer":
            continue  # it binds with the Pod: the Pod's own rule speaks
        if "storageclass" in message.lower() and "not found" in message:
            what, certainty = f"there is no StorageClass {klass}", "certain"
        elif "no persistent volumes available" in message and not klass:
            what, certainty = "no StorageClass is set and there is no default one", "certain"
        elif re.search(r"access ?mode|not support|MULTI_NODE|unsupported", message, re.IGNORECASE):
            what, certainty = f"the class {klass} has no volumes of mode {modes}", "certain"
        else:
            what, certainty = f"the claim ({klass or 'no class'}, {modes}) is not bound", "likely"
        yield Cause(
            id="storage/claim-pending",
            certainty="certain" if certainty == "certain" else "likely",
            subject=f"PersistentVolumeClaim/{name}",
            weight=92,
            what=what,
            evidence=(shown(event) if event else "phase Pending, no event",),
            do="kubectl get storageclass; weights want a ReadWriteMany class (EFS, Filestore, Azure "
            "Files, CephFS)",
        )


@rule
def loader(facts: Facts) -> Iterator[Cause]:
    """The Job that fills the volume has failed: every replica starts without weights."""
    for job in facts.jobs:
        failed = condition(job, "Failed")
        if failed.get("status") != "True":
            continue
        name = name_of(job)
        pods = [
            p
            for p in facts.pods
            if any(o.get("name") == name for o in items(p, "metadata", "ownerReferences"))
        ]
        text = "\n".join(t for p in pods for k, t in facts.logs.items() if k.startswith(f"{name_of(p)}/"))
        said = read(text) if text else None
        yield Cause(
            id=said.sign.id if said else "weights/job-failed",
            certainty="certain",
            subject=f"Job/{name}",
            weight=96,
            what="the weights were not loaded" + (f": {said.what}" if said else ""),
            evidence=(
                f"{failed.get('reason')}: {failed.get('message', '')}"[:240],
                *((f"log: {said.line}",) if said else ()),
            ),
            do=said.do
            if said
            else f"kubectl logs job/{name}; then kubectl delete job {name} and apply again",
        )
