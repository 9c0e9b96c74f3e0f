"""Two who apply, or delete, the same fleet at once: what is there afterwards is in the list, and can be taken away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.test_apply import NS, obj

from seawall.drivers.kube import Kube, connect
from seawall.operator.apply import apply, delete, inventory
from seawall.operator.ledger import Ref
from seawall.testing.kube_api import KubeApi

SHARED = obj("ConfigMap", "shared", data={"x": "1"})
OURS = [SHARED, obj("Service", "ours", spec={}), obj("ConfigMap", "our-own", data={})]
THEIRS = [SHARED, obj("Service", "theirs", spec={}), obj("Secret", "their-own")]
INVENTORY = "gw-seawall-inventory"
Act = Callable[[Kube], Awaitable[Any]]


def quiet(ref: Ref, verb: str) -> None:
    return


ACTS: dict[str, Act] = {
    "apply": lambda kube: apply(kube, THEIRS, "gw", NS),
    "delete": lambda kube: delete(kube, "gw", NS, True, quiet),
}


class Other:
    """Somebody else, with a connection of his own, who does all of his before one request of ours for the list is
    answered: the `before`th. `any_request`: not only those for the list are counted."""

    def __init__(self, api: KubeApi, config: str, act: Act, before: int, any_request: bool = False) -> None:
        self.api, self.config, self.act, self.left = api, config, act, before
        self.any_request = any_request
        self.acted = False
        api.faults.meanwhile = self.asked

    def asked(self, call: str) -> None:
        self.left -= self.any_request or f"/configmaps/{INVENTORY}" in call or call.startswith("POST")
        if self.left < 0:
            self.api.faults.meanwhile = None
            self.acted = True
            one = threading.Thread(target=asyncio.run, args=(self.all(),))
            one.start()
            one.join(60.0)

    async def all(self) -> None:
        async with connect(kubeconfig=self.config) as kube:
            await self.act(kube)


def there(api: KubeApi) -> set[tuple[str, str]]:
    found = {
        (kind, name)
        for kind, plural in (("ConfigMap", "configmaps"), ("Service", "services"), ("Secret", "secrets"))
        for _, name in api.objects("v1", plural)
    }
    return found - {("ConfigMap", INVENTORY)}


@pytest.mark.parametrize("theirs", ACTS)
@pytest.mark.parametrize("ours", ["apply", "delete"])
@pytest.mark.parametrize("was_there", [False, True])
async def test_nothing_is_made_that_no_list_holds(
    ours: str, theirs: str, was_there: bool, tmp_path: Path
) -> None:
    before = 0
    while True:
        with KubeApi() as api:
            config = api.kubeconfig(tmp_path)
            async with connect(kubeconfig=config) as kube:
                if was_there:
                    await apply(kube, [*OURS, *THEIRS[1:]], "gw", NS)
                other = Other(api, config, ACTS[theirs], before)
                if ours == "apply":
                    await apply(kube, OURS, "gw", NS)
                else:
                    await delete(kube, "gw", NS, True, quiet)
                api.faults.meanwhile = None
                listed = {(r.kind, r.name) for r in await inventory(kube, "gw", NS)}
                assert there(api) <= listed, (before, there(api) - listed)
                await delete(kube, "gw", NS, True, quiet)
                assert not there(api) and not api.has("v1/configmaps", NS, INVENTORY)
        if not other.acted:
            break
        before += 1
    assert before > 1


class Killed(BaseException):
    """The process is gone: it writes nothing any more."""


@pytest.mark.parametrize("theirs", ACTS)
@pytest.mark.parametrize("last", ["ours", "our-own"])
@pytest.mark.parametrize("was_there", [False, True])
async def test_what_a_killed_apply_has_made_is_in_a_list_whoever_writes_meanwhile(
    last: str, theirs: str, was_there: bool, tmp_path: Path
) -> None:
    """It was about to make what another, who passed by before, has seen was not there."""

    def kill(ref: Ref, verb: str) -> None:
        if ref.name == last:
            raise Killed

    before, told = 0, list[str]()
    while True:
        with KubeApi() as api:
            config = api.kubeconfig(tmp_path)
            async with connect(kubeconfig=config) as kube:
                if was_there:
                    await apply(kube, [*OURS, *THEIRS[1:]], "gw", NS)
                other = Other(api, config, ACTS[theirs], before, any_request=True)
                with pytest.raises(Killed):
                    await apply(kube, OURS, "gw", NS, tell=kill)
                api.faults.meanwhile = None
                listed = {(r.kind, r.name) for r in await inventory(kube, "gw", NS)}
                assert there(api) <= listed, (before, there(api) - listed)
                told.clear()
                await delete(kube, "gw", NS, True, lambda ref, verb: told.append(verb))
                assert not there(api)
                if api.has("v1/configmaps", NS, INVENTORY):
                    assert any("delete again" in verb for verb in told)
                    await delete(kube, "gw", NS, True, quiet)
                assert not api.has("v1/configmaps", NS, INVENTORY)
        if not other.acted:
            break
        before += 1
    assert before > 1
