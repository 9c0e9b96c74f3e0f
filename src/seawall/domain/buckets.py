"""Credentials of buckets as files: what a Secret holds, and the variable by which a cloud's own clients find it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BucketCredentials:
    """One cloud's file."""

    key: str
    """The Secret's key; the file is named so, too."""
    variable: str
    """What names the file to the cloud's clients."""


BY_SCHEME = {
    "s3": BucketCredentials("credentials", "AWS_SHARED_CREDENTIALS_FILE"),
    "gs": BucketCredentials("key.json", "GOOGLE_APPLICATION_CREDENTIALS"),
}
"""What `aws configure` writes, and a service account's key. Azure's clients read an account's key from no file: Pods
have an identity there."""
