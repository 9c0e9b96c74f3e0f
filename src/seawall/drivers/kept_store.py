"""Records of answers in the shared store: a hash of facts, a list of pieces, a list of what their session was told.

One gateway owns a record and pushes what is new; others fetch it, and one of them takes it when its owner is gone.
Every script looks who owns it first, so a gateway that was only asleep finds that out and changes nothing. Positions
make a push that is sent twice harmless. All keys have a time to live. Forbidden here: what a piece or an entry says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seawall.drivers.store_client import Password, StoreAddress, StoreAway, StoreLink

TIMEOUT_S: Final = 2.0
"""Time for a message of up to a MiB."""
CLAIM_S: Final = 0.3
"""Time for what a request waits for: whether its key, or its id, is known."""
ALIVE_MS: Final = 2000
"""Without a word for so long a gateway is gone, and what it filled may be taken."""
GONE: Final = "-"
"""In place of an owner: the record is not wanted any more."""
GONE_MS: Final = 60_000
MANY: Final = 2**40
"""More pieces than any record has."""
_CLAIM: Final = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= '-' then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_PUSH: Final = """
local me, ttl, pieces_at, tape_at = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local facts, pieces, tape = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner == '-' then return 'gone' end
if owner and owner ~= me then return 'taken' end
local there, played = redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3])
if there < pieces_at or played < tape_at or (not owner and pieces_at + tape_at > 0) then return 'lost' end
local function cut(key, length)
  if length == 0 then redis.call('DEL', key) else redis.call('LTRIM', key, 0, length - 1) end
end
if there > pieces_at then cut(KEYS[2], pieces_at) end
if played > tape_at then cut(KEYS[3], tape_at) end
redis.call('HSET', KEYS[1], 'owner', me, unpack(ARGV, 8, 7 + facts))
local at = 8 + facts
if pieces > 0 then redis.call('RPUSH', KEYS[2], unpack(ARGV, at, at + pieces - 1)) end
at = at + pieces
if tape > 0 then redis.call('RPUSH', KEYS[3], unpack(ARGV, at, at + tape - 1)) end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ttl) end
if KEYS[4] then redis.call('SET', KEYS[4], KEYS[1], 'PX', ttl) end
return 'ok'
"""
_FETCH: Final = """
local facts = redis.call('HGETALL', KEYS[1])
if #facts == 0 then return false end
local owner = redis.call('HGET', KEYS[1], 'owner')
local alive = redis.call('EXISTS', ARGV[3] .. owner)
return {facts, redis.call('LRANGE', KEYS[2], ARGV[1], ARGV[2]), redis.call('LLEN', KEYS[2]), alive}
"""
_TAKE: Final = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] or redis.call('EXISTS', ARGV[3] .. ARGV[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[2])
return 1
"""
_REMOVE: Final = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner or (ARGV[1] ~= '' and owner ~= ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'owner', '-')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""


@dataclass(frozen=True)
class Fetched:
    """A part of a record."""

    facts: dict[str, bytes]
    pieces: list[bytes]
    count: int
    """Pieces that are there in all."""
    alive: bool
    """Whether its owner has told of itself lately."""


class KeptStore:
    """A connection for records. All methods raise `StoreAway` when it does not answer in time."""

    def __init__(
        self, address: StoreAddress, password: Password | None = None, ca: Path | None = None
    ) -> None:
        self.link = StoreLink(address, password, text=False, ca=ca)
        self._alive = self.link.key("alive:")
        self._prefix = self.link.key("kept:")

    async def live(self, owner: str) -> None:
        """`owner` is there."""
        await self.link.ask(self.link.client.set(self._alive + owner, b"1", px=ALIVE_MS))

    async def leave(self, owner: str) -> None:
        """`owner` is not there any more: what it filled may be taken."""
        await self.link.ask(self.link.client.delete(self._alive + owner))

    async def claim(self, name: str, owner: str, ttl_ms: int, facts: Mapping[str, bytes]) -> bool:
        """A new record under this name; False: there is one."""
        argv = [owner, ttl_ms, *_flat(facts)]
        return bool(await self._script(_CLAIM, self._keys(name), argv, CLAIM_S))

    async def push(
        self,
        name: str,
        owner: str,
        ttl_ms: int,
        facts: Mapping[str, bytes],
        pieces: tuple[int, Sequence[bytes]],
        tape: tuple[int, Sequence[bytes]],
        id_name: str = "",
    ) -> str:
        """`pieces`, `tape`: where they begin, and what is new. -> `ok`; `lost`: the store has not what was before;
        `taken`: another owns it now; `gone`: nobody wants it any more."""
        keys = self._keys(name) + ([self._id_key(id_name)] if id_name else [])
        flat = _flat(facts)
        argv = [owner, ttl_ms, pieces[0], tape[0], len(flat), len(pieces[1]), len(tape[1])]
        answer: bytes = await self._script(_PUSH, keys, [*argv, *flat, *pieces[1], *tape[1]])
        return answer.decode()

    async def fetch(self, name: str, at: int, most: int) -> Fetched | None:
        """Facts, and up to `most` pieces from `at` on. None: it is not there, or not wanted."""
        last = at + most - 1 if most else -1 - MANY
        found = await self._script(
            _FETCH, self._keys(name)[:2], [at, last, self._alive], TIMEOUT_S if most else CLAIM_S
        )
        if found is None:
            return None
        flat, pieces, count, alive = found
        facts = {k.decode(): v for k, v in zip(flat[::2], flat[1::2], strict=True)}
        if facts["owner"] == GONE.encode():
            return None
        return Fetched(facts, pieces, int(count), bool(alive))

    async def tape(self, name: str, at: int, most: int) -> list[bytes]:
        found: list[bytes] = await self.link.ask(
            self.link.client.lrange(self._keys(name)[2], at, at + most - 1), timeout_s=TIMEOUT_S
        )
        return found

    async def take(self, name: str, owner: str, new: str) -> bool:
        """`new` owns it from now on, if `owner` did and is gone."""
        return bool(await self._script(_TAKE, self._keys(name)[:1], [owner, new, self._alive]))

    async def end_tape(self, name: str) -> None:
        await self.link.ask(self.link.client.delete(self._keys(name)[2]))

    async def remove(self, name: str, owner: str = "") -> None:
        """A record that is not wanted any more. `owner`: only if it is this one's."""
        await self._script(_REMOVE, self._keys(name), [owner, GONE_MS])

    async def name_of(self, id_name: str) -> str | None:
        """The record that has this id."""
        found: bytes | None = await self.link.ask(self.link.client.get(self._id_key(id_name)), CLAIM_S)
        return found.decode().removeprefix(self._prefix).removesuffix(":m") if found else None

    async def _script(
        self, script: str, keys: Sequence[str], argv: Sequence[object], timeout_s: float = TIMEOUT_S
    ) -> Any:
        return await self.link.script(script, keys, argv, timeout_s)

    def _keys(self, name: str) -> list[str]:
        return [f"{self._prefix}{name}:{part}" for part in ("m", "p", "t")]

    def _id_key(self, name: str) -> str:
        return self.link.key(f"kept-id:{name}")

    async def close(self) -> None:
        await self.link.close()


def _flat(facts: Mapping[str, bytes]) -> list[bytes]:
    return [x for k, v in facts.items() for x in (k.encode(), v)]


__all__ = ["ALIVE_MS", "Fetched", "KeptStore", "StoreAway"]
