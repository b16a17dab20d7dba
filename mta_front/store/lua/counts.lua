#!lua flags=no-writes
-- mta:{n}:queue  stream  mta:{n}:later  zset  mta:{n}:lease  zset  mta:{n}:dead  stream
--
-- How the shard stands.
-- KEYS  queue later lease dead
-- Reply length, later, leased, dead, age of the oldest message (ms)

local age_ms = 0
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if oldest then
  local now = redis.call('TIME')
  age_ms = math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - string.match(oldest[1], '^%d+'))
end
return {
  redis.call('XLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]), redis.call('XLEN', KEYS[4]), age_ms,
}
