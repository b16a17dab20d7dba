#!lua flags=allow-oom
-- {limits}:turns:NAME  string  when all turns that were given have come (µs): GCRA's theoretical arrival time
--
-- Gives out turns at a next hop to the fleet's relays, some at a time.
-- KEYS  turns
-- ARGV  deadline (µs), every (µs), room (µs), how many are wanted
-- Reply -1 too late; else {how many, µs until there may be another}

local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
if now > tonumber(ARGV[1]) then
  return -1
end
local every, room, wanted = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local tat = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now)
local given = math.min(wanted, math.floor((room - (tat - now)) / every) + 1)
if given > 0 then
  tat = tat + given * every
  redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', string.format('%.0f', (tat - now) / 1000 + 1000))
else
  given = 0
end
return {given, string.format('%.0f', math.max(tat - room - now, 0))}
