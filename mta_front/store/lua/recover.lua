#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
--
-- Finds what XREADGROUP gave this consumer in an answer that never arrived, and puts a lease on it.
-- KEYS  queue lease
-- ARGV  deadline (µs), consumer, lease (ms), count
-- Reply the entries. Too late: none.

local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return {}
end
local expiry = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3])
local found = {}
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], 'relay', '-', '+', ARGV[4], ARGV[2])) do
  if pending[4] == 1 and not redis.call('ZSCORE', KEYS[2], pending[1]) then
    redis.call('ZADD', KEYS[2], expiry, pending[1])
    found[#found + 1] = pending[1]
  end
end
return found
