#!lua flags=allow-oom
-- mta:{n}:queue    stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:lease    zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:deaths   hash    stream entry -> relays that died holding it
-- mta:{n}:body:ID  list    the segments of a large body
-- mta:{n}:msg:ID   hash    what is known of a message beyond its envelope
--
-- A message leaves the queue: every recipient is settled. Reports on it enter the queue in the same step.
-- KEYS  queue lease deaths [body:ID] [msg:ID]: what there is of the last two
-- ARGV  entry, consumer, fence, then for each report: id, envelope, body
-- Reply 1; 0 the message is no longer ours, nothing was changed.

local pending = redis.call('XPENDING', KEYS[1], 'relay', ARGV[1], ARGV[1], 1, ARGV[2])
if not pending[1] or pending[1][4] ~= tonumber(ARGV[3]) then
  return 0
end
for index = 4, #ARGV, 3 do
  redis.call('XADD', KEYS[1], '*', 'id', ARGV[index], 'envelope', ARGV[index + 1], 'body', ARGV[index + 2])
end
redis.call('XACK', KEYS[1], 'relay', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
if KEYS[4] then
  redis.call('UNLINK', unpack(KEYS, 4))
end
return 1
