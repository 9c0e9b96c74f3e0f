"""Notes for a person on what rendered objects do not show: one sentence each."""

from __future__ import annotations

from collections.abc import Iterable

from seawall.domain.catalog.providers import PREREQS, PROVIDERS
from seawall.domain.spec import BatchSpec
from seawall.render.batch import batch_secret, batch_spec
from seawall.render.gateway import MIN_REPLICAS, keys_secret
from seawall.render.images import engine_image, gateway_image, store_image
from seawall.render.inputs import Group, Object, Wanted
from seawall.render.lifecycle import spot_notice_s, start_budget_s, timing_of
from seawall.render.replica.weights import needs_loader
from seawall.render.store import manages, store_secret


def needed_first(objects: Iterable[Object]) -> str:
    """What must be installed before these objects are applied, as a sentence with its commands; empty: nothing."""
    groups = {str(o["apiVersion"]).partition("/")[0] for o in objects}
    needed = [p for group, p in PROVIDERS.items() if group in groups]
    if not needed:
        return ""
    commands = [f"{PREREQS} && sh prereqs/install.sh"] if any(not p.by_hand for p in needed) else []
    commands += [p.by_hand for p in needed if p.by_hand]
    return (
        f"a cluster without {' and '.join(p.name for p in needed)} takes these objects only after: "
        f"{' && '.join(commands)}"
    )


def notes(group: Group) -> tuple[str, ...]:
    out: list[str] = []
    if not group.first.fleet.spec.gateway.image:
        image = gateway_image(group)
        pushed = f"REGISTRY/{image}"
        out.append(
            f"nobody has published the image {image}: docker build -f Containerfile -t {pushed} . && "
            f"docker push {pushed}, then spec.gateway.image: {pushed}"
        )
    if by_tag := _by_tag(group):
        out.append(
            f"named by tag, which can be moved to another image: {', '.join(by_tag)}; write NAME:TAG@sha256:DIGEST: "
            f"docker buildx imagetools inspect {by_tag[0]} tells the digest"
        )
    secret = keys_secret(group)
    if secret:
        out.append(
            f"you provide: Secret {group.namespace}/{secret} with the key `keys`: "
            f"seawall keys add TENANT --file keys.json, "
            f"then {_secret(group.namespace, secret)} --from-file=keys=keys.json"
        )
    if manages(group):
        password = store_secret(group)
        out.append(
            f"you provide: Secret {group.namespace}/{password} with the key `password`: "
            f"{_secret(group.namespace, str(password))} --from-literal=password=$(openssl rand -hex 24)"
        )
    spec = batch_spec(group)
    if spec is not None:
        name = batch_secret(group)
        out.append(
            f"you provide: Secret {group.namespace}/{name} with the key `secret`: "
            f"{_secret(group.namespace, name)} --from-literal=secret=$(openssl rand -hex 32)"
        )
        out += _of_lane(group.namespace, spec)
    for wanted in group.members:
        out += [f"{wanted.name}: {text}" for text in _of_fleet(wanted)]
    return tuple(dict.fromkeys(out))


def _by_tag(group: Group) -> list[str]:
    """Images that nodes pull from a registry by a tag."""
    gateways = [gateway_image(group)] if group.first.fleet.spec.gateway.image else []
    sides = [side for w in group.members for side in (w, w.canary) if side is not None]
    engines = [engine_image(w) for w in sides if w.fleet.spec.engine.kind == "vllm"]
    stores = [store_image(group)] if manages(group) else []
    return [image for image in dict.fromkeys([*gateways, *engines, *stores]) if "@sha256:" not in image]


def _secret(namespace: str, name: str) -> str:
    return f"kubectl -n {namespace} create secret generic {name}"


def _of_lane(namespace: str, spec: BatchSpec) -> list[str]:
    """What the batch lane's own store and bucket are opened with."""
    out = []
    if spec.store_secret:
        out.append(
            f"you provide: Secret {namespace}/{spec.store_secret} with the key `address`: "
            f"{_secret(namespace, spec.store_secret)} --from-literal=address=postgresql://USER:PASSWORD@HOST/NAME"
        )
    if spec.bucket_secret:
        out.append(
            f"you provide: Secret {namespace}/{spec.bucket_secret}: {_secret(namespace, spec.bucket_secret)} "
            "--from-literal=AWS_ACCESS_KEY_ID=... --from-literal=AWS_SECRET_ACCESS_KEY=..."
        )
    return out


def _keys(wanted: Wanted) -> str:
    """What the Secret of the weights' source is made of."""
    source = wanted.fleet.spec.model.source
    if source.startswith("hf://"):
        return "--from-literal=token=$HF_TOKEN"
    return (
        "--from-file=key.json"
        if source.startswith("gs://")
        else "--from-file=credentials=$HOME/.aws/credentials"
    )


def _of_fleet(wanted: Wanted) -> list[str]:
    spec = wanted.fleet.spec
    out: list[str] = []
    cache = spec.cache
    if cache.token_secret:
        literals = _keys(wanted)
        out.append(
            f"you provide: Secret {wanted.namespace}/{cache.token_secret}: "
            f"{_secret(wanted.namespace, cache.token_secret)} {literals}"
        )
    if spec.scaling.prometheus_secret:
        out.append(
            f"you provide: Secret {wanted.namespace}/{spec.scaling.prometheus_secret} with the key `token`: "
            f"{_secret(wanted.namespace, spec.scaling.prometheus_secret)} --from-literal=token=$PROMETHEUS_TOKEN"
        )
    if cache.kind == "pvc" and cache.claim:
        out.append(f"you provide: PersistentVolumeClaim {wanted.namespace}/{cache.claim}")
    if spec.scaling.by == "hpa":
        out.append(
            "needs prometheus-adapter, which cannot serve external metrics beside KEDA: one of them per cluster"
        )
    if spec.hardware.priority_class and not spec.hardware.priority_class.startswith("system-"):
        out.append(f"you provide: PriorityClass {spec.hardware.priority_class}; without it Pods are refused")
    if spec.hardware.runtime_class:
        out.append(f"you provide: RuntimeClass {spec.hardware.runtime_class}; without it Pods are refused")
    if needs_loader(wanted) and wanted.lock is None:
        out.append(
            "weights are pinned by revision only; `seawall pull` writes a lockfile that pins every byte"
        )
    if cache.kind == "oci":
        out.append("image volumes need Kubernetes 1.36; the node's disk holds the weights about twice")
    if cache.kind in ("node-local", "host-path"):
        out.append("hostPath volumes: the namespace enforces `privileged` instead of `restricted`")
    if spec.hardware.spot:
        fitted, whole = timing_of(wanted.fleet, spot=True), timing_of(wanted.fleet)
        if fitted != whole:
            out.append(
                f"spot replicas drain {fitted.drain_s} s instead of {whole.drain_s} s: the notice is "
                f"{spot_notice_s(wanted.fleet):g} s; longer streams are resumed elsewhere"
            )
    if spec.scaling.min == 0:
        out.append(
            f"from zero the first answer takes up to {start_budget_s(wanted.plan)} s and a node; the gateway holds "
            f"requests for {spec.gateway.queue_timeout:g} s (spec.gateway.queueTimeout)"
        )
    if spec.scaling.min == 1 and not spec.hardware.spare_gpus:
        out.append("one replica and no spare GPUs: a rollout stops serving until the new one is up")
    if spec.scaling.by == "seawall":
        out.append(
            "needs KEDA 2.20 or newer: older ones cannot fall back to a formula when our scaler is silent"
        )
        if spec.scaling.tls_secret:
            out.append(
                f"you provide: Secret {wanted.namespace}/{spec.scaling.tls_secret} with tls.crt, tls.key and ca.crt "
                f"for the scaler's name, {wanted.name}-gateway-scaler.{wanted.namespace}.svc (cert-manager writes it)"
            )
    if spec.gateway.replicas < MIN_REPLICAS:
        out.append(
            f"spec.gateway.replicas: {spec.gateway.replicas} is {MIN_REPLICAS} on a cluster: with one, each of its "
            "restarts and each drained node would refuse connections"
        )
    if spec.scaling.by == "keda-gateway":
        out.append(
            "needs KEDA 2.20 or newer: older ones sum over the wrong endpoints, or do not wait for them"
        )
    if spec.gateway.route == "inference-pool":
        out.append("an InferencePool routes past the gateway: no resume, no fair queueing, no tenants")
    return out
