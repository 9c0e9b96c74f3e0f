"""What several rooms' tests need: an API double and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from seawall.drivers.kube import Kube, connect
from seawall.testing.kube_api import KubeApi


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        yield double


@pytest_asyncio.fixture
async def kube(api: KubeApi, tmp_path: Path) -> AsyncIterator[Kube]:
    async with connect(kubeconfig=api.kubeconfig(tmp_path, "llm")) as client:
        yield client
