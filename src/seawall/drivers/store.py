"""What gateways ask of the shared store (Valkey or Redis) ten times a second: budgets, places, tallies and news.

What a script does is atomic, and is the same as the pure rule beside it: `LEASES` is `decide.route.lease.Pot.turn`. The
store's clock counts, never a gateway's; it may jump, for another server has another one. Every call has a time limit;
who calls is never a request. Forbidden here: rules of our own, and anything that waits for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from seawall.decide.route.lease import ACTIVE_S, BACK_S, GONE_S, LEASE, LeaseAsk, LeaseTold
from seawall.decide.route.share import Demand
from seawall.drivers.store_client import Password, StoreAddress, StoreLink

MEMBER_S: Final = 3.0
"""Without a word for so long a gateway holds no places at replicas any more."""
SURE_S: Final = 0.5
"""A store that was empty so long ago may not have heard all gateways: nobody gets more places than it has."""
TALLY_S: Final = 86_400
"""Seconds for which the tally of a gateway that is gone counts."""
KEEP_S: Final = 400 * 86_400
MOST_NEWS: Final = 1000
_LEASES: Final = """
local out = {}
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local me = 'm:' .. ARGV[1]
if ARGV[2] ~= '' then now = tonumber(ARGV[2]) end
local gone, fresh, lease = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
for i, key in ipairs(KEYS) do
  local a = 5 + (i - 1) * 7
  local cap, per_s, spent = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local granted, released = tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5])
  local active, hint = ARGV[a + 6] == '1', tonumber(ARGV[a + 7])
  local fields = redis.call('HGETALL', key)
  local pot = {}
  for j = 1, #fields, 2 do pot[fields[j]] = fields[j + 1] end
  local level, at = tonumber(pot.level or '-1'), tonumber(pot.at or '0')
  if not pot.level then
    if hint < 0 then level = cap else level = math.min(cap, hint) end
    at = now
  elseif per_s == 0 and pot.cap and tonumber(pot.cap) ~= cap then
    level = level + cap - tonumber(pot.cap)
  end
  if per_s > 0 then level = math.min(cap, level + math.max(0, now - at) * per_s) end
  if at - now > BACK_S then at = now else at = math.max(at, now) end
  local had_granted, had_released, asked, others = granted, released, -1, 0
  for name, value in pairs(pot) do
    if string.sub(name, 1, 2) == 'm:' then
      local g, r, s, q = string.match(value, '^(%S+) (%S+) (%S+) (%S+)$')
      if name == me then had_granted, had_released, asked = tonumber(g), tonumber(r), tonumber(q)
      elseif math.abs(now - tonumber(s)) > gone then redis.call('HDEL', key, name)
      elseif tonumber(q) >= 0 and math.abs(now - tonumber(q)) <= fresh then others = others + 1 end
    end
  end
  if released > had_released then
    level = math.min(cap, level + released - had_released)
    had_released = released
  end
  if active then asked = now end
  local n = others
  if asked >= 0 and math.abs(now - asked) <= fresh then n = n + 1 end
  if n < 1 then n = 1 end
  local hand, raised = had_granted - had_released - spent, 0
  if hand < 0 then raised = math.min(math.max(0, level), -hand) end
  if active and level > raised then
    local left, held = level - raised, math.max(0, hand)
    local fair = math.min((left + held) / (2 * n), math.max(1, lease * cap))
    raised = raised + math.min(left, math.max(0, fair - held))
  end
  had_granted, level = had_granted + raised, level - raised
  redis.call('HSET', key, 'level', string.format('%.6f', level), 'at', string.format('%.6f', at),
    'cap', ARGV[a + 1], me,
    string.format('%.6f %.6f %.3f %.3f', had_granted, had_released, now, asked))
  redis.call('EXPIRE', key, KEEP)
  out[#out + 1] = string.format('%.6f %.6f %d', had_granted, level, n)
end
return out
""".replace("KEEP", str(KEEP_S)).replace("BACK_S", str(BACK_S))
_PLACES: Final = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local base, me, cap, member_s = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local own = base .. ':g:' .. me
local members, alive = redis.call('HGETALL', base .. ':m'), {}
local known, changed = false, false
if #members == 0 then redis.call('SET', base .. ':b', string.format('%.3f', now)) end
local unsure = math.abs(now - tonumber(redis.call('GET', base .. ':b') or '0')) < SURE_S
for i = 1, #members, 2 do
  if members[i] == me then
    known = true
  elseif math.abs(now - tonumber(members[i + 1])) > member_s then
    redis.call('DEL', base .. ':g:' .. members[i])
    redis.call('HDEL', base .. ':m', members[i])
    redis.call('HDEL', base .. ':d', members[i])
    changed = true
  else
    alive[#alive + 1] = members[i]
  end
end
if not known then redis.call('DEL', own) end
if changed or redis.call('EXISTS', own, base .. ':f', base .. ':c') < 3 then
  if known then alive[#alive + 1] = me end
  redis.call('DEL', base .. ':f', base .. ':c')
  for _, member in ipairs(alive) do
    local held = redis.call('HGETALL', base .. ':g:' .. member)
    for j = 1, #held, 2 do
      local f, c = string.match(held[j + 1], '^(%S+) (%S+)$')
      redis.call('HINCRBY', base .. ':f', held[j], f)
      redis.call('HINCRBY', base .. ':c', held[j], c)
    end
  end
end
redis.call('HSET', base .. ':m', me, string.format('%.3f', now))
redis.call('HSET', base .. ':d', me, ARGV[4])
local out, told = {}, {}
for a = 5, #ARGV, 4 do
  local replica, flight, want = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  if unsure then want = math.min(want, tonumber(ARGV[a + 3])) end
  told[replica] = true
  local f, c = string.match(redis.call('HGET', own, replica) or '0 0', '^(%S+) (%S+)$')
  local flights = tonumber(redis.call('HGET', base .. ':f', replica) or '0') - tonumber(f)
  local claims = tonumber(redis.call('HGET', base .. ':c', replica) or '0') - tonumber(c)
  local claim = math.max(flight, math.min(want, cap - claims))
  redis.call('HSET', own, replica, string.format('%d %d', flight, claim))
  redis.call('HSET', base .. ':f', replica, flights + flight)
  redis.call('HSET', base .. ':c', replica, claims + claim)
  out[#out + 1] = string.format('%d %d %d', claim, flights, claims)
end
if redis.call('HLEN', own) > #out then
  local held = redis.call('HGETALL', own)
  for j = 1, #held, 2 do
    if not told[held[j]] then
      local f, c = string.match(held[j + 1], '^(%S+) (%S+)$')
      redis.call('HDEL', own, held[j])
      if redis.call('HINCRBY', base .. ':f', held[j], 0 - f) == 0 then redis.call('HDEL', base .. ':f', held[j]) end
      if redis.call('HINCRBY', base .. ':c', held[j], 0 - c) == 0 then redis.call('HDEL', base .. ':c', held[j]) end
    end
  end
end
for _, part in ipairs({':m', ':d', ':f', ':c', ':b', ':g:' .. me}) do redis.call('EXPIRE', base .. part, 60) end
return {redis.call('HVALS', base .. ':d'), out}
""".replace("SURE_S", str(SURE_S))
_TALLIES: Final = """
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], clock[1] .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
local fields, out = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #fields, 2 do
  local at, told = string.match(fields[i + 1], '^(%d+) (.*)$')
  if not at or clock[1] - at > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], fields[i])
  else
    out[#out + 1] = fields[i]
    out[#out + 1] = told
  end
end
return out
"""


@dataclass(frozen=True)
class PlacesTold:
    """What the store says of one fleet's replicas."""

    demands: tuple[Demand, ...]
    """Tenant -> (weight, requests that wait), of each gateway, this one included."""
    places: tuple[tuple[int, int, int], ...]
    """Places that are ours, requests of others, places of others, at each replica that was asked for."""


class SharedStore:
    """A connection to it. All methods raise `StoreAway` when it does not answer in time."""

    def __init__(
        self, address: StoreAddress, password: Password | None = None, ca: Path | None = None
    ) -> None:
        self.address = address
        self.link = StoreLink(address, password, ca=ca)
        self._news = self.link.key("news")
        self._news_at = "$"

    async def leases(
        self, gateway: str, asks: Mapping[str, tuple[float, float, LeaseAsk]], now: float | None = None
    ) -> list[LeaseTold]:
        """What is granted of each budget: (cap, per second, what is told). `now`: the store's clock, for tests."""
        argv: list[object] = [gateway, "" if now is None else f"{now:.6f}", GONE_S, ACTIVE_S, LEASE]
        for cap, per_s, a in asks.values():
            argv += [
                cap,
                per_s,
                f"{a.spent:.6f}",
                f"{a.granted:.6f}",
                f"{a.released:.6f}",
                int(a.active),
                a.level,
            ]
        keys = [self.link.key(f"lease:{name}") for name in asks]
        lines = await self.link.script(_LEASES, keys, argv)
        told = [line.split() for line in lines]
        return [LeaseTold(float(granted), float(level), int(n)) for granted, level, n in told]

    async def places(
        self,
        gateway: str,
        fleet: str,
        cap: int,
        demand: Demand,
        wanted: Mapping[str, tuple[int, int, int]],
    ) -> PlacesTold:
        """`wanted`: replica -> requests in flight, places wanted in all, places that are ours already."""
        argv: list[object] = [gateway, cap, MEMBER_S, json.dumps(demand, separators=(",", ":"))]
        for replica, three in wanted.items():
            argv += [replica, *three]
        demands, places = await self.link.script(_PLACES, [self.link.key(f"fleet:{fleet}")], argv)
        ours, theirs = (cast("list[str]", part) for part in (places, demands))
        found = [tuple(map(int, line.split())) for line in ours]
        return PlacesTold(tuple(json.loads(d) for d in theirs), tuple((a, b, c) for a, b, c in found))

    async def tallies(self, gateway: str, fleet: str, own: str) -> dict[str, str]:
        """Tells this gateway's tally of a fleet, and hears those of others, of gone ones, too: name -> what it told."""
        told = await self.link.script(_TALLIES, [self.link.key(f"tally:{fleet}")], [gateway, own, TALLY_S])
        return {name: told for name, told in zip(told[::2], told[1::2], strict=True) if name != gateway}

    async def tell(self, news: Sequence[Mapping[str, str]]) -> None:
        """Tells all gateways."""
        for one in news:
            await self.link.ask(
                self.link.client.xadd(self._news, dict(one), maxlen=MOST_NEWS, approximate=True)
            )

    async def hear(self) -> list[dict[str, str]]:
        """What was told since the last call; at first nothing."""
        if self._news_at == "$":
            last = await self.link.ask(self.link.client.xrevrange(self._news, count=1))
            self._news_at = last[0][0] if last else "0-0"
            return []
        found = await self.link.ask(self.link.client.xread({self._news: self._news_at}, count=MOST_NEWS))
        out: list[dict[str, str]] = []
        for _, entries in found.items() if isinstance(found, dict) else found:
            for entry in entries[0] if entries and isinstance(entries[0], list) else entries:
                self._news_at = entry[0]
                out.append(entry[1])
        return out

    async def close(self) -> None:
        await self.link.close()
