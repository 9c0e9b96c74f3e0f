"""A client of the API double that waits for nothing: what it would sleep between two tries passes at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from seawall.drivers.kube import Kube, connect
from seawall.testing.clock import JumpClock
from seawall.testing.kube_api import KubeApi


@pytest_asyncio.fixture
async def kube(api: KubeApi, tmp_path: Path) -> AsyncIterator[Kube]:
    async with connect(kubeconfig=api.kubeconfig(tmp_path, "llm")) as client:
        client.clock = JumpClock()
        yield client
