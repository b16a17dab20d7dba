#!lua flags=allow-oom
-- {limits}:lease:…  zset    LIFE/SESSION -> LIFE: who holds one of what is limited at once
--
-- Sessions are over. May come late, and more than once.
-- KEYS  leases…
-- ARGV  for each lease: how many, then so many LIFE/SESSION…
-- Reply how many were held.

local held, at = 0, 1
for _, key in ipairs(KEYS) do
  local last = at + tonumber(ARGV[at])
  held = held + redis.call('ZREM', key, unpack(ARGV, at + 1, last))
  at = last + 1
end
return held
