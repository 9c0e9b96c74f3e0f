"""The store that several gateways share: the user's, or a small one that is rendered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seawall.errors import InputError
from seawall.render.everything import render
from seawall.render.inputs import Group, Object

GATEWAY = "  gateway: {%s}\n"


def rendered(group: Callable[..., Group], llama: str, more: str) -> dict[tuple[str, str], Object]:
    return {(o["kind"], o["metadata"]["name"]): o for o in render(group(llama + GATEWAY % more)).objects}


def gateway_of(objects: dict[tuple[str, str], Object]) -> Any:
    found = next(
        o for (kind, name), o in objects.items() if kind == "Deployment" and name.endswith("-gateway")
    )
    return found["spec"]["template"]["spec"]["containers"][0]


def test_a_managed_store_is_small_hardened_bounded_and_reached_by_gateways_alone(
    group: Callable[..., Group], llama: str
) -> None:
    objects = rendered(group, llama, "store: managed, replicas: 3, keepMemory: 32Mi")
    name = next(name for kind, name in objects if kind == "Service" and name.endswith("-store"))
    deployment = objects["Deployment", name]["spec"]
    pod = deployment["template"]["spec"]
    (server,) = pod["containers"]
    args = dict(zip(server["args"][::2], server["args"][1::2], strict=True))
    assert (
        int(args["--maxmemory"]) == (64 + 2 * 3 * 32) * 2**20 and args["--maxmemory-policy"] == "allkeys-lfu"
    )
    limit = server["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) * 2**20 > int(args["--maxmemory"]) * 1.5
    assert server["resources"]["limits"] == server["resources"]["requests"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert server["securityContext"]["readOnlyRootFilesystem"]
    assert server["image"].startswith("valkey/valkey:") and "latest" not in server["image"]
    assert deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}

    policy = objects["NetworkPolicy", name]["spec"]
    assert policy["podSelector"]["matchLabels"] == deployment["selector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and "egress" not in policy
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 6379}]

    gateway = gateway_of(objects)
    assert gateway["args"][gateway["args"].index("--store") + 1] == f"valkey://{name}.llm.svc:6379/0"
    volume = next(v for v in pod["volumes"] if v["name"] == "password")
    assert volume["secret"]["secretName"] == name
    assert "/etc/seawall/store/password" in server["command"][2] and "env" not in server
    own = objects["Deployment", name.removesuffix("-store")]["spec"]["template"]["spec"]
    (source,) = next(v for v in own["volumes"] if v["name"] == "store")["projected"]["sources"]
    assert source["secret"]["name"] == name and source["secret"]["optional"] is False
    (told,) = [n for n in render(group(llama + GATEWAY % "store: managed")).notes if "password" in n]
    assert f"create secret generic {name} --from-literal=password=" in told


def test_the_stores_image_is_named_where_it_is_pinned_by_tag_alone(
    group: Callable[..., Group], llama: str
) -> None:
    def told(more: str) -> list[str]:
        return [
            n for n in render(group(llama + GATEWAY % more)).notes if "named by tag" in n and "valkey" in n
        ]

    assert told("store: managed") and not told("replicas: 2")
    assert not told("store: managed, storeImage: 'r/valkey:8@sha256:00'")


def test_the_users_own_store_and_image_and_secret(group: Callable[..., Group], llama: str) -> None:
    objects = rendered(group, llama, "store: 'valkey://cache:6379/0', storeSecret: mine")
    assert not [name for _, name in objects if name.endswith("-store")]
    args = gateway_of(objects)["args"]
    assert args[args.index("--store") + 1] == "valkey://cache:6379/0"
    env = {e["name"]: e.get("value") for e in gateway_of(objects)["env"]}
    assert env["SEAWALL_STORE_CA_FILE"] == "/etc/seawall/store/ca.crt"
    own = next(o for (k, n), o in objects.items() if k == "Deployment" and n.endswith("-gateway"))
    volumes = own["spec"]["template"]["spec"]["volumes"]
    (sources,) = (v["projected"]["sources"] for v in volumes if v["name"] == "store")
    keys = {s["secret"]["items"][0]["key"]: s["secret"]["optional"] for s in sources}
    assert keys == {"password": True, "ca.crt": True}, "either may be missing"
    managed = rendered(group, llama, "store: managed, storeSecret: mine, storeImage: 'r/valkey@sha256:00'")
    server = next(o for (k, n), o in managed.items() if k == "Deployment" and n.endswith("-store"))
    container = server["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "r/valkey@sha256:00"
    volume = next(v for v in server["spec"]["template"]["spec"]["volumes"] if v["name"] == "password")
    assert volume["secret"]["secretName"] == "mine" and "valkey-server" in container["command"][2]
    with pytest.raises(InputError, match=r"gateway\.storeImage.*not pinned"):
        render(group(llama + GATEWAY % "store: managed, storeImage: 'valkey/valkey:latest'"))


@pytest.mark.parametrize("more", ["store: managed", "storeSecret: mine"])
def test_a_store_has_alerts_and_no_store_has_none(group: Callable[..., Group], llama: str, more: str) -> None:
    def names(objects: dict[tuple[str, str], Object]) -> set[str]:
        rules = next(o for (kind, _), o in objects.items() if kind == "PrometheusRule")
        return {r.get("alert", "") for g in rules["spec"]["groups"] for r in g["rules"]}

    store = {"SeawallStoreAway", "SeawallStoreSlow"}
    assert store <= names(rendered(group, llama, more))
    assert not store & names(rendered(group, llama, "replicas: 2"))
