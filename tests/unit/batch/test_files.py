"""The files of the lane on a volume, at S3 (moto) and at GCS (a small double): the official clients talk to them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from seawall.batch.blobs import COPY_S, Blobs
from seawall.batch.buckets import FileBucket, open_bucket
from seawall.errors import InputError, SourceError


class GcsDouble(BaseHTTPRequestHandler):
    """Upload in one request, download, delete: of one bucket."""

    files: dict[str, bytes]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        kind = self.headers["content-type"].encode()
        about, content = message_from_bytes(b"content-type: " + kind + b"\r\n\r\n" + body).get_payload()
        name = json.loads(about.get_payload())["name"]  # type: ignore[union-attr]
        self.files[name] = content.get_payload(decode=True)  # type: ignore[union-attr,assignment]
        self._send(200, json.dumps({"name": name, "bucket": "b"}).encode())

    def do_GET(self) -> None:
        found = self.files.get(self._name())
        self._send(404, b"{}") if found is None else self._send(200, found)

    def do_DELETE(self) -> None:
        gone = self.files.pop(self._name(), None)
        self._send(404, b"{}") if gone is None else self._send(204, b"")

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path.split("/o/", 1)[1])

    def _send(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)


def s3_bucket() -> Iterator[FileBucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="lines")
    yield open_bucket("s3://lines/lane", {"AWS_ENDPOINT_URL": url})
    server.stop()


def gcs_bucket() -> Iterator[FileBucket]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (GcsDouble,), {"files": {}}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield open_bucket(
        "gs://b/lane", {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{server.server_address[1]}"}
    )
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileBucket]:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield from s3_bucket() if request.param == "s3" else gcs_bucket()


def test_what_one_worker_wrote_another_reads(bucket: FileBucket, tmp_path: Path) -> None:
    one, two = Blobs(tmp_path / "one", bucket), Blobs(tmp_path / "two", bucket)
    content = b"line\n" * 100_000
    with one.new("file-a") as part:
        part.write(content)
    assert two.here("file-a").read_bytes() == content
    two.forget("file-a")
    assert not (tmp_path / "two" / "file-a").exists()
    with pytest.raises(FileNotFoundError):
        Blobs(tmp_path / "three", bucket).here("file-a")
    two.forget("file-a")  # again, after a kill: it is gone, and that is no error
    assert not list(tmp_path.rglob("*.part"))


def test_a_copy_that_nobody_wants_is_removed_and_comes_again(bucket: FileBucket, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, bucket)
    with blobs.new("file-a") as part:
        part.write(b"x")
    blobs.trim(time.time() + COPY_S / 2)
    assert (tmp_path / "file-a").exists()
    blobs.trim(time.time() + COPY_S * 2)
    assert not (tmp_path / "file-a").exists()
    assert blobs.here("file-a").read_bytes() == b"x"


class Away:
    """A bucket that cannot be reached."""

    def put(self, name: str, path: Path) -> None:
        raise SourceError("away.")

    def get(self, name: str, path: Path) -> bool:
        raise SourceError("away.")

    def forget(self, name: str) -> None:
        raise SourceError("away.")


def test_a_file_that_is_not_in_its_bucket_is_not_there(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, Away())
    with pytest.raises(SourceError), blobs.new("file-a") as part:
        part.write(b"x")
    assert not list(tmp_path.iterdir())


def test_a_volume_of_ones_own_keeps_what_it_has(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with blobs.new("file-a") as part:
        part.write(b"x")
    blobs.trim(time.time() + COPY_S * 2)
    assert blobs.here("file-a").read_bytes() == b"x"
    with pytest.raises(FileNotFoundError):
        blobs.here("file-b")


@pytest.mark.parametrize("address", ["s3://", "ftp://b/x", "b/x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="s3://BUCKET/FOLDER"):
        open_bucket(address, {})
