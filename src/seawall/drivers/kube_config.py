"""Which cluster, and as whom: kubeconfig files as kubectl reads them, or the Pod's own service account.

What of a kubeconfig is understood: lists of files (the first to say something wins, relative paths are relative to
their own file), contexts with a namespace, CAs and client certificates as files or data, tokens and token files
(re-read, they rotate), basic auth, exec plugins, impersonation, insecure-skip-tls-verify, tls-server-name,
proxy-url. Nothing that a file holds ever gets into a message: names of contexts and paths of files, no more.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from seawall import __version__
from seawall.drivers.kube_auth import Basic, ExecPlugin, TokenFile, load_pair
from seawall.drivers.near import here
from seawall.errors import InputError, of_kind

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
IN_CLUSTER = "in-cluster"
"""Name of the context where a Pod's own account is used."""
MOST_BYTES = 16 * 2**20
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
Section = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Access:
    """One chosen cluster and user. Holds secrets: it has no repr."""

    context: str
    namespace: str
    cluster: Section
    user: Section


def account_uid(account: Path = ACCOUNT) -> str | None:
    """The uid of this Pod's ServiceAccount: no other cluster has it, nor one of that name made again. None: the Pod has
    no token that says it."""
    try:
        body = (account / "token").read_text().strip().split(".")[1]
        claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        uid = claims["kubernetes.io"]["serviceaccount"]["uid"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return uid if isinstance(uid, str) and re.fullmatch(r"[A-Za-z0-9-]{1,64}", uid) else None


def find_access(
    kubeconfig: str | None, context: str | None, env: Mapping[str, str], account: Path = ACCOUNT
) -> Access:
    """The cluster and user that kubectl would take: the named files', else ~/.kube/config's, else this Pod's."""
    named = [p for p in (kubeconfig or env.get("KUBECONFIG") or "").split(os.pathsep) if p]
    home = Path(env.get("HOME") or "~").expanduser() / ".kube" / "config"
    if not named and context is None and not home.is_file() and env.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(env, account)
    files = [Path(p).expanduser() for p in named] or [home]
    there = [f for f in files if f.is_file()]
    if not there:
        raise InputError(
            f"no cluster: there is no kubeconfig at {', '.join(map(str, files))}.",
            "Set KUBECONFIG, or name a file with --kubeconfig.",
        )
    merged: dict[str, Any] = {"clusters": {}, "contexts": {}, "users": {}, "current": ""}
    for file in there:
        _merge(merged, file)
    return _choose(merged, context, ", ".join(map(str, there)))


def _in_cluster(env: Mapping[str, str], account: Path) -> Access:
    host, port = env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT") or "443"
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    try:
        namespace = (account / "namespace").read_text("utf-8").strip() or "default"
    except OSError:
        raise InputError(
            "no cluster: this Pod has no service account token.",
            "Set automountServiceAccountToken: true, or KUBECONFIG.",
        ) from None
    cluster = {"server": server, "certificate-authority": str(account / "ca.crt")}
    return Access(IN_CLUSTER, namespace, cluster, {"tokenFile": str(account / "token")})


def _merge(into: dict[str, Any], file: Path) -> None:
    import yaml

    from seawall.drivers.bounded_yaml import BoundedLoader

    try:
        with file.open("rb") as f:
            content = f.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("too large")
        data = yaml.load(content, BoundedLoader)
    except OSError as e:
        raise InputError(f"{file}: {e.strerror}.", "Check who may read it.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        # The parser's message quotes the file, and the file holds secrets.
        raise InputError(
            f"the kubeconfig {file} cannot be used ({of_kind(e)}).", "Try it with: kubectl config view"
        ) from None
    if data is None and len(content) < 2:
        return
    if not isinstance(data, dict):
        raise InputError(f"the kubeconfig {file} is no mapping.", "Try it with: kubectl config view")
    into["current"] = into["current"] or str(data.get("current-context") or "")
    for plural, key in (("clusters", "cluster"), ("contexts", "context"), ("users", "user")):
        entries = data.get(plural) or []
        if not isinstance(entries, list):
            raise InputError(f"{file}: {plural} is no list.", "Try it with: kubectl config view")
        for entry in entries:
            section = (entry.get(key) or {}) if isinstance(entry, dict) else None
            if not isinstance(section, dict) or "name" not in entry:
                raise InputError(
                    f"{file}: {plural} has an entry without a name or a {key}.",
                    "Try it with: kubectl config view",
                )
            into[plural].setdefault(str(entry["name"]), _absolute(section, file.parent))


def _absolute(section: Section, folder: Path) -> Section:
    out = dict(section)
    for key in _PATHS:
        if out.get(key):
            out[key] = str(folder / Path(str(out[key])).expanduser())
    plugin = out.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command", "")):
        out["exec"] = {**plugin, "command": str(folder / str(plugin["command"]))}
    return out


def _choose(merged: dict[str, Any], context: str | None, where: str) -> Access:
    known = sorted(merged["contexts"])
    listed = f"{where} knows {', '.join(known[:20])}." if known else f"{where} knows no context."
    name = context or merged["current"]
    if not name:
        raise InputError(f"no cluster: {where} has no current context.", f"Name one with --context; {listed}")
    chosen = merged["contexts"].get(name)
    if chosen is None:
        raise InputError(f"no cluster: there is no context {name!r}.", listed)
    cluster = merged["clusters"].get(str(chosen.get("cluster") or ""))
    if cluster is None or not cluster.get("server"):
        raise InputError(
            f"context {name!r}: its cluster {chosen.get('cluster')!r} has no server.",
            f"See: kubectl config view --context {name}",
        )
    wanted = str(chosen.get("user") or "")
    if wanted and wanted not in merged["users"]:
        raise InputError(f"context {name!r}: there is no user {wanted!r}.", f"Log in again; read {where}.")
    namespace = str(chosen.get("namespace") or "default")
    return Access(name, namespace, cluster, merged["users"].get(wanted, {}))


def client_of(access: Access, timeout: httpx2.Timeout) -> httpx2.AsyncClient:
    """An HTTP client that speaks to this cluster as this user. InputError for what cannot be used."""
    cluster, user = access.cluster, access.user
    server = str(cluster["server"]).rstrip("/")
    if "://" not in server:
        server = f"https://{server}"
    context = _tls(access) if server.startswith("https:") else None
    name = str(cluster.get("tls-server-name") or "")

    async def rename(request: httpx2.Request) -> None:
        request.extensions["sni_hostname"] = name

    try:
        return httpx2.AsyncClient(
            base_url=server,
            verify=True if context is None else context,
            auth=_auth(access, context),
            headers=[("User-Agent", f"seawall/{__version__}"), *_impersonated(user)],
            proxy=str(cluster["proxy-url"]) if cluster.get("proxy-url") else None,
            trust_env=access.context != IN_CLUSTER and not here(server),  # from a desk as kubectl does
            timeout=timeout,
            event_hooks={"request": [rename]} if name else None,
        )
    except (httpx2.InvalidURL, ValueError):
        raise InputError(
            f"context {access.context!r}: its server or its proxy-url is no URL.",
            f"See: kubectl config view --context {access.context}",
        ) from None


def _impersonated(user: Section) -> list[tuple[str, str]]:
    out = [("Impersonate-User", str(user["as"]))] if user.get("as") else []
    if user.get("as-uid"):
        out.append(("Impersonate-Uid", str(user["as-uid"])))
    return out + [("Impersonate-Group", str(g)) for g in user.get("as-groups") or []]


def _auth(access: Access, context: ssl.SSLContext | None) -> httpx2.Auth | None:
    user = access.user
    if user.get("tokenFile"):
        return TokenFile(Path(str(user["tokenFile"])))
    if user.get("token"):
        return TokenFile.of(str(user["token"]))
    if isinstance(user.get("exec"), dict):
        return ExecPlugin(user["exec"], access.cluster, context)
    if user.get("username"):
        return Basic(str(user["username"]), str(user.get("password") or ""))
    if user.get("auth-provider"):
        raise InputError(
            f"context {access.context!r}: its user has an auth-provider, which Kubernetes removed in 1.26.",
            "Make the kubeconfig anew with your cloud's command; it writes an exec plugin.",
        )
    return None


def _tls(access: Access) -> ssl.SSLContext:
    cluster, user = access.cluster, access.user
    try:
        authority = cluster.get("certificate-authority-data")
        pem = b64decode(str(authority), validate=False).decode("ascii") if authority else None
        file = None if pem else cluster.get("certificate-authority") or None
        context = ssl.create_default_context(cafile=file, cadata=pem)
        # Clusters' own CAs are often not to the letter of RFC 5280; Go does not ask for it either.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate = _part(user, "client-certificate")
        if certificate:
            load_pair(context, certificate, _part(user, "client-key"))
        return context
    except (OSError, ValueError) as e:
        # ssl.SSLError is an OSError; the message of neither is shown: it may quote what was read.
        missing = f": {e.filename} is not there" if isinstance(e, FileNotFoundError) and e.filename else ""
        raise InputError(
            f"context {access.context!r}: its certificates cannot be used ({of_kind(e)}{missing}).",
            "Log in again, or look at it with: kubectl config view",
        ) from None


def _part(user: Section, key: str) -> bytes:
    if user.get(f"{key}-data"):
        return b64decode(str(user[f"{key}-data"]))
    return Path(str(user[key])).read_bytes() if user.get(key) else b""
