#!lua
-- {limits}:known:USER, {limits}:auth:…, {limits}:try:…  as in limits_auth_ask
-- {limits}:workers, {limits}:swept, {limits}:lease:…, {limits}:rate:…  as in limits_check
--
-- What the backend said of a guess. A failure is counted, and may lock out; a login clears the pair, makes the address
-- known, takes a connection of the user and spends his rate of them.
-- KEYS  known workers swept, the user's lease, the user's rate, as far as there are, then the auth and the try of each
--       subject
-- ARGV  deadline (µs), guess, 1 good, 0 bad, -1 nobody knows, the address, known since (ms), how long it stays known
--       (ms, 0: it does not), number of leases, the lease's limit, life, LIFE/SESSION, leases' expiry (ms), number of
--       rates, the rate's cost and room (µs), how long an address is not clean that failed (µs), number of lock-outs,
--       their lengths (µs)…, then of each subject: p, a or u; cost and room (µs)
-- Reply {0, failures so far}; {1, 0} no connection is left of the user; {2, ms} too many in a time, and when to come
--       again; -1 too late.

--<limits_sweep>
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
if now > tonumber(ARGV[1]) then
  return -1
end
local good, address, leases = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[7])
local rates, clean_us, lockouts, at = tonumber(ARGV[12]), ARGV[15], tonumber(ARGV[16]), 17
local decay = lockouts > 0 and tonumber(ARGV[at + lockouts - 1]) or 1
local known = redis.call('ZSCORE', KEYS[1], address)
known = known and tonumber(known) >= tonumber(ARGV[5])
local subjects = at + lockouts
local failures = 0

for n = 4 + leases + rates, #KEYS, 2 do
  local key, try = KEYS[n], KEYS[n + 1]
  local kind, cost, room = ARGV[subjects], tonumber(ARGV[subjects + 1]), tonumber(ARGV[subjects + 2])
  subjects = subjects + 3
  redis.call('ZREM', try, ARGV[2])
  if good == 1 and kind == 'p' then
    redis.call('DEL', key)
  elseif good == 0 and (kind == 'p' or not known) then
    local state = redis.call('HMGET', key, 'tat', 'locked', 'stage', 'clean')
    local tat, locked, stage = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or 0)
    -- No more than the room is ever owed: guesses that fail while it is locked out do not prolong that.
    tat = math.min((tat > now and tat or now) + cost, now + room)
    if kind ~= 'u' then
      failures = math.max(failures, math.ceil((tat - now) / cost))
    end
    if lockouts > 0 and locked <= now and room - (tat - now) < cost then
      if locked > 0 then
        stage = math.max(0, stage - math.floor((now - locked) / decay))
      end
      stage = math.min(stage + 1, lockouts)
      locked = now + ARGV[at + stage - 1]
    end
    redis.call('HSET', key, 'tat', string.format('%.0f', tat), 'locked', string.format('%.0f', locked), 'stage', stage)
    local over = math.max(tat, locked + stage * decay, tonumber(state[4] or 0))
    if kind == 'a' then
      over = math.max(over, now + clean_us)
    end
    redis.call('PEXPIRE', key, string.format('%.0f', math.ceil((over - now) / 1000)))
  end
end

if good == 1 then
  if address ~= '' and ARGV[6] ~= '0' then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now / 1000), address)
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -17)
    redis.call('PEXPIRE', KEYS[1], ARGV[6])
  end
  local lease, rate = KEYS[4], KEYS[4 + leases]
  if leases > 0 and redis.call('ZCARD', lease) >= tonumber(ARGV[8]) then
    sweep(lease, now)
    if redis.call('ZCARD', lease) >= tonumber(ARGV[8]) then
      return {1, 0}
    end
  end
  if rates > 0 then
    local tat = math.max(tonumber(redis.call('GET', rate) or 0), now) + ARGV[13]
    if tat - now > tonumber(ARGV[14]) then
      return {2, math.ceil((tat - now - ARGV[14]) / 1000)}
    end
    redis.call('PSETEX', rate, math.ceil((tat - now) / 1000), tat)
  end
  if leases > 0 then
    redis.call('ZADD', lease, ARGV[9], ARGV[10])
    redis.call('PEXPIRE', lease, ARGV[11])
  end
end
return {0, failures}
