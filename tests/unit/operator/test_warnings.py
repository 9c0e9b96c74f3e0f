"""What the API server and its webhooks warn of: said once, by the operator in its log."""

from __future__ import annotations

import logging

import pytest
from tests.unit.operator.test_bad_days import plain
from tests.unit.operator.test_cluster_changes import applied
from tests.unit.operator.test_pools import NS, Cluster

from seawall.drivers.kube import DEPLOYMENT, MOST_WARNINGS, Kube
from seawall.testing.kube_api import KubeApi

WARNING = 'spec.template.spec.containers[0].image: "latest" is frowned upon'


async def test_the_operator_says_a_warning_once(
    api: KubeApi, kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.warn = WARNING
    api.put(plain("one"))
    with caplog.at_level(logging.WARNING, "seawall.operator"):
        async with Cluster(api, kube) as c:
            await c.until(lambda: applied(api, "one"))
            api.put(plain("two"))
            await c.until(lambda: applied(api, "two"))
    told = [r.getMessage() for r in caplog.records if WARNING in r.getMessage()]
    assert told == [f"the API server warns: {WARNING}"]


async def test_warnings_that_all_differ_fill_no_memory(api: KubeApi, kube: Kube) -> None:
    for n in range(MOST_WARNINGS + 20):
        api.faults.warn = f"object {n}"
        await kube.delete(DEPLOYMENT, NS, f"d{n}")
    assert len(kube.warnings) == MOST_WARNINGS
