#!lua
-- {limits}:workers  zset    a worker's life -> until when it counts as alive (ms)
-- {limits}:swept    zset    '' -> when a worker was last found dead (µs); a lease's name -> that value at its last sweep
-- {limits}:bans     zset    who is banned -> until when (ms)
-- {limits}:reasons  hash    who is banned -> when it began (ms), and why
--
-- A worker says that it lives, or begins a new life and ends the one before.
-- KEYS  workers swept bans reasons
-- ARGV  deadline (µs), life, how long it counts without another word (ms), the life that ends ('': none)
-- Reply {was it known, how many live, now (ms), the bans' names and ends (ms)…}; -1 too late.

local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
if now_us > tonumber(ARGV[1]) then
  return -1
end
local now_ms = math.floor(now_us / 1000)
local dead = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
local known = redis.call('ZSCORE', KEYS[1], ARGV[2]) and 1 or 0
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + ARGV[3]), ARGV[2])
redis.call('PEXPIRE', KEYS[1], 10 * ARGV[3])
if ARGV[4] ~= '' then
  dead = dead + redis.call('ZREM', KEYS[1], ARGV[4])
end
if dead > 0 then
  redis.call('ZADD', KEYS[2], string.format('%.0f', now_us), '')
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -10001)
redis.call('PEXPIRE', KEYS[2], 86400000)

local over = redis.call('ZRANGE', KEYS[3], '-inf', string.format('%.0f', now_ms), 'BYSCORE', 'LIMIT', 0, 100)
for _, name in ipairs(over) do
  redis.call('ZREM', KEYS[3], name)
  redis.call('HDEL', KEYS[4], name)
end
local reply = redis.call('ZRANGE', KEYS[3], 0, 999, 'WITHSCORES')
table.insert(reply, 1, string.format('%.0f', now_ms))
table.insert(reply, 1, redis.call('ZCARD', KEYS[1]))
table.insert(reply, 1, known)
return reply
