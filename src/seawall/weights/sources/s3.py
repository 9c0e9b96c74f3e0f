"""s3://bucket/prefix: Amazon S3 and everything that speaks it (AWS_ENDPOINT_URL). boto3 signs, from the usual
credentials chain (environment, profile, IRSA, instance role)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from seawall.drivers.near import near
from seawall.errors import InputError, SourceError, of_kind
from seawall.weights.listing import MAX_FILES, Busy, Listing, Read, RemoteFile
from seawall.weights.sources import ListingRequest

_COME_BACK = (
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "Throttling",
    "500",
    "503",
    "429",
)


def open_listing(request: ListingRequest) -> Listing:
    bucket, _, prefix = request.rest.partition("/")
    if not bucket:
        raise InputError(f"{request.uri!r:.120} names no bucket.", "Write s3://bucket/folder.")
    folder = prefix.rstrip("/") + "/" if prefix else ""
    client = s3_client(request.env)
    files = []
    for item in _objects(client, bucket, folder):
        path = item["Key"][len(folder) :]
        if not path or path.endswith("/") or path == "seawall.lock":
            continue
        etag = item["ETag"].strip('"')
        reader = _reader(client, bucket, item["Key"], item["ETag"])
        sha256 = (
            _sha256(client, bucket, item["Key"]) if "SHA256" in item.get("ChecksumAlgorithm", []) else None
        )
        files.append(RemoteFile(path, item["Size"], reader, sha256=sha256, identity=etag))
    return Listing(
        f"s3://{bucket}/{folder}".rstrip("/"),
        request.lock.revision if request.lock else "latest",
        tuple(files),
    )


def s3_client(env: dict[str, str], attempts: int = 1) -> Any:
    """Amazon's client; `attempts`: how often it asks by itself."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise InputError("s3:// needs boto3.", "Install it with: pip install 'seawall[cloud]'") from None
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=10, read_timeout=20, retries={"max_attempts": attempts}, max_pool_connections=64,
        proxies={} if endpoint and near(endpoint) else None,
    )  # fmt: skip
    return boto3.client("s3", endpoint_url=endpoint, config=config)


def _objects(client: Any, bucket: str, folder: str) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import BotoCoreError, ClientError

    seen = 0
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder):
            for item in page.get("Contents", []):
                seen += 1
                if seen > MAX_FILES:
                    raise InputError(
                        f"s3://{bucket}/{folder} has over {MAX_FILES} objects.", "Name one model's folder."
                    )
                yield item
    except (ClientError, BotoCoreError) as e:
        raise _told(e, f"s3://{bucket}/{folder}") from None


def _sha256(client: Any, bucket: str, key: str) -> str | None:
    """The stored SHA-256, where the object was uploaded whole with one (not in parts)."""
    head = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    stored = head.get("ChecksumSHA256", "")
    return base64.b64decode(stored).hex() if stored and "-" not in stored else None


def _reader(client: Any, bucket: str, key: str, etag: str) -> Read:
    from botocore.exceptions import BotoCoreError, ClientError

    @contextmanager
    def read(start: int, end: int) -> Iterator[Iterator[bytes]]:
        try:
            got = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", IfMatch=etag)
            with closing(got["Body"]) as body:
                yield body.iter_chunks(2**20)
        except ClientError as e:
            code = str(e.response.get("Error", {}).get("Code"))
            if code in _COME_BACK:
                raise Busy(f"S3 says {code}") from None
            raise _told(e, f"s3://{bucket}/{key}") from None
        except (BotoCoreError, OSError) as e:
            if isinstance(e, OSError) and e.errno:
                raise
            raise Busy(f"the connection broke ({of_kind(e)})") from None

    return read


def _told(e: Exception, what: str) -> Exception:
    code = str(getattr(e, "response", {}).get("Error", {}).get("Code", type(e).__name__))
    if code in ("NoSuchBucket", "NoSuchKey", "404"):
        return InputError(f"{what}: not found ({code}).", "Check the bucket, the prefix and the region.")
    if code in ("PreconditionFailed", "412"):
        return SourceError(f"{what}: changed while it was read.", "Pull again; pin it with a lockfile.")
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoCredentialsError"):
        return SourceError(
            f"{what}: not allowed ({code}).", "Give the role s3:GetObject and s3:ListBucket on it."
        )
    return SourceError(f"{what}: {code}.", "Check the network, AWS_ENDPOINT_URL and the region.")
