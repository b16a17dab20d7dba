#!lua flags=allow-oom
-- mta:{n}:queue   stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:lease   zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:dead    stream  dead letters: the fields of the queue entry, then reason, failed, settled, history
-- mta:{n}:msg:ID  hash    what is known of a message beyond its envelope
--
-- A message leaves the queue for the dead letters. A large body stays where it is, the dead letter's now.
-- KEYS  queue lease dead [msg:ID]
-- ARGV  entry, consumer, fence, field, value, field, value …
-- Reply 1; 0 the message is no longer ours, nothing was changed.

local pending = redis.call('XPENDING', KEYS[1], 'relay', ARGV[1], ARGV[1], 1, ARGV[2])
if not pending[1] or pending[1][4] ~= tonumber(ARGV[3]) then
  return 0
end
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
local letter = found and found[2] or {}
for index = 4, #ARGV do
  letter[#letter + 1] = ARGV[index]
end
redis.call('XADD', KEYS[3], '*', unpack(letter))
redis.call('XACK', KEYS[1], 'relay', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if KEYS[4] then
  redis.call('UNLINK', KEYS[4])
end
return 1
