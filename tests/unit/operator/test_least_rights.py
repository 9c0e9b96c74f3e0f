"""The operator asks for little: one namespace without a ClusterRole, or the whole cluster without granting rights.

Each story runs with the rights of the manifests themselves, and the API double lets nobody grant what they do not have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.operator.test_operator import OUTSIDE, SYSTEM, example

from seawall.cli.operator import command
from seawall.domain.labels import GATEWAYS_ACCOUNT, SCALERS_ACCOUNT
from seawall.drivers.kube import Kube, ObjectKind, Refused
from seawall.drivers.kube_config import IN_CLUSTER
from seawall.errors import ClusterError, InputError
from seawall.operator.health import answering
from seawall.operator.loop import Operator
from seawall.operator.manifests import HEALTH_PORT, NAME, operator_manifests
from seawall.testing.clock import StoryClock
from seawall.testing.kube_api import KubeApi
from seawall.testing.kube_rbac import rights_of
from seawall.testing.story import Story

RBAC = "rbac.authorization.k8s.io/v1"
BINDING = ObjectKind(RBAC, "RoleBinding", "rolebindings")


@asynccontextmanager
async def at_work(
    api: KubeApi, kube: Kube, namespace: str | None, nodes: bool = False
) -> AsyncIterator[Callable[[Callable[[], object]], Any]]:
    """An operator after its own manifests were applied, and with no right beyond them."""
    everywhere = namespace is None
    manifests = operator_manifests(namespace or SYSTEM, everywhere=everywhere, nodes=nodes)
    for obj in manifests:
        api.put(obj)
    api.rights = rights_of(manifests, NAME, namespace or SYSTEM) | {OUTSIDE}
    clock = kube.clock = StoryClock()
    task = asyncio.ensure_future(Operator(kube, namespace, clock, resync_s=1.0).run())

    def check() -> None:
        assert not task.done(), task

    story = Story(clock, api, check)
    try:
        yield story.until
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def fleet(api: KubeApi, name: str, namespace: str, by: str = "seawall") -> Callable[[], dict[str, Any]]:
    """A Fleet object; gives the way to its status."""
    found = example("own-decision")
    found["metadata"] |= {"name": name, "namespace": namespace}
    found["spec"]["scaling"]["by"] = by
    if by != "seawall":
        found["spec"]["scaling"] = {"min": 1, "max": 2, "by": by}
    api.put(found)

    def status() -> dict[str, Any]:
        told: dict[str, Any] = api.objects("seawall.dev/v1alpha1", "fleets")[namespace, name].get(
            "status", {}
        )
        return told

    return status


def accounts_of_pods(api: KubeApi, namespace: str) -> set[str]:
    return {
        d["spec"]["template"]["spec"]["serviceAccountName"]
        for (where, name), d in api.objects("apps/v1", "deployments").items()
        if where == namespace and name != NAME
    }


async def test_one_namespace_is_served_without_any_right_over_the_cluster(
    api: KubeApi, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    status = fleet(api, "chat", "llm")
    elsewhere = fleet(api, "chat", "other")
    async with at_work(api, kube, "llm") as until:
        assert not [r for r in api.rights or () if r[0] != "llm" and r != OUTSIDE]
        await until(lambda: status().get("applied"))
        await until(lambda: status().get("phase") == "Progressing")
    assert accounts_of_pods(api, "llm") == {"chat-engine", GATEWAYS_ACCOUNT, SCALERS_ACCOUNT}
    assert not elsewhere()
    made = {name for (where, name) in api.objects(RBAC, "rolebindings") if where == "llm"}
    assert made == {NAME, GATEWAYS_ACCOUNT, SCALERS_ACCOUNT}, "those of the manifests, and none besides"
    told = [r.getMessage() for r in caplog.records if "nodes" in r.getMessage()]
    assert len(told) == 1 and "--nodes" in told[0]


async def test_with_the_right_to_see_nodes_they_are_watched(
    api: KubeApi, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    status = fleet(api, "chat", "llm")
    async with at_work(api, kube, "llm", nodes=True) as until:
        assert {r[1:] for r in api.rights or () if not r[0] and r != OUTSIDE} == {
            ("", "nodes", verb) for verb in ("get", "list", "watch")
        }
        await until(lambda: status().get("phase") == "Progressing")
        await until(lambda: any("nodes" in r and "watch" in r for r in api.requests))


async def test_a_cluster_s_operator_brings_the_accounts_along_and_leaves_them(
    api: KubeApi, kube: Kube
) -> None:
    one, two = fleet(api, "a", "first", "keda-prometheus"), fleet(api, "b", "second")
    async with at_work(api, kube, None) as until:
        await until(lambda: one().get("phase") == two().get("phase") == "Progressing")
        for namespace in ("first", "second"):
            binding = api.objects(RBAC, "rolebindings")[namespace, GATEWAYS_ACCOUNT]
            assert binding["roleRef"] == {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": GATEWAYS_ACCOUNT
            }  # fmt: skip
            assert binding["subjects"][0]["namespace"] == namespace
            assert "ownerReferences" not in binding["metadata"], "two Fleets of a namespace share it"
        assert accounts_of_pods(api, "second") == {"b-engine", GATEWAYS_ACCOUNT, SCALERS_ACCOUNT}
    assert not [key for key in api.objects(RBAC, "roles") if key[0] in ("first", "second")]


async def test_a_cluster_s_operator_can_grant_nothing_else(api: KubeApi, kube: Kube) -> None:
    """Whoever has its token gets no further: no other binding, no other role, no Role of its own making."""
    async with at_work(api, kube, None):
        who = [{"kind": "ServiceAccount", "name": NAME, "namespace": SYSTEM}]

        def binding(name: str, role: str) -> dict[str, Any]:
            meta = {"name": name, "namespace": "first"}
            ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
            return {
                "apiVersion": RBAC,
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": ref,
                "subjects": who,
            }

        api.put(
            {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": "admin"},
             "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
        )  # fmt: skip
        await kube.apply(binding(GATEWAYS_ACCOUNT, GATEWAYS_ACCOUNT))
        with pytest.raises(Refused, match="grant RBAC permissions not currently held"):
            await kube.apply(binding(SCALERS_ACCOUNT, "admin"))
        with pytest.raises(Refused, match="cannot patch resource"):
            await kube.apply(binding("mine", GATEWAYS_ACCOUNT))
        with pytest.raises(Refused, match="cannot delete resource"):
            await kube.delete(BINDING, "first", GATEWAYS_ACCOUNT)
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
        role = {
            "apiVersion": RBAC,
            "kind": "Role",
            "metadata": {"name": "x", "namespace": "first"},
            "rules": [rule],
        }
        with pytest.raises(Refused, match="cannot patch resource"):
            await kube.apply(role)


async def test_an_older_role_of_the_operator_is_named_with_what_brings_it_up_to_date(
    api: KubeApi, kube: Kube
) -> None:
    """Where the cluster asks who holds up a Fleet's deletion, a role from before that right makes nothing."""
    status = fleet(api, "chat", "llm")
    async with at_work(api, kube, "llm") as until:
        await until(lambda: status().get("phase") == "Progressing")
        whole = api.rights or frozenset()
        api.rights = frozenset(r for r in whole if not r[2].startswith("fleets/finalizers"))
        status = fleet(api, "other", "llm", "none")
        await until(lambda: status().get("phase") == "Refused")
        assert "cannot set blockOwnerDeletion" in status()["reason"]
        api.rights = whole
        await until(lambda: status().get("phase") == "Progressing")


def test_the_default_form_is_one_namespace_and_names_it() -> None:
    runner = CliRunner()
    plain = runner.invoke(command, ["manifests", "-n", "llm"]).output
    assert "ClusterRole" not in plain
    assert "kind: Namespace\n" not in plain
    assert "- --namespace\n        - llm\n" in plain
    whole = runner.invoke(command, ["manifests", "--cluster-wide"]).output
    assert "kind: ClusterRole\n" in whole and "namespace: seawall-system" in whole
    assert "pods/proxy" not in plain + whole


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_operator_is_probed_where_it_answers(everywhere: bool) -> None:
    found = next(o for o in operator_manifests("llm", everywhere=everywhere) if o["kind"] == "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert (asked["path"], ports[asked["port"]]) == ("/healthz", HEALTH_PORT)
    at = container["args"].index("--health")
    assert container["args"][at + 1] == f"0.0.0.0:{HEALTH_PORT}"


async def test_the_page_answers_while_the_loop_turns() -> None:
    async with answering("127.0.0.1:0") as port:

        async def ask(text: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            answer = await reader.read()
            writer.close()
            return answer

        assert (await ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert (await ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 404")
        assert (await ask(b"POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 404")
        assert await ask(b"GET /" + b"a" * 100_000) == b""
        with pytest.raises(InputError, match="Name another port"):
            async with answering(f"127.0.0.1:{port}"):
                pass
    for wrong in ("8081x", "host:", "h:99999"):
        with pytest.raises(InputError, match="is no ADDRESS:PORT"):
            async with answering(wrong):
                pass


async def test_inside_the_cluster_a_silent_pod_is_told_by_its_own_reason(kube: Kube, api: KubeApi) -> None:
    """No question goes through the API server, for which the operator has no right."""
    kube.context = IN_CLUSTER
    before = len(api.requests)
    with pytest.raises(ClusterError, match="llm/g does not answer at port 1: "):
        await kube.page("llm", "g", "127.0.0.1", 1, "debug/state")
    with pytest.raises(ClusterError, match="has no address yet"):
        await kube.page("llm", "g", "", 9090, "debug/state")
    assert len(api.requests) == before
