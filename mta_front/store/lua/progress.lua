#!lua flags=allow-oom
-- mta:{n}:queue   stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:msg:ID  hash    what is known of a message beyond its envelope
--
-- Records what became of some recipients while the message stays in hand.
-- KEYS  queue msg:ID
-- ARGV  entry, consumer, fence, field, value, field, value …
-- Reply 1; 0 the message is no longer ours, nothing was changed.

local pending = redis.call('XPENDING', KEYS[1], 'relay', ARGV[1], ARGV[1], 1, ARGV[2])
if not pending[1] or pending[1][4] ~= tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
return 1
