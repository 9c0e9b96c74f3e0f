"""oci://registry/repository[:tag|@sha256:…]: a model artifact whose layers are files (ORAS and ModelPack style:
each layer's `org.opencontainers.image.title` is its path). Digests are sha256, so every file is pinned.

Speaks the OCI distribution API over our HTTP; credentials from the Docker/Podman config file, as `docker login`
leaves them. Container images (tar layers) are for `cache.kind: oci`, where the kubelet mounts them.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2

from seawall.errors import InputError, SourceError
from seawall.weights.listing import Listing, RemoteFile
from seawall.weights.sources import ListingRequest, http

_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath", "org.cnai.model.filepath")
_REFERENCE = re.compile(
    r"(?P<host>[^/]+)/(?P<repo>[a-z0-9._/-]+?)(?::(?P<tag>[\w.-]{1,128}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def open_listing(request: ListingRequest) -> Listing:
    m = _REFERENCE.fullmatch(request.rest)
    if m is None:
        raise InputError(
            f"{request.uri!r:.160} is not an OCI reference.", "Write oci://registry/repository@sha256:…."
        )
    locked = request.lock.revision if request.lock else None
    reference = locked or m["digest"] or request.revision or m["tag"] or "latest"
    scheme = "http" if m["host"].split(":")[0] in ("127.0.0.1", "localhost") else "https"
    base = f"{scheme}://{m['host']}/v2/{m['repo']}"
    client = http.client(request.env, base)
    _authorize(client, base, reference, m["host"], m["repo"], request.env)
    manifest, digest = _manifest(client, base, reference)
    if manifest.get("manifests"):
        manifest, digest = _manifest(client, base, manifest["manifests"][0]["digest"])
    files = []
    for layer in manifest.get("layers", []):
        notes = layer.get("annotations") or {}
        path = next((notes[t] for t in _TITLES if notes.get(t)), None)
        algorithm, _, sha256 = str(layer.get("digest")).partition(":")
        if path is None or algorithm != "sha256":
            raise SourceError(
                f"{request.rest}: a layer of type {layer.get('mediaType')!r:.80} is not a named file.",
                "This is a container image; mount it with cache.kind: oci, or push the model with `oras push`.",
            )
        read = http.ranged(client, f"{base}/blobs/{layer['digest']}", path)
        files.append(RemoteFile(path, int(layer["size"]), read, sha256=sha256, identity=sha256))
    return Listing(f"oci://{m['host']}/{m['repo']}", digest, tuple(files))


def _manifest(client: httpx2.Client, base: str, reference: str) -> tuple[dict[str, Any], str]:
    import hashlib

    answer = http.get_small(
        client, f"{base}/manifests/{reference}", f"manifest {reference[:24]}", headers={"accept": _ACCEPT}
    )
    digest = "sha256:" + hashlib.sha256(answer.content).hexdigest()
    if reference.startswith("sha256:") and digest != reference:
        raise SourceError(
            f"the manifest is {digest[:19]}…, not {reference[:19]}….", "Do not trust this registry."
        )
    try:
        manifest = json.loads(answer.content)
        assert isinstance(manifest, dict)
    except (ValueError, AssertionError):
        raise SourceError("the registry's manifest is not JSON.", "Check the address.") from None
    return manifest, digest


def _authorize(
    client: httpx2.Client, base: str, reference: str, host: str, repo: str, env: dict[str, str]
) -> None:
    """Follows the registry's challenge: anonymous or configured credentials for a pull-only bearer token."""
    try:
        probe = client.head(f"{base}/manifests/{reference}", headers={"accept": _ACCEPT})
    except (httpx2.HTTPError, httpx2.InvalidURL) as e:
        raise SourceError(
            f"{host} does not answer ({http.why(e)}).", "Check the registry's name and the network."
        ) from None
    if probe.status_code != 401:
        return
    challenge = probe.headers.get("www-authenticate", "")
    basic = _login(host, env)
    if challenge.lower().startswith("bearer"):
        fields = dict(_CHALLENGE.findall(challenge))
        query = {"service": fields.get("service", host), "scope": f"repository:{repo}:pull"}
        headers = {"authorization": f"Basic {basic}"} if basic else {}
        url = f"{fields.get('realm', '')}?{urlencode(query)}"
        got = http.get_json(client, url, f"token of {host}", headers=headers)
        client.headers["authorization"] = f"Bearer {got.get('token') or got.get('access_token')}"
    elif basic:
        client.headers["authorization"] = f"Basic {basic}"


def _login(host: str, env: dict[str, str]) -> str | None:
    places = [
        Path(env["REGISTRY_AUTH_FILE"]) if env.get("REGISTRY_AUTH_FILE") else None,
        Path(env.get("DOCKER_CONFIG", str(Path.home() / ".docker"))) / "config.json",
    ]
    for place in filter(None, places):
        try:
            auth = json.loads(place.read_bytes()).get("auths", {}).get(host, {}).get("auth")
        except (OSError, ValueError, AttributeError):
            continue
        if auth:
            base64.b64decode(auth, validate=True)
            return str(auth)
    return None
