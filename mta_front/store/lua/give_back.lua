#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:later  zset    stream entry -> when it is due (ms); such an entry is not pending
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:deaths hash    stream entry -> relays that died holding it
--
-- Lets go of messages that were not attempted: they are due at once, for whoever asks first.
-- KEYS  queue later lease deaths
-- ARGV  consumer, entry, fence, entry, fence …
-- Reply how many were ours.

local now = redis.call('TIME')
local now_ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local count = 0
for index = 2, #ARGV, 2 do
  local entry = ARGV[index]
  local pending = redis.call('XPENDING', KEYS[1], 'relay', entry, entry, 1, ARGV[1])
  if pending[1] and pending[1][4] == tonumber(ARGV[index + 1]) then
    redis.call('ZADD', KEYS[2], now_ms, entry)
    redis.call('XACK', KEYS[1], 'relay', entry)
    redis.call('ZREM', KEYS[3], entry)
    redis.call('HDEL', KEYS[4], entry)
    count = count + 1
  end
end
return count
