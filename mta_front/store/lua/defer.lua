#!lua flags=allow-oom
-- mta:{n}:queue   stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:later   zset    stream entry -> when it is due (ms); such an entry is not pending
-- mta:{n}:lease   zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:msg:ID  hash    what is known of a message beyond its envelope; fence: of the last deferral
--
-- Lets go of a message until it is due again.
-- KEYS  queue later lease msg:ID
-- ARGV  entry, consumer, fence, due (ms), field, value, field, value …
-- Reply 1, also when this very deferral was made before (its reply was lost); 0 the message is no longer ours.

local pending = redis.call('XPENDING', KEYS[1], 'relay', ARGV[1], ARGV[1], 1, ARGV[2])
if not pending[1] or pending[1][4] ~= tonumber(ARGV[3]) then
  return redis.call('HGET', KEYS[4], 'fence') == ARGV[3] and 1 or 0
end
redis.call('HSET', KEYS[4], 'fence', ARGV[3], unpack(ARGV, 5))
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('XACK', KEYS[1], 'relay', ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
