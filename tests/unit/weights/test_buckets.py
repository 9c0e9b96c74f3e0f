"""s3:// against moto's server, gs:// against a small double of its JSON API: the official clients do the talking."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from seawall.errors import InputError, SourceError
from seawall.weights.fetch import FetchPolicy
from seawall.weights.pull import Order, pull

from .test_pull import same


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, model_files: dict[str, bytes]) -> Iterator[tuple[str, Any]]:
    for key, value in [
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ]:
        monkeypatch.setenv(key, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="weights")
    for name, data in model_files.items():
        client.put_object(Bucket="weights", Key=f"llama/{name}", Body=data, ChecksumAlgorithm="SHA256")
    yield f"http://{host}:{port}", client
    server.stop()


def test_s3(tmp_path: Path, s3: tuple[str, Any], model_files: dict[str, bytes]) -> None:
    url, client = s3
    env = {"AWS_ENDPOINT_URL": url}
    to = tmp_path / "m"
    order = Order("s3://weights/llama", to, to / "seawall.lock", policy=FetchPolicy(backoff_s=0.01))
    pull(order, env)
    same(to, model_files)
    assert pull(order, env).already
    client.put_object(Bucket="weights", Key="llama/config.json", Body=b'{"model_type": "LLAMA"}')
    other = Order(
        "s3://weights/llama", tmp_path / "n", to / "seawall.lock", policy=FetchPolicy(backoff_s=0.01)
    )
    with pytest.raises(SourceError, match=r"config\.json"):
        pull(other, env)
    with pytest.raises(InputError, match="not found"):
        pull(Order("s3://nobody/x", tmp_path / "o", tmp_path / "o.lock"), env)
    with pytest.raises(SourceError, match="holds no file"):
        pull(Order("s3://weights/empty", tmp_path / "p", tmp_path / "p.lock"), env)


class _Gcs(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    protocol_version = "HTTP/1.1"
    failures = 3

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/storage/v1/b/weights/o":
            items = [
                {
                    "kind": "storage#object",
                    "name": f"llama/{n}",
                    "bucket": "weights",
                    "size": str(len(d)),
                    "generation": "7",
                }
                for n, d in self.files.items()
            ]
            return self._send(200, json.dumps({"kind": "storage#objects", "items": items}).encode())
        if "/o/" not in parts.path:
            return self._send(404, b'{"error": {"code": 404, "message": "no such bucket"}}')
        if type(self).failures > 0:
            type(self).failures -= 1
            return self._send(503, b"")
        data = self.files[unquote(parts.path.split("/o/", 1)[1]).removeprefix("llama/")]
        start, _, end = self.headers["range"].removeprefix("bytes=").partition("-")
        body = data[int(start) : int(end) + 1]
        return self._send(206, body, f"bytes {start}-{int(start) + len(body) - 1}/{len(data)}")

    def _send(self, code: int, body: bytes, span: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)


def test_gs(tmp_path: Path, model_files: dict[str, bytes]) -> None:
    handler = type("Handler", (_Gcs,), {"files": model_files, "failures": 3})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        env = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{server.server_address[1]}"}
        to = tmp_path / "m"
        pull(Order("gs://weights/llama", to, to / "seawall.lock", policy=FetchPolicy(backoff_s=0.01)), env)
        same(to, model_files)
        with pytest.raises(InputError, match="not found"):
            pull(Order("gs://nobody/x", tmp_path / "n", tmp_path / "n.lock"), env)
    finally:
        server.shutdown()
        server.server_close()
