"""What is rendered asks for little: who reaches whom, where secrets lie, and who reads metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seawall.cli.secret_files import secret, variables
from seawall.errors import InputError
from seawall.render.everything import render
from seawall.render.inputs import Group, Object

HUB = "  cache: {tokenSecret: hub}\n"
SHARED = "  gateway: {storeSecret: store, keysSecret: keys, tenants: [{name: a}]}\n"
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}


def pods(objects: tuple[Object, ...]) -> Iterator[dict[str, Any]]:
    for obj in objects:
        template = obj.get("spec", {}).get("template") if isinstance(obj.get("spec"), dict) else None
        if template and "spec" in template:
            yield template["spec"]


@pytest.mark.parametrize(
    "more",
    [
        HUB + SHARED,
        SHARED,
        "  cache: {kind: node-local, tokenSecret: hub}\n",
        "  rollout: {canary: {candidate: {revision: def456}}}\n" + HUB,
    ],
)
@pytest.mark.parametrize("source", ["hf://meta-llama/Llama-3.1-70B-Instruct", "s3://bucket/llama"])
def test_no_secret_is_in_an_environment(
    more: str, source: str, group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace("hf://meta-llama/Llama-3.1-70B-Instruct", source) + more
    for pod in pods(render(group(text)).objects):
        mounted = {v["name"] for v in pod["volumes"] if "secret" in v}
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert "envFrom" not in container
            assert not [e for e in container.get("env", []) if "secretKeyRef" in str(e)]
            used = {m["name"] for m in container["volumeMounts"]}
            assert all(m["readOnly"] for m in container["volumeMounts"] if m["name"] in mounted)
            assert used <= {v["name"] for v in pod["volumes"]}


@pytest.mark.parametrize(
    ("source", "key", "variable"),
    [
        ("s3://bucket/llama", "credentials", "AWS_SHARED_CREDENTIALS_FILE"),
        ("gs://bucket/llama", "key.json", "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_an_engine_that_streams_a_bucket_is_told_where_its_credentials_lie(
    source: str, key: str, variable: str, group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace("hf://meta-llama/Llama-3.1-70B-Instruct", source)
    told = render(group(text + "  cache: {kind: stream, tokenSecret: bucket}\n"))
    engine = next(p for p in pods(told.objects) if p["containers"][0]["name"] == "engine")
    (container,) = engine["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "secrets"]
    (volume,) = [v["secret"] for v in engine["volumes"] if v["name"] == "secrets"]
    assert volume == {"secretName": "bucket", "defaultMode": 0o440, "items": [{"key": key, "path": key}]}
    assert env[variable] == f"{mount['mountPath']}/{key}" and mount["readOnly"]
    assert "envFrom" not in container and "secretKeyRef" not in str(container)
    assert any(f"create secret generic bucket --from-file={key}" in note for note in told.notes)
    alone = next(p for p in pods(render(group(text + "  cache: {kind: stream}\n")).objects))
    assert "secrets" not in str(alone) and variable not in str(alone), "an identity of the cloud's needs none"


def test_a_key_that_no_client_reads_from_a_file_is_refused(group: Callable[..., Group], llama: str) -> None:
    text = llama.replace("hf://meta-llama/Llama-3.1-70B-Instruct", "az://bucket/llama")
    with pytest.raises(InputError, match=r"spec.cache.tokenSecret: .*identity of the cloud's"):
        render(group(text + "  cache: {kind: stream, tokenSecret: bucket}\n"))


def test_the_cloud_s_own_client_reads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 lists what the streamer reads; loaders name the same file to it."""
    import boto3

    text = "[default]\naws_access_key_id = AKIA\naws_secret_access_key = x\n"
    found = variables(mounted(tmp_path / "s", credentials=text, note="hello"))
    assert found == {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "s" / "credentials")}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", found["AWS_SHARED_CREDENTIALS_FILE"])
    credentials = boto3.Session().get_credentials()
    assert credentials is not None and credentials.access_key == "AKIA"


def mounted(folder: Path, **files: str) -> Path:
    """A Secret as the kubelet mounts it: links to links."""
    real = folder / "..2026_11_30_09_00_00.1"
    real.mkdir(parents=True)
    for name, text in files.items():
        (real / name).write_text(text)
    (folder / "..data").symlink_to(real.name)
    for name in files:
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def test_a_mounted_secret_is_read_as_variables(tmp_path: Path) -> None:
    folder = mounted(
        tmp_path / "s", AWS_ACCESS_KEY_ID="AKIA\n", AWS_SECRET_ACCESS_KEY="x", note="hello", EMPTY=""
    )
    assert variables(folder) == {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x"}
    with pytest.raises(InputError, match="is no folder"):
        variables(tmp_path / "none")


def test_a_secret_is_its_variable_or_its_file_and_may_be_missing(tmp_path: Path) -> None:
    folder = mounted(tmp_path / "s", password="from a file\n", binary="\0")
    by_file = {"P_FILE": str(folder / "password")}
    assert secret("P", by_file) == "from a file"
    assert secret("P", by_file | {"P": "from a variable"}) == "from a variable"
    assert secret("P", {"P_FILE": str(folder / "address")}) is None
    assert secret("P", {}) is None
    with pytest.raises(InputError, match=r"P_FILE .*zero byte") as refused:
        secret("P", {"P_FILE": str(folder / "binary")})
    assert "from" not in refused.value.message
    with pytest.raises(InputError, match="cannot be read"):
        secret("P", {"P_FILE": str(folder)})


def policy(objects: tuple[Object, ...], name: str) -> dict[str, Any]:
    found = next(o for o in objects if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == name)
    spec: dict[str, Any] = found["spec"]
    return spec


def ports(rules: list[dict[str, Any]], **to: Any) -> set[int]:
    """TCP ports of the rules whose peers are these; without any: of rules for every peer."""
    wanted = to.get("to")
    return {
        p["port"]
        for rule in rules
        if (rule.get("to") is None if wanted is None else wanted in rule.get("to", []))
        for p in rule["ports"]
        if p["protocol"] == "TCP"
    }


@pytest.mark.parametrize(
    ("more", "stores"),
    [
        ("", set()),
        ("  gateway: {store: 'valkey://store:6390/0'}\n", {6390}),
        ("  gateway: {store: 'rediss://store/0'}\n", {6379}),
        ("  gateway: {store: 'valkey+sentinel://a:26379,b:26380/main/0'}\n", {26379, 26380, 6379}),
        ("  gateway: {storeSecret: store}\n", {6379, 6380, 26379}),
    ],
)
def test_a_gateway_reaches_its_engines_the_api_server_and_its_store(
    more: str, stores: set[int], group: Callable[..., Group], llama: str
) -> None:
    spec = policy(render(group(llama + more)).objects, "llama-70b-gateway")
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    engines = {
        "podSelector": {"matchLabels": {"seawall.dev/fleet": "llama-70b", "app.kubernetes.io/name": "vllm"}}
    }
    assert ports(spec["egress"], to=engines) == {8000}
    assert ports(spec["egress"]) == {443, 6443, 8443, 16443} | stores
    assert all(rule.get("ports") for rule in spec["egress"])


@pytest.mark.parametrize(
    ("source", "more", "reached"),
    [
        ("hf://meta-llama/Llama-3.1-70B-Instruct", "", {443}),
        ("https://mirror.example.com:8443/llama/", "", {443, 8443}),
        ("http://mirror.example.com/llama/", "", {80, 443}),
        ("s3://bucket/llama", "", {443}),
        ("s3://bucket/llama", "  cache: {tokenSecret: minio}\n", {1}),  # the Secret may name an endpoint
    ],
)
def test_a_loader_reaches_its_sources(
    source: str, more: str, reached: set[int], group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace("hf://meta-llama/Llama-3.1-70B-Instruct", source) + more
    spec = policy(render(group(text)).objects, "llama-70b-weights")
    assert ports(spec["egress"]) == reached
    metadata = ports(spec["egress"], to={"ipBlock": {"cidr": "169.254.169.254/32"}})
    assert bool(metadata) == source.startswith("s3://")


@pytest.mark.parametrize("by", ["keda-prometheus", "keda-gateway", "seawall"])
def test_of_the_namespace_of_prometheus_only_its_pods_read_metrics(
    by: str, group: Callable[..., Group], llama: str
) -> None:
    objects = render(group(llama.replace("scaling: {", f"scaling: {{by: {by}, "))).objects
    peers = [
        peer
        for obj in objects
        if obj["kind"] == "NetworkPolicy"
        for rule in obj["spec"].get("ingress", [])
        for peer in rule.get("from", [])
        if "monitoring" in str(peer)
    ]
    assert len(peers) == (3 if by == "seawall" else 2)
    assert all(peer["podSelector"]["matchLabels"] == PROMETHEUS for peer in peers)


def test_another_scraper_is_named_by_its_labels(group: Callable[..., Group], llama: str) -> None:
    text = llama + "  monitoring: {scrapedBy: {app: vmagent}}\n"
    rules = policy(render(group(text)).objects, "llama-70b-engine")["ingress"]
    assert {"app": "vmagent"} in [p.get("podSelector", {}).get("matchLabels") for p in rules[0]["from"]]


def test_images_by_tag_are_named_with_the_command_that_tells_their_digest(
    group: Callable[..., Group], llama: str
) -> None:
    (told,) = [n for n in render(group(llama)).notes if "named by tag" in n]
    assert "vllm/vllm-openai:v0.32.0;" in told
    assert "imagetools inspect vllm/vllm-openai:v0.32.0" in told
    digest = "@sha256:" + "0" * 64
    pinned = f"  engine: {{image: 'vllm/vllm-openai:v0.32.0{digest}'}}\n"
    pinned += f"  gateway: {{image: 'r.example.com/s:1{digest}'}}\n"
    assert not [n for n in render(group(llama + pinned)).notes if "named by tag" in n]
