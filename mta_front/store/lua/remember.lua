#!lua flags=allow-oom
-- mta:{n}:dup:DIGEST  string  "ID OPEN_UNTIL FIRST", see hand_over.lua; expires
--
-- What became of the sessions that were answered 250: an equal message from now on is another one, or a second copy.
-- KEYS  dup:DIGEST …
-- ARGV  for each the ID that it should hold, and for how long its session counts as alive (ms): 0 = it is over, and the
--       client was not seen to go on; -1 = it went on, the record goes. One that holds another ID is left alone.
-- Reply how many there were.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for index, key in ipairs(KEYS) do
  local id, alive = ARGV[2 * index - 1], tonumber(ARGV[2 * index])
  local first = string.match(redis.call('GET', key) or '', '^' .. id .. ' %d+ (%w+)$')
  if first then
    count = count + 1
    if alive < 0 then
      redis.call('DEL', key)
    else
      local open_until = alive > 0 and now + alive or 0
      redis.call('SET', key, string.format('%s %.0f %s', id, open_until, first), 'KEEPTTL')
    end
  end
end
return count
