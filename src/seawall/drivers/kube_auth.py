"""How a request to the API server says who asks: bearer tokens that rotate, basic auth, exec plugins.

Credentials live in these objects and in request headers, and nowhere else: not in a message, a log or a repr.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from seawall.errors import ClusterError, InputError, of_kind

REREAD_S = 60.0
"""Seconds after which a token file is read again, as client-go does: the kubelet rotates it."""
PLUGIN_S = 300.0
"""Seconds that a plugin may take: it may wait for a person in a browser, but not for ever."""
_VERSIONS = ("v1", "v1beta1", "v1alpha1")
_GROUP = "client.authentication.k8s.io"


class Basic(httpx2.Auth):
    """User name and password."""

    def __init__(self, user: str, password: str) -> None:
        self._header = "Basic " + b64encode(f"{user}:{password}".encode()).decode()

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        request.headers["Authorization"] = self._header
        yield request


class TokenFile(httpx2.Auth):
    """A bearer token out of a file, read again every minute and when the server no longer takes it."""

    def __init__(self, path: Path | None, token: str = "") -> None:
        self._path, self._token, self._read_at = path, token, -REREAD_S

    @classmethod
    def of(cls, token: str) -> TokenFile:
        """The credentials for a token that does not change."""
        return cls(None, token)

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if self._path and time.monotonic() - self._read_at >= REREAD_S:
            self._read()
        sent = self._token
        request.headers["Authorization"] = f"Bearer {sent}"
        answer = yield request
        if answer.status_code == 401 and self._path:
            self._read()
            if self._token != sent:
                request.headers["Authorization"] = f"Bearer {self._token}"
                yield request

    def _read(self) -> None:
        assert self._path is not None
        try:
            token = self._path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as e:
            if self._token:
                return  # being replaced at this moment; the old one may still do
            raise InputError(
                f"the token file {self._path} cannot be read ({of_kind(e)}).", "Log in again."
            ) from None
        self._token, self._read_at = token, time.monotonic()


class ExecPlugin(httpx2.Auth):
    """Credentials from a command (aws, gke-gcloud-auth-plugin, kubelogin...), asked for when they are missing, have
    expired or are refused. Its stderr and, where somebody is there, its stdin are the user's own."""

    def __init__(
        self, plugin: dict[str, Any], cluster: dict[str, Any], context: ssl.SSLContext | None
    ) -> None:
        version = str(plugin.get("apiVersion") or "")
        if version not in {f"{_GROUP}/{v}" for v in _VERSIONS} or not plugin.get("command"):
            raise InputError(
                f"the kubeconfig's exec plugin asks for {version or 'no apiVersion'!r}.",
                f"It must be one of {', '.join(f'{_GROUP}/{v}' for v in _VERSIONS)}, with a command.",
            )
        self._plugin, self._cluster, self._context = plugin, cluster, context
        self._token, self._until, self._asked = "", 0.0, False
        self._lock = asyncio.Lock()

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        async with self._lock:
            if not self._asked or time.time() >= self._until:
                await self._ask()
            sent = self._token
        self._sign(request)
        answer = yield request
        if answer.status_code == 401:
            async with self._lock:
                if self._token == sent:
                    await self._ask()
            self._sign(request)
            yield request

    def _sign(self, request: httpx2.Request) -> None:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"

    async def _ask(self) -> None:
        command = str(self._plugin["command"])
        if shutil.which(command) is None:
            hint = str(self._plugin.get("installHint") or "").strip().splitlines()
            raise InputError(
                f"the kubeconfig's exec plugin {command!r} is not installed.",
                hint[0][:200] if hint else "Install it, or use another --context.",
            )
        wanted = str(self._plugin.get("interactiveMode") or "IfAvailable")
        somebody = wanted != "Never" and sys.stdin is not None and sys.stdin.isatty()
        argv = [command, *(str(a) for a in self._plugin.get("args") or [])]
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=self._env(somebody),
            stdin=None if somebody else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PLUGIN_S):
                out, _ = await process.communicate()
        except TimeoutError:
            raise ClusterError(
                f"the exec plugin {command!r} has not answered for {PLUGIN_S:.0f} s.", "Run it by hand."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise ClusterError(
                f"the exec plugin {command!r} failed (exit code {process.returncode}).", "Log in again."
            )
        self._take(out, command)

    def _env(self, somebody: bool) -> dict[str, str]:
        spec: dict[str, Any] = {"interactive": somebody}
        if self._plugin.get("provideClusterInfo"):
            keys = {
                "server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url"
            }  # fmt: skip
            spec["cluster"] = {k: v for k, v in self._cluster.items() if k in keys}
            extension = [
                e.get("extension")
                for e in self._cluster.get("extensions") or []
                if isinstance(e, dict) and e.get("name") == f"{_GROUP}/exec"
            ]
            spec["cluster"] |= {"config": extension[0]} if extension else {}
        info = {"apiVersion": self._plugin["apiVersion"], "kind": "ExecCredential", "spec": spec}
        own = {str(e["name"]): str(e.get("value", "")) for e in self._plugin.get("env") or []}
        return {**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(info)}

    def _take(self, out: bytes, command: str) -> None:
        try:
            status = json.loads(out)["status"]
            token = status.get("token") or ""
            until = status.get("expirationTimestamp")
            expires = datetime.fromisoformat(str(until).replace("Z", "+00:00")).timestamp() if until else None
            pair = (status.get("clientCertificateData"), status.get("clientKeyData"))
            if not isinstance(token, str) or not (token or all(pair)):
                raise ValueError("neither a token nor a certificate")
            if all(pair) and self._context is not None:
                load_pair(self._context, str(pair[0]).encode(), str(pair[1]).encode())
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as e:
            raise ClusterError(
                f"the exec plugin {command!r} did not answer with a credential ({of_kind(e)}).",
                "Log in again, or run it by hand.",
            ) from None
        self._token, self._asked = token, True
        # A little early: the request still has to travel. At least a few seconds, or a wrong clock asks at every call.
        self._until = float("inf") if expires is None else max(expires - 10.0, time.time() + 5.0)


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Loads a client certificate. OpenSSL reads files only: they lie in a folder of our own for a moment."""

    def no_prompt() -> bytes:
        raise ValueError("an encrypted key")

    with tempfile.TemporaryDirectory() as folder:
        cert_file, key_file = Path(folder, "cert"), Path(folder, "key")
        for file, data in ((cert_file, certificate), (key_file, key)):
            file.touch(0o600)
            file.write_bytes(data)
        context.load_cert_chain(cert_file, key_file if key else None, no_prompt)
