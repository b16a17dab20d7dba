#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:later  zset    stream entry -> when it is due (ms); such an entry is not pending
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
--
-- Takes deferred messages in hand whose time has come.
-- KEYS  queue later lease
-- ARGV  deadline (µs), consumer, lease (ms), count
-- Reply the fence of all of them, then the entries; nothing when there is none, or too late.

local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
if now_us > tonumber(ARGV[1]) then
  return {}
end
local now_ms = math.floor(now_us / 1000)
local fence = string.format('%.0f', now_us)
local expiry = string.format('%.0f', now_ms + ARGV[3])
local taken = {fence}
local due = redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.0f', now_ms), 'BYSCORE', 'LIMIT', 0, ARGV[4])
for _, entry in ipairs(due) do
  -- Nothing is claimed when the entry itself was deleted. The count only grows: the time in µs. XCLAIM first: it alone
  -- can fail, and then nothing has happened yet.
  local claimed = redis.call('XCLAIM', KEYS[1], 'relay', ARGV[2], 0, entry, 'RETRYCOUNT', fence, 'FORCE', 'JUSTID')
  if claimed[1] then
    redis.call('ZADD', KEYS[3], expiry, entry)
    taken[#taken + 1] = entry
  end
  redis.call('ZREM', KEYS[2], entry)
end
return taken
