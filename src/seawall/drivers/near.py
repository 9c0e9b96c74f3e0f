"""Who is a neighbour: an address that no proxy of the environment may stand in front of.

`HTTP_PROXY` is set for the way out of a network. A worker, an engine, a Pod and a Service are within it, and a proxy
that is asked for them answers with an error of its own. So every HTTP client of ours says `trust_env`: False towards
neighbours, `not near(url)` where the address is the user's (tests/unit/drivers/test_near.py reads the sources).
Forbidden here: looking names up.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_OWN = (".localhost", ".svc", ".local", ".internal")
"""Ends of names that never leave a machine, a cluster or a network."""


def here(url: str) -> bool:
    """Whether `url` is on this machine."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def near(url: str) -> bool:
    """Whether `url` is on this machine, in the cluster or in the private network."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass  # a name
    return "." not in host or host.endswith(_OWN)
