#!lua
-- {limits}:lease:…  zset    LIFE/SESSION -> LIFE: who holds one of what is limited at once
--
-- Writes down what a worker holds, whatever the limits are: its sessions live.
-- KEYS  leases…
-- ARGV  deadline (µs), life, leases' expiry (ms), a session for each lease…
-- Reply how many were new; -1 too late.

local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return -1
end
local life, new = ARGV[2], 0
for n, key in ipairs(KEYS) do
  new = new + redis.call('ZADD', key, life, life .. '/' .. ARGV[3 + n])
  redis.call('PEXPIRE', key, ARGV[3])
end
return new
