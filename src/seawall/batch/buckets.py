"""Buckets for the lane's files: s3://BUCKET/FOLDER (and what speaks S3) and gs://BUCKET/FOLDER, by the clients that
weights are read with. A file is whole in its bucket or not there. Calls block. Forbidden here: what a file is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from seawall.decide.batch.rules import bucket_parts
from seawall.errors import InputError, SourceError, of_kind
from seawall.weights.sources.gcs import gcs_client
from seawall.weights.sources.s3 import s3_client

ATTEMPTS = 5
TIMEOUT_S = 60


class FileBucket(Protocol):
    """A folder of a bucket."""

    def put(self, name: str, path: Path) -> None:
        """From now on the content of `path` is there under that name. SourceError where it could not be put."""

    def get(self, name: str, path: Path) -> bool:
        """Writes its content to `path`. False: there is none."""

    def forget(self, name: str) -> None:
        """Removes it; where it is not there, nothing happens."""


def open_bucket(address: str, env: Mapping[str, str]) -> FileBucket:
    """The folder at s3://BUCKET/FOLDER or gs://BUCKET/FOLDER. InputError for anything else."""
    try:
        scheme, bucket, folder = bucket_parts(address)
    except ValueError:
        raise InputError(
            f"--files {address}: no such place.",
            "Use s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, or leave it out.",
        ) from None
    prefix = f"{folder}/" if folder else ""
    return S3Bucket(bucket, prefix, dict(env)) if scheme == "s3" else GcsBucket(bucket, prefix, dict(env))


class S3Bucket:
    """A folder at S3; large files go and come in parts."""

    def __init__(self, bucket: str, prefix: str, env: dict[str, str]) -> None:
        self._client: Any = s3_client(env, ATTEMPTS)
        self._bucket, self._prefix = bucket, prefix

    def put(self, name: str, path: Path) -> None:
        with _told(f"s3://{self._bucket}"):
            self._client.upload_file(str(path), self._bucket, self._prefix + name)

    def get(self, name: str, path: Path) -> bool:
        from botocore.exceptions import ClientError

        with _told(f"s3://{self._bucket}"):
            try:
                self._client.download_file(self._bucket, self._prefix + name, str(path))
            except ClientError as e:
                if str(e.response.get("Error", {}).get("Code")) in ("404", "NoSuchKey"):
                    return False
                raise
        return True

    def forget(self, name: str) -> None:
        with _told(f"s3://{self._bucket}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)


class GcsBucket:
    """A folder at Google Cloud Storage."""

    def __init__(self, bucket: str, prefix: str, env: dict[str, str]) -> None:
        self._client: Any = gcs_client(env)
        self._bucket, self._prefix = bucket, prefix

    def put(self, name: str, path: Path) -> None:
        with _told(f"gs://{self._bucket}"):
            self._blob(name).upload_from_filename(str(path), timeout=TIMEOUT_S)

    def get(self, name: str, path: Path) -> bool:
        from google.api_core.exceptions import NotFound

        with _told(f"gs://{self._bucket}"):
            try:
                self._blob(name).download_to_filename(str(path), timeout=TIMEOUT_S)
            except NotFound:
                return False
        return True

    def forget(self, name: str) -> None:
        from google.api_core.exceptions import NotFound

        with _told(f"gs://{self._bucket}"):
            try:
                self._blob(name).delete(timeout=TIMEOUT_S)
            except NotFound:
                return

    def _blob(self, name: str) -> Any:
        return self._client.bucket(self._bucket).blob(self._prefix + name)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What a client's library raises is an error of ours."""
    try:
        yield
    except (InputError, SourceError):
        raise
    except Exception as e:  # each library has a tree of its own, and both let OSErrors through
        code = getattr(e, "response", {})
        told = code.get("Error", {}).get("Code") if isinstance(code, dict) else None
        raise SourceError(
            f"the files' bucket {where} failed: {told or of_kind(e)}.",
            "May this identity read, write and delete there, and is the address right?",
        ) from None
