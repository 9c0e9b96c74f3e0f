"""hf://org/name[@revision][/folder]: the Hugging Face hub or a mirror of it (HF_ENDPOINT).

The hub's client lists and authorizes; the bytes come through our own ranged reader. Tokens come from
HF_TOKEN, HF_TOKEN_PATH or the hub client's own login file, never from the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seawall.errors import InputError, SourceError
from seawall.weights.listing import Listing, RemoteFile
from seawall.weights.sources import Request, http

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


def open_listing(request: Request) -> Listing:
    repo, revision, folder = _parse(request)
    endpoint = request.env.get("HF_ENDPOINT", "").rstrip("/") or None
    token = _token(request.env)
    api, url_of = _hub(endpoint, token)
    info = _ask(api, repo, revision)
    http_client = http.client(request.env, {"authorization": f"Bearer {token}"} if token else None)
    files = []
    for s in info.siblings or []:
        path = s.rfilename
        if (
            (folder and not path.startswith(folder))
            or path.startswith(_NEEDLESS)
            or path.lower().endswith(_IMAGES)
        ):
            continue
        url = url_of(repo_id=repo, filename=path, revision=info.sha, endpoint=endpoint)
        sha256 = s.lfs.sha256 if s.lfs else None
        files.append(
            RemoteFile(
                path=path[len(folder) :],
                size=s.lfs.size if s.lfs else (s.size or 0),
                read=http.ranged(http_client, url, f"{repo}/{path}"),
                sha256=sha256,
                git_sha1=None if sha256 else s.blob_id,
                identity=info.sha,
            )
        )
    return Listing(f"hf://{repo}" + (f"/{folder.rstrip('/')}" if folder else ""), info.sha, tuple(files))


def _parse(request: Request) -> tuple[str, str | None, str]:
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


def _token(env: dict[str, str]) -> str | None:
    if env.get("HF_TOKEN"):
        return env["HF_TOKEN"].strip()
    path = env.get("HF_TOKEN_PATH") or str(
        Path(env.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "token"
    )
    try:
        return Path(path).read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _hub(endpoint: str | None, token: str | None) -> tuple[Any, Any]:
    from huggingface_hub import HfApi, hf_hub_url

    return HfApi(endpoint=endpoint, token=token or False, library_name="seawall"), hf_hub_url


def _ask(api: Any, repo: str, revision: str | None) -> Any:
    import time

    import httpx
    from huggingface_hub import errors as hub

    for attempt in range(5):
        try:
            return api.model_info(repo, revision=revision, files_metadata=True, timeout=20)
        except hub.GatedRepoError:
            raise SourceError(
                f"{repo} is gated.",
                "Accept its licence on its page, and set HF_TOKEN to a token of that account.",
            ) from None
        except (hub.RepositoryNotFoundError, hub.HFValidationError):
            raise InputError(
                f"{repo} is not on the hub, or is private.",
                "Check the spelling; for a private one set HF_TOKEN.",
            ) from None
        except hub.RevisionNotFoundError:
            raise InputError(
                f"{repo} has no revision {revision!r}.", "Name a commit, tag or branch."
            ) from None
        except (hub.HfHubHTTPError, httpx.TransportError, hub.OfflineModeIsEnabled) as e:
            status = getattr(getattr(e, "response", None), "status_code", None)
            if attempt == 4 or (status and status < 500 and status != 429):
                raise SourceError(
                    f"the hub did not list {repo} ({f'HTTP {status}' if status else type(e).__name__}).",
                    "Check the network; HF_ENDPOINT names a mirror; s3://, oci:// and pypi:// work without a hub.",
                ) from None
            time.sleep(0.3 * 2.0**attempt)
    raise AssertionError("unreachable")
