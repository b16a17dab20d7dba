#!lua
-- {limits}:bans     zset    who is banned -> until when (ms)
-- {limits}:workers  zset    a worker's life, a number -> until when it counts as alive (ms)
-- {limits}:swept    zset    '' -> when a worker was last found dead (µs); a lease's name -> that value at its last sweep
-- {limits}:lease:…  zset    LIFE/SESSION -> LIFE: who holds one of what is limited at once
-- {limits}:rate:…   string  when all that was spent has come back (µs): GCRA's theoretical arrival time
--
-- Asks for everything that one step of a session needs: all of it is taken, or nothing.
-- KEYS  bans workers swept, leases…, rates…
-- ARGV  deadline (µs), life, session, leases' expiry (ms), number of ban names, of leases, the ban names…,
--       each lease's limit…, each rate's cost and room (µs)…; room -1: charged, whatever there is
-- Reply 0 taken; -1 too late; else nothing was taken, and {0, 0} a ban, {n, ms} KEYS[3 + n] and when to come again.

--<limits_sweep>
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
if now > tonumber(ARGV[1]) then
  return -1
end
local life, bans, leases = ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[6])
local at = 7

if bans > 0 then
  for _, until_ms in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(ARGV, at, at + bans - 1))) do
    if until_ms and tonumber(until_ms) * 1000 > now then
      return {0, 0}
    end
  end
  at = at + bans
end

for n = 1, leases do
  local key, limit = KEYS[3 + n], tonumber(ARGV[at])
  if redis.call('ZCARD', key) >= limit then
    sweep(key, now)
    if redis.call('ZCARD', key) >= limit then
      return {n, 0}
    end
  end
  at = at + 1
end

local arrivals = {}
for n = leases + 1, #KEYS - 3 do
  local tat = tonumber(redis.call('GET', KEYS[3 + n]) or 0)
  tat = (tat > now and tat or now) + ARGV[at]
  local room = tonumber(ARGV[at + 1])
  if room >= 0 and tat - now > room then
    return {n, math.ceil((tat - now - room) / 1000)}
  end
  arrivals[n] = tat
  at = at + 2
end

for n = 1, leases do
  redis.call('ZADD', KEYS[3 + n], life, life .. '/' .. ARGV[3])
  redis.call('PEXPIRE', KEYS[3 + n], ARGV[4])
end
for n, tat in pairs(arrivals) do
  if tat > now then
    redis.call('SET', KEYS[3 + n], string.format('%.0f', tat), 'PX', string.format('%.0f', math.ceil((tat - now) / 1000)))
  else
    redis.call('DEL', KEYS[3 + n])
  end
end
return 0
