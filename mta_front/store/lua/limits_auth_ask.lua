#!lua
-- {limits}:bans    zset  who is banned -> until when (ms)
-- {limits}:known:USER  zset  an address -> when this user last logged in from there (ms)
-- {limits}:auth:…  hash  of an address, a user or a pair: `tat` when all its failures are forgotten (µs), `locked` until
--                        when it is locked out (µs), `stage` how often it was, `clean` (a user's) as `tat`, for guesses
--                        from addresses that have not failed. An address' is kept for a day after a failure
-- {limits}:try:…   zset  a guess in hand -> until when it counts (ms); with the failures it never passes the limit
--
-- May a guess go to the backend?
-- KEYS  bans known, then the auth and the try of each subject: pair, address, user, as far as there are
-- ARGV  deadline (µs), guess, a guess's expiry (ms), known since (ms), the address, number of ban names, the ban names…,
--       then of each subject: p, a or u; cost and room (µs)
-- Reply {0, 0} yes, {0, 1} yes, but late; {n, ms} not, for the n-th subject, and when to come again; {n, -1} not yet:
--       others are in hand; {-1, 0} banned; -1 too late.

local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
if now > tonumber(ARGV[1]) then
  return -1
end
local at = 7
local bans = tonumber(ARGV[6])
if bans > 0 then
  for _, until_ms in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(ARGV, at, at + bans - 1))) do
    if until_ms and tonumber(until_ms) * 1000 > now then
      return {-1, 0}
    end
  end
  at = at + bans
end

local known = redis.call('ZSCORE', KEYS[2], ARGV[5])
known = known and tonumber(known) >= tonumber(ARGV[4])
local now_ms = string.format('%.0f', math.ceil(now / 1000))
local tries, clean = {}, ARGV[5] ~= ''

for n = 1, #KEYS / 2 - 1 do
  local kind, cost, room = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  -- Who logged in from there before is judged by the pair alone: others' guesses cannot lock him out.
  if kind == 'p' or not known then
    local key, try = KEYS[2 * n + 1], KEYS[2 * n + 2]
    local state = redis.call('HMGET', key, 'tat', 'locked', 'clean')
    local tat, locked = tonumber(state[1] or 0), tonumber(state[2] or 0)
    local left = room - (tat > now and tat - now or 0)
    local again = locked - now
    if left < cost and again < cost - left then
      again = cost - left
    end
    redis.call('ZREMRANGEBYSCORE', try, '-inf', now_ms)
    local in_hand = redis.call('ZCARD', try)
    if again > 0 then
      -- A user under attack: who comes from an address that has not failed yet may try once, late, and not too many.
      local slot = tonumber(state[3] or 0)
      slot = (slot > now and slot or now) + cost
      if kind ~= 'u' or not clean or slot - now > room then
        return {n, math.ceil(again / 1000)}
      end
      clean = key
      tries.slot = string.format('%.0f', slot)
      tries.until_ms = string.format('%.0f', math.ceil((slot - now) / 1000))
    elseif in_hand >= math.floor(left / cost) then
      return {n, -1}
    else
      tries[#tries + 1] = try
    end
    if (kind == 'a' and state[1]) or (kind ~= 'u' and (tat > now or in_hand > 0)) then
      clean = false
    end
  end
end

local ends = string.format('%.0f', now / 1000 + ARGV[3])
for _, try in ipairs(tries) do
  redis.call('ZADD', try, ends, ARGV[2])
  redis.call('PEXPIRE', try, ARGV[3])
end
if not tries.slot then
  return {0, 0}
end
redis.call('HSET', clean, 'clean', tries.slot)
if redis.call('PTTL', clean) < tonumber(tries.until_ms) then
  redis.call('PEXPIRE', clean, tries.until_ms)
end
return {0, 1}
