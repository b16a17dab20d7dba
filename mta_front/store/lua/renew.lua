#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
--
-- Extends leases.
-- KEYS  queue lease
-- ARGV  consumer, lease (ms), entry, fence, entry, fence …
-- Reply the entries that are no longer ours.

local now = redis.call('TIME')
local expiry = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2])
local lost = {}
for index = 3, #ARGV, 2 do
  local entry = ARGV[index]
  local pending = redis.call('XPENDING', KEYS[1], 'relay', entry, entry, 1, ARGV[1])
  if pending[1] and pending[1][4] == tonumber(ARGV[index + 1]) then
    redis.call('ZADD', KEYS[2], expiry, entry)
  else
    lost[#lost + 1] = entry
  end
end
return lost
