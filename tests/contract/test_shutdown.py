"""SIGTERM with `--shutdown-timeout`: streams finish, newcomers are answered badly. The last of the suite: it ends
the shared server."""

from __future__ import annotations

import signal
import time

import pytest
from tests.contract.conftest import Server

pytestmark = pytest.mark.timeout(1000)


def test_a_drain_finishes_what_runs(server: Server) -> None:
    stream = server.begin(max_tokens=200)
    first = stream.readline()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert server.ask("GET", "/health").status == 200
    assert server.ask("GET", "/v1/models").status == 200
    refused = server.chat()
    assert refused.status == 500
    assert "cannot schedule new futures after shutdown" in refused.json["error"]["message"]
    told = server.complete([5, 6, 7], stream=True)
    assert told.status == 200
    assert told.events == ["[DONE]"]
    rest = (first + stream.read()).decode()
    assert rest.rstrip().endswith("data: [DONE]")
    assert '"finish_reason":"length"' in rest
    assert server.process.wait(timeout=60) is not None
