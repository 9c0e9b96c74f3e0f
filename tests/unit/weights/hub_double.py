"""A server that plays the hub, a web folder and an OCI registry, and misbehaves on purpose.

`Faults` are drawn per request from a seeded rng: stall, truncate, reset, 429 with Retry-After, 503, a wrong
Content-Range, a length that lies, a redirect to itself, a login page. Everything it serves is kept in memory.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar

REVISION = "0123456789abcdef0123456789abcdef01234567"


class HubDouble:
    """`with HubDouble({"config.json": b"{}"}) as hub:`; `hub.url` is the endpoint."""

    def __init__(
        self, files: dict[str, bytes], faults: list[str] | None = None, rate: float = 0.3, seed: int = 0
    ) -> None:
        self.files, self.faults, self.rate = files, faults or [], rate
        self.rng, self.lock = random.Random(seed), threading.Lock()
        self.seen: Counter[str] = Counter()
        self.tokens: set[str | None] = set()
        self.ranges = True
        self.slow_s = 0.0
        self.elsewhere = False
        """Whether files lie with another host, as the hub's large ones do (Xet, its CDN): it signs a link to them."""
        self.strange_tokens: set[str | None] = set()
        """What that host was shown for authorization."""
        self.broken: set[str] = set()
        """Files that are listed, and answered with 503 whenever they are asked for."""
        self.served_bytes = 0
        self.on_range: Callable[[int], object] | None = None
        """Called with the count of ranged requests so far, before each is answered."""
        self.ranged = 0
        double = self

        class Handler(_Handler):
            hub = double

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def fault(self) -> str | None:
        with self.lock:
            return self.rng.choice(self.faults) if self.faults and self.rng.random() < self.rate else None

    def __enter__(self) -> HubDouble:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    def oci_manifest(self) -> bytes:
        layers = [
            {
                "mediaType": "application/octet-stream",
                "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "annotations": {"org.opencontainers.image.title": name},
            }
            for name, data in sorted(self.files.items())
        ]
        return json.dumps({"schemaVersion": 2, "config": {}, "layers": layers}).encode()


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubDouble]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        hub.tokens.add(self.headers.get("authorization"))
        fault = hub.fault()
        with hub.lock:
            hub.seen[fault or "ok"] += 1
        if fault in ("429", "503"):
            return self._send(int(fault), b"later", {"Retry-After": "0"})
        if fault == "circle":
            return self._send(302, b"", {"Location": self.path})
        if fault == "login-page":
            return self._send(200, b"<html>log in</html>", {"Content-Type": "text/html"})
        if path == "/api/models/org/model/revision/missing":
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith("/api/models/org/gated"):
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/models/org/model/tree/"):
            return self._send(200, json.dumps(self._tree()).encode(), {"Content-Type": "application/json"})
        if path.startswith("/api/models/org/model"):
            return self._send(200, json.dumps(self._info()).encode(), {"Content-Type": "application/json"})
        if path.startswith("/v2/"):
            return self._registry(path, fault)
        if self.headers.get("range") and hub.on_range:
            with hub.lock:
                hub.ranged += 1
                hub.on_range(hub.ranged)
        m = re.fullmatch(r"(?:/org/model/resolve/[^/]+|/folder|/signed)/(.+)", path)
        if hub.elsewhere and m and path.startswith("/signed/"):
            hub.strange_tokens.add(self.headers.get("authorization"))
        elif hub.elsewhere and m and path.startswith("/org/model/resolve/"):
            link = f"http://localhost:{hub.server.server_address[1]}/signed/{m[1]}?X-Amz-Signature=abc"
            return self._send(
                302, b"", {"Location": link, "X-Linked-Size": str(len(hub.files.get(m[1], b"")))}
            )
        if m is None or m[1] not in hub.files:
            return self._send(404, b"no", {"X-Error-Code": "EntryNotFound" if m else "RepoNotFound"})
        if m[1] in hub.broken:
            return self._send(503, b"later", {"Retry-After": "0"})
        return self._file(hub.files[m[1]], fault)

    def _info(self) -> dict[str, Any]:
        siblings = []
        for name, data in self.hub.files.items():
            git = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
            if name.endswith(".safetensors"):
                sha = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        return {"id": "org/model", "modelId": "org/model", "sha": REVISION, "siblings": siblings}

    def _tree(self) -> list[dict[str, Any]]:
        """What `hf download` lists with (the peer in bench/pull.py)."""
        tree = []
        for s in self._info()["siblings"]:
            lfs = {**s["lfs"], "oid": s["lfs"]["sha256"]} if "lfs" in s else None
            tree.append(
                {"type": "file", "path": s["rfilename"], "size": s["size"], "oid": s["blobId"], "lfs": lfs}
            )
        return tree

    def _registry(self, path: str, fault: str | None) -> None:
        if "/manifests/" in path:
            return self._send(200, self.hub.oci_manifest(), {})
        digest = path.rsplit("sha256:", 1)[-1]
        for data in self.hub.files.values():
            if hashlib.sha256(data).hexdigest() == digest:
                return self._file(data, fault)
        return self._send(404, b"", {})

    def _file(self, data: bytes, fault: str | None) -> None:
        start, end, code = 0, len(data), 200
        headers: dict[str, str] = {}
        headers |= {
            "ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"',
            "X-Repo-Commit": REVISION,
            "X-Linked-Size": str(len(data)),
        }
        m = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if m and self.hub.ranges:
            start, end, code = int(m[1]), min(int(m[2]) + 1, len(data)), 206
            stated = start + 1 if fault == "wrong-range" else start
            headers["Content-Range"] = f"bytes {stated}-{end - 1}/{len(data)}"
        body = data[start:end]
        if fault == "corrupt" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        self._send(code, body, headers, fault)

    def _send(self, code: int, body: bytes, headers: dict[str, str], fault: str | None = None) -> None:
        self.send_response(code)
        for k, v in headers.items():
            self.send_header(k, v)
        length = len(body) + (1000 if fault == "lying-length" else 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        with self.hub.lock:
            self.hub.served_bytes += len(body)
        try:
            if fault in ("truncate", "lying-length", "stall"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                if fault == "stall":
                    time.sleep(1.5)
                self.close_connection = True
                return
            piece = 256 * 1024
            for at in range(0, len(body), piece):
                self.wfile.write(body[at : at + piece])
                if self.hub.slow_s:
                    time.sleep(self.hub.slow_s)
        except OSError:
            self.close_connection = True
