#!lua
-- mta:{n}:body:ID  list  the segments of a large body; expires until it is handed over
--
-- Begins a large body. In one step with its expiry: a front that dies in between would leave a list for ever.
-- KEYS  body:ID
-- ARGV  deadline (µs), expiry (ms), segment …
-- Reply the list's length; -1 too late.

local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return -1
end
local length = 0
for index = 3, #ARGV do
  length = redis.call('RPUSH', KEYS[1], ARGV[index])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return length
