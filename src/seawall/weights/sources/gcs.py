"""gs://bucket/prefix: Google Cloud Storage. The official client authorizes (workload identity, ADC) and lists;
STORAGE_EMULATOR_HOST points it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seawall.errors import InputError, SourceError, of_kind
from seawall.weights.listing import MAX_FILES, Busy, Listing, Read, RemoteFile
from seawall.weights.sources import ListingRequest

_PIECE = 4 * 2**20


def open_listing(request: ListingRequest) -> Listing:
    bucket, _, prefix = request.rest.partition("/")
    if not bucket:
        raise InputError(f"{request.uri!r:.120} names no bucket.", "Write gs://bucket/folder.")
    folder = prefix.rstrip("/") + "/" if prefix else ""
    files = []
    for blob in _blobs(request, bucket, folder):
        path = blob.name[len(folder) :]
        if path and not path.endswith("/") and path != "seawall.lock":
            files.append(RemoteFile(path, blob.size or 0, _reader(blob), identity=f"{blob.generation}"))
    revision = request.lock.revision if request.lock else "latest"
    return Listing(f"gs://{bucket}/{folder}".rstrip("/"), revision, tuple(files))


def gcs_client(env: dict[str, str]) -> Any:
    """Google's client, with the identity that this process has."""
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
    except ImportError:
        raise InputError(
            "gs:// needs google-cloud-storage.", "Install it with: pip install 'seawall[cloud]'"
        ) from None
    emulator = env.get("STORAGE_EMULATOR_HOST")
    anonymous: Any = AnonymousCredentials
    if emulator:
        return storage.Client(
            project="local", credentials=anonymous(), client_options={"api_endpoint": emulator}
        )
    return storage.Client()


def _blobs(request: ListingRequest, bucket: str, folder: str) -> list[Any]:
    try:
        from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        gcs_client(request.env)
        raise
    try:
        client = gcs_client(request.env)
        return list(client.list_blobs(bucket, prefix=folder, max_results=MAX_FILES, timeout=20))
    except NotFound:
        raise InputError(f"gs://{bucket}/{folder}: not found.", "Check the bucket's name.") from None
    except (Forbidden, Unauthorized, GoogleAuthError) as e:
        raise SourceError(
            f"gs://{bucket}: not allowed ({of_kind(e)}).",
            "Grant roles/storage.objectViewer to this identity.",
        ) from None
    except (GoogleAPIError, OSError) as e:
        raise SourceError(f"gs://{bucket}: {of_kind(e)}.", "Check the network and the project.") from None


def _reader(blob: Any) -> Read:
    from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed

    def pieces(start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _PIECE):
            # The API's `end` is inclusive; the generation pins the very object that was listed.
            yield blob.download_as_bytes(
                start=at,
                end=min(end, at + _PIECE) - 1,
                if_generation_match=blob.generation,
                timeout=20,
                checksum=None,
            )

    @contextmanager
    def read(start: int, end: int) -> Iterator[Iterator[bytes]]:
        try:
            yield pieces(start, end)
        except (NotFound, PreconditionFailed):
            raise SourceError(
                f"gs://…/{blob.name}: changed while it was read.", "Pull again; pin a lockfile."
            ) from None
        except (GoogleAPIError, ConnectionError, TimeoutError) as e:
            raise Busy(f"the source failed ({of_kind(e)})") from None

    return read
