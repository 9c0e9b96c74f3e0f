"""The script by which a gateway tells the shared store what changed, and hears the rest: all of a round in one message.

Each part is a function of its own keys and arguments. Whatever a part does is done before another gateway's message is
looked at. Forbidden here: anything but the text of the script, and the numbers in it.
"""

from __future__ import annotations

from typing import Final

from seawall.decide.route.lease import BACK_S

SURE_S: Final = 0.5
"""A store that was empty so long ago may not have heard all gateways: nobody gets more places than it has."""
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
_NEWS: Final = """
local after, a, found = ARGV[1], 2, {}
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local at = last and last[1] or '0-0'
if after ~= '' and at ~= after and last then
  found = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', MOST)
  if #found == 0 then found = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', MOST) end
  at = found[#found][1]
end
while a <= #ARGV do
  local fields = tonumber(ARGV[a])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', MOST, '*', unpack(ARGV, a + 1, a + fields))
  a = a + 1 + fields
end
return {at, found}
""".replace("MOST", str(MOST_NEWS))
PARTS: Final = {"leases": _LEASES, "places": _PLACES, "tallies": _TALLIES, "news": _NEWS}
ROUND: Final = (
    "local parts = {}\n"
    + "".join(f"parts.{name} = function(KEYS, ARGV)\n{text}\nend\n" for name, text in PARTS.items())
    + """
local out, k, a = {}, 0, 1
while a <= #ARGV do
  local keys, argv = {}, {}
  for i = 1, tonumber(ARGV[a + 1]) do keys[i] = KEYS[k + i] end
  for i = 1, tonumber(ARGV[a + 2]) do argv[i] = ARGV[a + 2 + i] end
  out[#out + 1] = parts[ARGV[a]](keys, argv)
  k, a = k + #keys, a + 3 + #argv
end
return out
"""
)
"""Arguments: for each part its name, how many keys and arguments it has, and these."""
