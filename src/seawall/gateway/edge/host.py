"""What a request's Host may say, and whether it names this place or somebody's in the DNS.

Who stands in front of us, or behind, may choose by a Host that we would read otherwise: one that is none ends the
request (RFC 9112, 3.2). Forbidden here: looking a name up.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

_NAME: Final = rb"(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2}){1,255}"
"""A registered name (RFC 3986, 3.2.2), but for the comma, which joins two headers into one."""
_ZONE: Final = rb"(?:%[A-Za-z0-9\-._~]{1,32})?"
"""A client should keep the zone of a link-local address to itself; some do not."""
_LITERAL: Final = (
    rb"\[(?:[0-9A-Fa-f:.]{2,45}" + _ZONE + rb"|v[0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+;=:]{1,64})\]"
)
_HOST: Final = re.compile(rb"(?:(?:" + _NAME + rb"|" + _LITERAL + rb")(?::[0-9]{0,5})?)?")
NOBODYS: Final = ("localhost", "svc", "local", "internal", "home.arpa")
"""Below these nobody can register a name: this machine to a browser (RFC 6761, 6.3), Services of a cluster, as its
Pods ask for them (a mesh's proxy beside us hands their requests on over loopback), and private networks."""


@lru_cache(maxsize=1024)
def valid_host(value: bytes) -> bool:
    """Whether this may stand in a Host header, or be HTTP/2's authority. Clients say the same one again and again."""
    return _HOST.fullmatch(value.strip(b" \t")) is not None


def names_a_host(target: bytes) -> bool:
    """Whether a target that is a whole URL of HTTP (RFC 9112, 3.2.2) has a host in it, and nobody's name and password
    (RFC 9110, 4.2.4). Any other target has none to look at."""
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        return True
    authority = rest.partition(b"/")[0].partition(b"?")[0]
    return not authority.startswith(b":") and authority != b"" and valid_host(authority)


def rebound(host: str, peer: str) -> bool:
    """Whether a request that came from this machine (`peer`: its address) names a host that somebody can own in the
    DNS: a web page of his that is open here had its name lead to us, and would read the answer as its own. Addresses,
    names without a dot and those below NOBODYS are nobody's."""
    address = ip_address(peer.partition("%")[0].removeprefix("::ffff:")) if peer else None
    return address is not None and address.is_loopback and owned(host)


@lru_cache(maxsize=1024)
def owned(host: str) -> bool:
    """Whether somebody can have registered the name that stands there."""
    name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    name = name.rstrip(".").lower()
    if "." not in name or name.endswith(tuple(f".{domain}" for domain in NOBODYS)):
        return False
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return True
    return False
