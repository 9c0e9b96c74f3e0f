"""Credentials of engines that read their weights out of a bucket: a file of a Secret, named by a variable.

vLLM's streamer (Run:ai's) signs with each cloud's own clients, which look for such a file: the AWS SDKs for what
`aws configure` writes, Google's for a service account's key. An environment would be shown to whoever may look at a
process. Forbidden here: a value of a Secret, in any form.
"""

from __future__ import annotations

from seawall.domain.buckets import BY_SCHEME, BucketCredentials
from seawall.render.inputs import Object, Wanted
from seawall.render.names import CONFIG_DIR

SECRETS = f"{CONFIG_DIR}/secrets"
SECRET_MOUNT: Object = {"name": "secrets", "mountPath": SECRETS, "readOnly": True}


def credentials_of(wanted: Wanted) -> BucketCredentials | None:
    """What an engine's file is; None: it streams nothing, or has an identity of its own."""
    spec = wanted.fleet.spec
    if spec.cache.kind != "stream" or not spec.cache.token_secret or not spec.engine.needs_weights:
        return None
    return BY_SCHEME.get(spec.model.source.partition("://")[0])


def credential_env(wanted: Wanted) -> dict[str, str]:
    """The variable that names the file, never what is in it."""
    found = credentials_of(wanted)
    return {} if found is None else {found.variable: f"{SECRETS}/{found.key}"}


def credential_mounts(wanted: Wanted) -> list[Object]:
    return [] if credentials_of(wanted) is None else [SECRET_MOUNT]
