"""Sources of weights: a URI -> a listing of files that can be read by range. One file per protocol."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field

from seawall.errors import InputError
from seawall.weights.listing import Listing
from seawall.weights.lockfile import Lock

SCHEMES = {
    "hf": "hub",
    "https": "web",
    "http": "web",
    "file": "disk",
    "s3": "s3",
    "gs": "gcs",
    "oci": "oci",
    "pypi": "package",
}


@dataclass(frozen=True)
class ListingRequest:
    """What to list. `lock`, when there is one, says which files and which revision."""

    uri: str
    revision: str | None = None
    lock: Lock | None = None
    env: dict[str, str] = field(default_factory=dict)
    """The environment (tokens, endpoints): passed in, so that tests need not touch the process's own."""

    @property
    def scheme(self) -> str:
        return self.uri.partition("://")[0]

    @property
    def rest(self) -> str:
        return self.uri.partition("://")[2]


def open_source(request: ListingRequest) -> Listing:
    """Asks the source what it has. InputError for a URI that cannot be, SourceError when the source refuses."""
    if "://" not in request.uri or request.scheme not in SCHEMES:
        known = ", ".join(f"{s}://" for s in SCHEMES if s != "http")
        raise InputError(
            f"{request.uri!r:.120} is not a source.", f"Write one of {known}; such as hf://org/name."
        )
    if any(c in request.uri for c in "\r\n\0 "):
        raise InputError("a source has no spaces or control characters.", "Check the URI.")
    module = importlib.import_module(f"seawall.weights.sources.{SCHEMES[request.scheme]}")
    listing: Listing = module.open_listing(request)
    return listing
