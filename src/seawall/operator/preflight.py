"""What is asked of a cluster before anything is written: rights by object, Secrets that somebody has to make.

Changes nothing. What cannot be asked (a right to ask is missing too) is no finding: the write itself will say it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from seawall.diagnose.doctor import CheckResult
from seawall.drivers.kube import Kube, Object, ObjectKind, Refused, key_of
from seawall.errors import ClusterError
from seawall.operator.converge import served
from seawall.operator.ledger import Ref
from seawall.operator.secret_makers import SecretMaker, makers

SECRET = ObjectKind("v1", "Secret", "secrets")
KEYS = "keys"
"""The key of a Secret that holds the file of `seawall keys add`; the other values are short."""
AT_ONCE = 8
_MAKING, _TAKING = ("get", "create", "patch"), ("get", "delete")


async def lacking(kube: Kube, making: Sequence[Ref], taking: Sequence[Ref] = ()) -> list[str]:
    """Rights that the caller does not have and needs, as `create services in llm`; asked of the server, which changes
    nothing. Kinds that are not served need none."""
    asked: dict[tuple[str, ObjectKind, str], None] = {}
    for refs, verbs in ((making, _MAKING), (taking, _TAKING)):
        for ref in refs:
            kind = await served(kube, ref.stub())
            if kind is not None and ref.kind != "Namespace":
                asked |= dict.fromkeys(
                    (verb, kind, ref.namespace if kind.namespaced else "") for verb in verbs
                )
    at_once = asyncio.Semaphore(AT_ONCE)

    async def may(verb: str, kind: ObjectKind, namespace: str) -> bool:
        async with at_once:
            try:
                return await kube.may(verb, kind, namespace or None)
            except Refused:
                return True  # who may not even ask is told by the dry run

    allowed = await asyncio.gather(*(may(*a) for a in asked))
    return [
        f"{verb} {kind.plural}{f' in {namespace}' if namespace else ''}"
        for (verb, kind, namespace), yes in zip(asked, allowed, strict=True)
        if not yes
    ]


async def need_rights(kube: Kube, making: Sequence[Ref], taking: Sequence[Ref] = ()) -> None:
    """ClusterError with every right that is missing, before anything is written."""
    missing = await lacking(kube, making, taking)
    if missing:
        raise ClusterError(
            f"you may not {', '.join(missing)}; nothing was changed.",
            "Ask for the role; `seawall doctor` lists what is missing.",
        )


async def missing_secrets(kube: Kube, objects: Sequence[Object], namespace: str) -> list[tuple[str, str]]:
    """(what is missing, the command that makes it) of every Secret that these objects need and nobody has made. Where a
    controller is to make it, its word and the command that shows more."""
    made = {key_of(o)[1] for o in objects if o["kind"] == "Secret"}
    out: list[tuple[str, str]] = []
    kept: dict[str, SecretMaker] | None = None
    for name, keys in sorted(_secrets(objects).items()):
        if name in made:
            continue
        try:
            found = await kube.get(SECRET, namespace, name)
        except Refused:
            continue  # who may not read Secrets cannot be told
        held = {**((found or {}).get("data") or {}), **((found or {}).get("stringData") or {})}
        lost = sorted(keys - held.keys())
        if found is None or lost:
            which = f" ({', '.join(lost)})" if lost else ""
            kept = await makers(kube, namespace) if kept is None else kept
            if maker := kept.get(name):
                out.append((f"Secret {namespace}/{name}{which} ({maker})", maker.command))
            else:
                out.append((f"Secret {namespace}/{name}{which}", _making(name, namespace, keys)))
    return out


async def secrets_check(kube: Kube, objects: Sequence[Object], namespace: str) -> list[CheckResult]:
    """The doctor's answer about Secrets: one line for each that is missing, or one for all; none where none is needed.

    A Fleet is not served without them, and they can be made at any time: Pods wait until they are there."""
    missing = await missing_secrets(kube, objects, namespace)
    if missing:
        return [CheckResult("Secrets", "fail", f"{what} is not there", command) for what, command in missing]
    needed = sorted(_secrets(objects))
    return [CheckResult("Secrets", "ok", ", ".join(needed))] if needed else []


def _making(name: str, namespace: str, keys: set[str]) -> str:
    if keys == {"tls.crt", "tls.key"}:
        return f"kubectl create secret tls {name} -n {namespace} --cert=tls.crt --key=tls.key"
    given = " ".join(
        f"--from-file={k}=FILE" if k == KEYS else f"--from-literal={k}=..." for k in sorted(keys)
    )
    given = given or "--from-file=FILE"
    return f"kubectl create secret generic {name} -n {namespace} {given}"


def _secrets(value: object) -> dict[str, set[str]]:
    """Secret -> the keys that are needed of it, of all that is not optional."""
    out: dict[str, set[str]] = {}

    def need(name: object, keys: Sequence[str] = ()) -> None:
        out.setdefault(str(name), set()).update(keys)

    def walk(found: object) -> None:
        if isinstance(found, list):
            for inner in found:
                walk(inner)
        elif isinstance(found, dict):
            if found.get("optional"):
                return
            key, from_all, volume = found.get("secretKeyRef"), found.get("secretRef"), found.get("secret")
            if isinstance(key, dict) and not key.get("optional"):
                need(key.get("name"), [str(key.get("key"))])
            if isinstance(from_all, dict) and not from_all.get("optional"):
                need(from_all.get("name"))
            if isinstance(volume, dict) and not volume.get("optional"):
                named = volume.get("secretName") or volume.get("name")  # a volume's, or a projected one's
                if named:
                    need(named, [str(i.get("key")) for i in volume.get("items") or []])
            if isinstance(found.get("secretName"), str) and "hosts" in found:
                need(found["secretName"], ["tls.crt", "tls.key"])
            for inner in found.values():
                walk(inner)

    walk([o for o in value if o.get("kind") != "Secret"] if isinstance(value, (list, tuple)) else value)
    return out
