#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:later  zset    stream entry -> when it is due (ms); such an entry is not pending
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
--
-- Takes one message in hand, to do something with it other than to deliver it.
-- KEYS  queue later lease
-- ARGV  deadline (µs), consumer, lease (ms), entry
-- Reply the fence; '' a relay has it in hand, or it is gone, or it is too late: nothing was changed.

local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local now_ms = math.floor(now_us / 1000)
local held = redis.call('ZSCORE', KEYS[3], ARGV[4])
if now_us > tonumber(ARGV[1]) or held and tonumber(held) > now_ms then
  return ''
end
local fence = string.format('%.0f', now_us)
local claimed = redis.call('XCLAIM', KEYS[1], 'relay', ARGV[2], 0, ARGV[4], 'RETRYCOUNT', fence, 'FORCE', 'JUSTID')
if not claimed[1] then
  return ''
end
redis.call('ZADD', KEYS[3], string.format('%.0f', now_ms + ARGV[3]), ARGV[4])
redis.call('ZREM', KEYS[2], ARGV[4])
return fence
