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
local call = redis.call
local now = call('TIME')
now = now[1] * 1000000 + now[2]
if now > tonumber(ARGV[1]) then
  return -1
end
local bans, leases = tonumber(ARGV[5]), tonumber(ARGV[6])
local at = 7 + bans

if bans > 0 and call('EXISTS', KEYS[1]) == 1 then
  for _, until_ms in ipairs(call('ZMSCORE', KEYS[1], unpack(ARGV, 7, at - 1))) do
    if until_ms and tonumber(until_ms) * 1000 > now then
      return {0, 0}
    end
  end
end

local counts = {}
for n = 1, leases do
  local key, limit = KEYS[3 + n], tonumber(ARGV[at])
  local count = call('ZCARD', key)
  if count >= limit then
    sweep(key, now)
    count = call('ZCARD', key)
    if count >= limit then
      return {n, 0}
    end
  end
  counts[n] = count
  at = at + 1
end

local arrivals
if #KEYS > 3 + leases then
  arrivals = call('MGET', unpack(KEYS, 4 + leases))
  for n, tat in ipairs(arrivals) do
    tat = tat and tonumber(tat) or 0
    if tat < now then
      tat = now
    end
    tat = tat + ARGV[at]
    local over = tat - now - ARGV[at + 1]
    if over > 0 and ARGV[at + 1] ~= '-1' then
      return {leases + n, math.ceil(over / 1000)}
    end
    arrivals[n] = tat
    at = at + 2
  end
end

for n = 1, leases do
  local key = KEYS[3 + n]
  call('ZADD', key, ARGV[2], ARGV[3])
  -- A lease that many hold is written often; and what is held for hours, each worker writes again each hour.
  if counts[n] < 4 or now % 16 == 0 then
    call('PEXPIRE', key, ARGV[4])
  end
end
if arrivals then
  for n, tat in ipairs(arrivals) do
    if tat > now then
      call('PSETEX', KEYS[3 + leases + n], math.ceil((tat - now) / 1000), tat)
    else
      call('DEL', KEYS[3 + leases + n])
    end
  end
end
return 0
