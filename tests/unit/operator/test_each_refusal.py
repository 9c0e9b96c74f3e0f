"""Each request of a verb refused in turn, or cut off: it changes nothing, or all; and it says so."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_bad_days import plain
from tests.unit.operator.verbs import Person

from seawall.cli.cluster import with_cluster
from seawall.cli.fleets import group_of
from seawall.drivers.kube import DEPLOYMENT, Kube
from seawall.errors import ClusterError
from seawall.operator.apply import apply, changes, delete, insist, inventory
from seawall.operator.ledger import Ref
from seawall.operator.preflight import missing_secrets, need_rights
from seawall.operator.status import look
from seawall.render.everything import render
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import SERVED, KubeApi

NS = "llm"
_RESOURCE = re.compile(r"(\w+) /(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/[^/]+(?=/[^/?]))?/([^/?]+)")


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(strict=True) as double:
        double.served = dict(SERVED)
        double.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        yield double


@pytest.fixture
def person(api: KubeApi, tmp_path: Path) -> Person:
    return Person(api, tmp_path)


def rich() -> dict[str, Any]:
    """A Fleet with most kinds of objects."""
    fleet = plain("one")
    fleet["spec"] |= {
        "engine": {"kind": "vllm"},
        "scaling": {"min": 1, "max": 3, "by": "keda-prometheus"},
        "cache": {"tokenSecret": "hub"},
        "gateway": {"tenants": [{"name": "a"}], "keysSecret": "keys"},
    }
    return fleet


def asked(api: KubeApi, since: int) -> list[str]:
    """`METHOD plural` of all that was asked since then, each once."""
    return sorted({f"{m[1]} {m[2]}" for r in api.requests[since:] if (m := _RESOURCE.match(r))})


def changed(api: KubeApi, since: int) -> list[str]:
    """The requests since then that changed something."""
    return [
        r
        for r in api.requests[since:]
        if r.startswith(("PATCH", "POST", "PUT", "DELETE"))
        and "dryRun=All" not in r
        and "selfsubjectaccess" not in r
    ]


MAY_BE_REFUSED = {
    "GET namespaces": "whoever has one namespace may not look at it",
    "PATCH namespaces": "nor change it",
    "GET fleets": "no operator, then",
    "GET secrets": "what cannot be seen is not missed",
    "POST selfsubjectaccessreviews": "the dry run says it",
}


async def tried(kube: Kube, work: Callable[[], Awaitable[object]]) -> str:
    """What it was refused with; empty where it was not."""
    try:
        await work()
    except ClusterError as e:
        return str(e)
    return ""


async def test_an_apply_or_delete_of_which_any_request_is_refused_changes_nothing(
    api: KubeApi, kube: Kube, person: Person
) -> None:
    group = group_of((person.writes(rich()),))
    objects = list(render(group).objects)

    async def looked_at() -> None:
        """What `seawall apply` does before its first change."""
        await need_rights(kube, [Ref.of(o, NS) for o in objects])
        insist(await changes(kube, objects, group.gateway, NS))
        await missing_secrets(kube, objects, NS)

    async def deleted() -> None:
        await delete(kube, group.gateway, NS, False, lambda ref, verb: None)

    await looked_at()
    looks = asked(api, 0)
    await apply(kube, objects, group.gateway, NS, sleep=kube.clock.sleep)
    since = len(api.requests)
    await deleted()
    deletes = asked(api, since)
    await apply(kube, objects, group.gateway, NS, sleep=kube.clock.sleep)
    assert len(looks) > 20 and len(deletes) > 20
    for work, pairs in ((looked_at, looks), (deleted, deletes)):
        for pair in pairs:
            if pair in MAY_BE_REFUSED and work == deleted:
                continue
            api.faults.forbid, since = {pair}, len(api.requests)
            said = await tried(kube, work)
            api.faults.forbid = set()
            assert not changed(api, since), (work, pair, said)
            assert bool(said) == (pair not in MAY_BE_REFUSED), (work, pair, said)
            if said:
                assert pair.partition(" ")[2] in said and "seawall doctor" in said


def test_a_policy_that_forbids_one_deletion_is_heard_before_the_first(api: KubeApi, person: Person) -> None:
    """Rights say yes, and a webhook says no."""
    file = person.writes(rich())
    assert person.type("apply", file, "--yes", "--no-wait").code == 0
    api.faults.forbid, since = {"DELETE deployments", "DELETE services"}, len(api.requests)
    said = person.type("delete", file, "--yes")
    assert said.code == 3 and not changed(api, since)
    assert "Deployment/one" in said.text and "Service/one" in said.text and "nothing was changed" in said.text


@pytest.mark.parametrize("verb", ["status", "diagnose"])
def test_what_could_not_be_read_is_not_taken_for_nothing(verb: str, api: KubeApi, person: Person) -> None:
    file = person.writes(rich())
    assert person.type("apply", file, "--yes", "--no-wait").code == 0
    since = len(api.requests)
    person.type(verb, "one", "-n", NS)
    for pair in asked(api, since):
        api.faults.forbid = {pair}
        said = person.type(verb, "one", "-n", NS)
        plural = pair.partition(" ")[2]
        if said.code != 3:
            assert f"not read: {plural} (403)" in said.text.replace("\n", " "), (pair, said.text)
        assert "nothing in" not in said.text.lower() and "nothing runs" not in said.text.lower(), pair


@pytest.mark.parametrize("at", [0, 40])
async def test_an_api_server_that_restarts_is_waited_for_by_who_has_reached_it(
    at: int, api: KubeApi, kube: Kube, person: Person
) -> None:
    """Ten refused connections in the middle of anything; the very first request says at once that nobody is there."""
    group = group_of((person.writes(rich()),))
    objects = list(render(group).objects)
    assert await kube.get(DEPLOYMENT, NS, "one") is None
    seen = 0

    def meanwhile(request: str) -> None:
        nonlocal seen
        if seen == at:
            api.faults.cut = 40
        seen += 1

    async def work() -> None:
        await changes(kube, objects, group.gateway, NS)
        await apply(kube, objects, group.gateway, NS, sleep=kube.clock.sleep)
        await look(kube, NS)
        assert len(await inventory(kube, group.gateway, NS)) == len(objects)
        await delete(kube, group.gateway, NS, True, lambda ref, verb: None)

    kube.patience_s = 60.0
    api.faults.meanwhile = meanwhile
    await work()
    assert not api.objects("apps/v1", "deployments")
    assert seen > 40 and api.faults.cut == 0


def test_every_verb_that_a_person_types_waits_so(api: KubeApi, tmp_path: Path) -> None:
    async def work(kube: Kube) -> None:
        kube.clock = JumpClock()
        await kube.get(DEPLOYMENT, NS, "one")
        api.faults.cut = 20
        await kube.get(DEPLOYMENT, NS, "one")

    with_cluster(None, api.kubeconfig(tmp_path), work)
    assert api.faults.cut == 0
