#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:deaths hash    stream entry -> relays that died holding it
--
-- Takes over what a relay held that is gone: leases that expired, and entries read long ago that never got a lease.
-- KEYS  queue lease deaths
-- ARGV  deadline (µs), consumer, lease (ms), count, where to look on for entries without a lease ('-': from the start)
-- Reply the fence of all of them, where to look on next, then for each: entry, how many relays have died holding it;
--       nothing when too late.

local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
if now_us > tonumber(ARGV[1]) then
  return {}
end
local now_ms = math.floor(now_us / 1000)
local fence = string.format('%.0f', now_us)
local expiry = string.format('%.0f', now_ms + ARGV[3])
local taken = {fence, '-'}
local room = tonumber(ARGV[4])

local function take(entry, had_lease)
  local holder = redis.call('XPENDING', KEYS[1], 'relay', entry, entry, 1)[1]
  -- FORCE also mends an entry that lost its place among the pending ones (XGROUP DELCONSUMER by hand). The count only
  -- grows: the time in µs. Nothing is claimed when the entry itself was deleted.
  local claimed = redis.call('XCLAIM', KEYS[1], 'relay', ARGV[2], 0, entry, 'RETRYCOUNT', fence, 'FORCE', 'JUSTID')
  if claimed[1] then
    redis.call('ZADD', KEYS[2], expiry, entry)
    taken[#taken + 1] = entry
    -- Without a lease it was never worked on; and who asks has not died.
    if had_lease and holder and holder[2] ~= ARGV[2] then
      taken[#taken + 1] = redis.call('HINCRBY', KEYS[3], entry, 1)
    else
      taken[#taken + 1] = tonumber(redis.call('HGET', KEYS[3], entry) or 0)
    end
    room = room - 1
  else
    redis.call('ZREM', KEYS[2], entry)
    redis.call('HDEL', KEYS[3], entry)
  end
end

local expired = redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.0f', now_ms), 'BYSCORE', 'LIMIT', 0, ARGV[4])
for _, entry in ipairs(expired) do
  take(entry, true)
end

local pending = redis.call('XPENDING', KEYS[1], 'relay', 'IDLE', ARGV[3], ARGV[5], '+', 100)
for index, found in ipairs(pending) do
  if room <= 0 then
    break
  end
  if not redis.call('ZSCORE', KEYS[2], found[1]) then
    take(found[1], false)
  end
  if index == 100 then
    taken[2] = '(' .. found[1]
  end
end
return taken
