#!lua flags=allow-oom
-- mta:{n}:queue    stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:lease    zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:body:ID  list    the segments of a large body
-- mta:{n}:msg:ID   hash    what is known of a message beyond its envelope
--
-- A message leaves the queue: every recipient has it.
-- KEYS  queue lease [body:ID] [msg:ID]: what there is of the last two
-- ARGV  entry, consumer, fence
-- Reply 1; 0 the message is no longer ours, nothing was changed.

local pending = redis.call('XPENDING', KEYS[1], 'relay', ARGV[1], ARGV[1], 1, ARGV[2])
if not pending[1] or pending[1][4] ~= tonumber(ARGV[3]) then
  return 0
end
redis.call('XACK', KEYS[1], 'relay', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if KEYS[3] then
  redis.call('UNLINK', unpack(KEYS, 3))
end
return 1
