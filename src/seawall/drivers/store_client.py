"""How the shared store is reached: addresses of its kinds, secrets out of files, a client of the library.

What another set of gateways tells the same store must not be taken for ours: all keys begin with one tag, which holds
the scope. A tag in braces keeps all of them in one slot of a cluster. Every call has a time limit. Forbidden here: what
gateways ask of it, a secret in any message, and anything that waits for ever.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from seawall.errors import InputError

TIMEOUT_S: Final = 0.5
SCHEMES: Final = {"valkey": "redis", "valkeys": "rediss", "redis": "redis", "rediss": "rediss"}
PORTS: Final = {"sentinel": 26379}
DEFAULT_PORT: Final = 6379
SCOPE: Final = re.compile(r"[A-Za-z0-9._/-]{1,100}")
OPTIONS: Final = ("scope", "ssl_ca_certs")
Password = Callable[[], str | None]
"""Reads it at every connection: a Secret changes while a gateway runs. InputError: it cannot be read."""


@dataclass(frozen=True)
class StoreAddress:
    """Where the store is."""

    url: str = field(repr=False)
    kind: str = "one"
    """one, sentinel or cluster."""
    hosts: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    name: str = ""
    """The master's, as sentinels know it."""
    db: int = 0
    scope: str = ""
    """Gateways with another scope share nothing with these. Empty: it is not said."""
    ca: str = ""
    """File of certificates that the server's is checked by."""

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.url).netloc.rpartition("@")[0].partition(":")[0])

    @property
    def password(self) -> str:
        """What stands in the address itself."""
        return unquote(urlsplit(self.url).netloc.rpartition("@")[0].partition(":")[2])

    @property
    def shown(self) -> str:
        """The address for people: without user and password."""
        return shown(self.url)


def shown(text: str) -> str:
    """An address for people, also one that cannot be read: nothing that stands before the last @."""
    scheme, mark, rest = text.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else text.rpartition("@")[2]


def parse_address(text: str) -> StoreAddress:
    """InputError says what is wrong, and never shows a password."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _unknown(text) from None
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in SCHEMES or kind not in ("", "sentinel", "cluster") or not parts.netloc:
        raise _unknown(text)
    if "@" in parts.path + parts.query + parts.fragment:
        raise InputError(
            f"the store's address {shown(text)!r} has an @ behind its host.",
            "Leave its password out and name its file: SEAWALL_STORE_PASSWORD_FILE=PATH. In an address / ? # @ are "
            "%2F %3F %23 %40.",
        )
    if parts.fragment:
        raise _unknown(text)
    kind = kind or "one"
    hosts = _hosts(text, parts, PORTS.get(kind, DEFAULT_PORT))
    if kind == "one" and len(hosts) > 1:
        raise InputError(
            f"the store's address {shown(text)!r} names several hosts.",
            f"Write {scheme}+cluster:// or {scheme}+sentinel:// for them, or one host.",
        )
    name, db = _place(text, kind, [p for p in parts.path.split("/") if p])
    options = _options(text, parts.query)
    return StoreAddress(
        text, kind, hosts, SCHEMES[scheme] == "rediss", name, db,
        options.get("scope", ""), options.get("ssl_ca_certs", ""),
    )  # fmt: skip


def _unknown(text: str) -> InputError:
    return InputError(
        f"the store's address {shown(text)!r} is not known.",
        "Write valkey://HOST:6379/0 (valkeys:// with TLS; +sentinel or +cluster behind the scheme), or redis://; "
        "in a Fleet also managed.",
    )


def _hosts(text: str, parts: SplitResult, port: int) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for one in parts.netloc.rpartition("@")[2].split(","):
        try:
            host, own = (split := urlsplit(f"//{one}")).hostname, split.port
        except ValueError:
            host, own = None, None
        if not host or own == 0 or one.endswith(":"):
            raise InputError(
                f"the store's address {shown(text)!r} has no host and port that can be read.",
                f"Write HOST:{port}, or HOST:{port},HOST2:{port} for sentinels and clusters.",
            )
        found.append((unquote(host), port if own is None else own))
    return tuple(found)


def _place(text: str, kind: str, path: list[str]) -> tuple[str, int]:
    """Master's name and number of the database."""
    name = ""
    if kind == "sentinel":
        if not path:
            raise InputError(
                f"the store's address {shown(text)!r} names no master.",
                "Write valkey+sentinel://HOST:26379,HOST2:26379/NAME/0.",
            )
        name, path = unquote(path[0]), path[1:]
    number = path[0] if path else "0"
    if len(path) > 1 or not re.fullmatch("[0-9]{1,5}", number) or (kind == "cluster" and int(number)):
        raise InputError(
            f"the store's address {shown(text)!r} does not end in the number of a database.",
            "Write /0, or another number; a cluster has only 0.",
        )
    return name, int(number)


def _options(text: str, query: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise InputError(
            f"the store's address {shown(text)!r} has {unknown[0]!r:.40} behind the question mark.",
            f"It may have {' and '.join(OPTIONS)} there.",
        )
    if "scope" in options and not SCOPE.fullmatch(options["scope"]):
        raise InputError(
            f"the store's address {shown(text)!r} has a scope that cannot be used.",
            "Write up to 100 letters, digits and . _ / -",
        )
    return options


class StoreAway(Exception):
    """The store does not answer, or not as it should."""


class StoreLink:
    """One client of the library, its scripts and its keys. `text`: answers are str, else bytes."""

    def __init__(
        self,
        address: StoreAddress,
        password: Password | None = None,
        text: bool = True,
        ca: Path | None = None,
    ) -> None:
        self.address = address
        self.client: Any = _client(address, password, text, str(ca or ""))
        self._digests: dict[str, str] = {}
        self._tag = f"{{seawall {address.scope}}}:" if address.scope else "{seawall}:"

    def key(self, rest: str) -> str:
        return self._tag + rest

    async def script(
        self, script: str, keys: Sequence[str], argv: Sequence[object], timeout_s: float = TIMEOUT_S
    ) -> Any:
        """What it answers. A server that has lost it is told it again."""
        digest = self._digests.get(script)
        if digest is None:
            digest = self._digests[script] = sha1(script.encode(), usedforsecurity=False).hexdigest()
        return await self.ask(self._run(digest, script, (len(keys), *keys, *argv)), timeout_s)

    async def _run(self, digest: str, script: str, words: tuple[object, ...]) -> Any:
        from redis.exceptions import NoScriptError

        try:
            return await self.client.execute_command("EVALSHA", digest, *words)
        except NoScriptError:
            return await self.client.execute_command("EVAL", script, *words)

    async def ask(self, call: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """What a call brings. StoreAway when that does not come in time."""
        import asyncio  # here: whoever only reads an address starts faster without it

        from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError

        try:
            async with asyncio.timeout(timeout_s):
                return await call
        except ReadOnlyError as e:  # it was the master: who is it now is found by connecting again
            await self._drop()
            raise StoreAway(f"{type(e).__name__}: {e}") from None
        except (RedisError, RedisClusterException, OSError, TimeoutError, UnicodeDecodeError) as e:
            # Behind " : " the library shows its own objects.
            raise StoreAway(f"{type(e).__name__}: {e}".partition(" : <")[0]) from None

    async def _drop(self) -> None:
        import asyncio

        from redis.exceptions import RedisError

        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                pool = getattr(self.client, "connection_pool", None)
                await (self.client.aclose() if pool is None else pool.disconnect())

    async def close(self) -> None:
        await self.client.aclose()


def _client(address: StoreAddress, password: Password | None, text: bool, ca: str) -> Any:
    from redis import CredentialProvider
    from redis import asyncio as redis
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError

    class Credentials(CredentialProvider):
        """User and password as they stand now."""

        def get_credentials(self) -> Any:
            try:
                found = (password() if password is not None else None) or address.password
            except InputError as e:
                raise AuthenticationError(e.message) from None
            return (address.user or "default", found) if found or address.user else ()

        async def get_credentials_async(self) -> Any:
            return self.get_credentials()

    common: dict[str, Any] = {
        "decode_responses": text,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "health_check_interval": 0,
        "credential_provider": Credentials(),
    }
    if address.tls:
        common |= {"ssl": True, "ssl_ca_certs": ca or address.ca or None}
    part = TIMEOUT_S / (len(address.hosts) + 1)  # one that stands still leaves time for the next
    watchers = {**common, "socket_timeout": part, "socket_connect_timeout": part}
    if address.kind == "sentinel":
        # The library would try one that is gone again and again, for longer than anybody waits here.
        common["retry"] = watchers["retry"] = Retry(NoBackoff(), 0)
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            list(address.hosts), sentinel_kwargs=watchers, **common
        )
        return sentinel.master_for(address.name, db=address.db)
    if address.kind == "cluster":
        # A node is given up before the call is: else the library never learns that it is to look for another one.
        common |= {"socket_timeout": 0.8 * TIMEOUT_S, "socket_connect_timeout": part}
        nodes = [ClusterNode(host, port, **watchers) for host, port in address.hosts]
        return redis.RedisCluster(startup_nodes=nodes, **common)
    ((host, port),) = address.hosts
    return redis.Redis(host=host, port=port, db=address.db, retry=Retry(NoBackoff(), 0), **common)
