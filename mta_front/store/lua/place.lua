#!lua flags=allow-oom
-- {limits}:conns:NAME  zset  a connection of a relay to this next hop -> until when it counts (ms)
--
-- Takes, or renews, one connection's place among those that the fleet may have at once.
-- KEYS  conns
-- ARGV  deadline (µs), the connection, how many there may be, lease (ms)
-- Reply -1 too late; 1 it has a place; 0 there is none

local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return -1
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + ARGV[4]), ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[4])
return 1
