"""hf://org/name[@revision][/folder]: the Hugging Face hub or a mirror of it (HF_ENDPOINT).

`drivers.hub` lists and authorizes; the bytes come through our own ranged reader.
"""

from __future__ import annotations

from seawall.drivers import hub
from seawall.errors import InputError
from seawall.weights.listing import Listing, RemoteFile
from seawall.weights.sources import ListingRequest, http

_NEEDLESS = (
    ".gitattributes",
    "original/",
    "onnx/",
    "openvino/",
    "coreml/",
    "runs/",
    "flax_model",
    "tf_model",
    "rust_model",
)
_IMAGES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".webp",
    ".mp4",
    ".pdf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".tflite",
    ".ot",
)


def open_listing(request: ListingRequest) -> Listing:
    repo, revision, folder = _parse(request)
    token = hub.token(request.env)
    info = hub.repository(repo, revision, request.env)
    http_client = http.client(
        request.env, hub.endpoint(request.env), {"authorization": f"Bearer {token}"} if token else None
    )
    files = []
    for s in info.siblings or []:
        path = s.rfilename
        if (
            (folder and not path.startswith(folder))
            or path.startswith(_NEEDLESS)
            or path.lower().endswith(_IMAGES)
        ):
            continue
        url = hub.file_url(repo, path, info.sha, request.env)
        sha256 = s.lfs.sha256 if s.lfs else None
        files.append(
            RemoteFile(
                path=path[len(folder) :],
                size=s.lfs.size if s.lfs else (s.size or 0),
                read=http.ranged(http_client, url, f"{repo}/{path}"),
                sha256=sha256,
                git_sha1=None if sha256 else s.blob_id,
                identity=sha256 or s.blob_id or info.sha,
            )
        )
    return Listing(f"hf://{repo}" + (f"/{folder.rstrip('/')}" if folder else ""), info.sha, tuple(files))


def _parse(request: ListingRequest) -> tuple[str, str | None, str]:
    """hf://org/name@revision/folder -> (org/name, revision, folder/)."""
    rest, _, tail = request.rest.partition("@")
    parts = [p for p in rest.strip("/").split("/") if p]
    revision = tail.split("/")[0] or None
    folder = parts[2:] + tail.split("/")[1:]
    if len(parts) < 2 or any(p in (".", "..") for p in parts + folder):
        raise InputError(
            f"{request.uri!r:.120} names no repository.", "Write hf://org/name or hf://org/name@revision."
        )
    if request.lock:
        revision = request.lock.revision
    return "/".join(parts[:2]), request.revision or revision, "/".join(folder) + "/" if any(folder) else ""
