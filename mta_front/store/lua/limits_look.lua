#!lua flags=allow-oom
-- {limits}:workers  zset    a worker's life -> until when it counts as alive (ms)
-- {limits}:swept    zset    '' -> when a worker was last found dead (µs); a lease's name -> that value at its last sweep
-- {limits}:lease:…  zset    LIFE/SESSION -> LIFE: who holds one of what is limited at once
--
-- For people: who holds what, without the dead.
-- KEYS  bans workers swept leases…; the first is not looked at, the others stand where the sweep has them
-- Reply how many hold each lease.

--<limits_sweep>
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local held = {}
for n = 4, #KEYS do
  sweep(KEYS[n], now)
  held[n - 3] = redis.call('ZCARD', KEYS[n])
end
return held
