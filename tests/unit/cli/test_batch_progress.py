"""`seawall batch status --wait`: how far, at which rate, and when it will be done, on a terminal and in a log; a
gateway that is away for a moment ends no waiting."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.e2e.local.terminal import in_terminal

NAME = "batch_019e0a0b0c0d0123456789ab"
FINISH_S = 754.0


def told(status: str, done: int) -> dict[str, Any]:
    return {
        "id": NAME, "status": status, "endpoint": "/v1/chat/completions", "errors": None,
        "request_counts": {"total": 50_000, "completed": done, "failed": 0},
        "expires_at": time.time() + 86_400, "output_file_id": None, "error_file_id": None,
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        "seawall": {"lines_per_second": 66.13, "finish_at": None if status == "completed" else time.time() + FINISH_S},
    }  # fmt: skip


class PlayedGateway:
    """Tells a batch's progress, a step with each question; None: it does not answer that one. The last stays."""

    def __init__(self, *steps: dict[str, Any] | None) -> None:
        self.steps, self.asked = list(steps), 0

    def next(self) -> dict[str, Any] | None:
        self.asked += 1
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]


@contextmanager
def served(gateway: PlayedGateway) -> Iterator[str]:
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            step = gateway.next()
            if step is None:
                self.close_connection = True  # cut without an answer
                return
            body = json.dumps(step).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def progress() -> PlayedGateway:
    return PlayedGateway(told("in_progress", 0), told("in_progress", 12_345), None, told("completed", 50_000))


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_a_bar_with_rate_and_finish(columns: int) -> None:
    with (
        served(progress()) as url,
        in_terminal(["batch", "status", NAME, "--wait", "--url", url], columns) as terminal,
    ):
        text = terminal.rest()
    frame = r"in_progress [━╸╺]+ +12345/50000 66\.1 lines/s, 12 min \d+ s left, done \d\d:\d\d"
    shown = re.search(frame, text)
    assert shown and len(shown[0]) <= columns, text
    assert re.search(r"no answer [━╸╺]+ +12345/50000 asked again", text), text
    assert f"{NAME}   completed   50,000 of 50,000 lines" in text and terminal.process.returncode == 0


def test_a_log_has_lines_instead_and_the_answer_alone_on_stdout() -> None:
    with served(progress()) as url:
        done = subprocess.run(
            [sys.executable, "-m", "seawall", "batch", "status", NAME, "--wait", "--url", url, "--json"],
            capture_output=True, text=True, timeout=110,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    lines = done.stderr.splitlines()
    assert re.match(
        rf"{NAME}: in_progress, 0 of 50,000 lines, 66.1 lines/s, 12 min \d+ s left, done \d\d:\d\d$", lines[0]
    )
    assert lines[-1].startswith(f"{NAME}: completed, 50,000 of 50,000 lines") and "\x1b" not in done.stderr


def test_who_stops_waiting_is_told_that_the_batch_goes_on() -> None:
    gateway = PlayedGateway(told("in_progress", 1))
    with served(gateway) as url:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "seawall", "batch", "status", NAME, "--wait", "--url", url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stderr is not None
        first = waiting.stderr.readline()
        os.kill(waiting.pid, signal.SIGINT)
        _, rest = waiting.communicate(timeout=110)
    assert "in_progress" in first and waiting.returncode == 130
    assert f"seawall batch status {NAME}" in rest and "Traceback" not in rest
