#!lua flags=allow-oom
-- {limits}:workers  zset    a worker's life -> until when it counts as alive (ms)
-- {limits}:swept    zset    '' -> when a worker was last found dead (µs); a lease's name -> that value at its last sweep
--
-- A life ends: what it held is free.
-- KEYS  workers swept
-- ARGV  life
-- Reply 1, or 0 when nobody knew of it.

local now = redis.call('TIME')
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now[1] * 1000000 + now[2]), '')
redis.call('PEXPIRE', KEYS[2], 86400000)
return 1
