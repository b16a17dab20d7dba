#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
--
-- Puts a lease on entries just read by XREADGROUP, unless somebody took them over in between.
-- KEYS  queue lease
-- ARGV  deadline (µs), consumer, lease (ms), entry …
-- Reply the entries that are ours. Too late: none.

local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return {}
end
local expiry = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3])
local held = {}
for index = 4, #ARGV do
  local entry = ARGV[index]
  local pending = redis.call('XPENDING', KEYS[1], 'relay', entry, entry, 1, ARGV[2])
  if pending[1] and pending[1][4] == 1 then
    redis.call('ZADD', KEYS[2], expiry, entry)
    held[#held + 1] = entry
  end
end
return held
