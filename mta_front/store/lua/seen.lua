#!lua flags=allow-oom
-- mta:{n}:dup:DIGEST  string  id of a message whose 250 the client may not have seen; expires
--
-- Clients have seen their 250s: what is equal and comes now is another message.
-- KEYS  dup:DIGEST …
-- ARGV  the id that each holds; one that holds another is left alone
-- Reply how many there were.

local count = 0
for index, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[index] then
    count = count + redis.call('DEL', key)
  end
end
return count
