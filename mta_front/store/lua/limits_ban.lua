#!lua flags=allow-oom
-- {limits}:bans     zset    who is banned -> until when (ms)
-- {limits}:reasons  hash    who is banned -> when it began (ms), and why
--
-- Somebody is banned; a ban that there is already ends, and is told of, as this one.
-- KEYS  bans reasons
-- ARGV  who, for how long (ms), why
-- Reply {when it began, when it ends} (ms).

local now = redis.call('TIME')
local now_ms = math.floor(now[1] * 1000 + now[2] / 1000)
local ends_ms = now_ms + ARGV[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', ends_ms), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now_ms) .. ' ' .. ARGV[3])
-- Workers take out what is over; where there is none, all goes with the last ban.
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', key, ARGV[2])
  end
end
return {now_ms, ends_ms}
