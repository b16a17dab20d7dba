#!lua flags=allow-oom
-- mta:{n}:housekeeper  string  the consumer that speaks for the shard; expires
--
-- One relay of all reports on the shard. It stays the one while it asks in time.
-- KEYS  housekeeper
-- ARGV  consumer, for how long (ms); 0: it leaves
-- Reply 1 it is the one, 0 another is.

local keeper = redis.call('GET', KEYS[1])
if keeper and keeper ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
