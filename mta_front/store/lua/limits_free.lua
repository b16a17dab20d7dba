#!lua flags=allow-oom
-- {limits}:lease:…  zset    LIFE/SESSION -> LIFE: who holds one of what is limited at once
--
-- Sessions are over. May come late, and more than once.
-- KEYS  leases…
-- ARGV  life, a session for each lease…
-- Reply how many were held.

local held = 0
for n, key in ipairs(KEYS) do
  held = held + redis.call('ZREM', key, ARGV[1] .. '/' .. ARGV[1 + n])
end
return held
