#!lua flags=allow-oom
-- mta:{n}:queue   stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:lease   zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:dead    stream  dead letters: the fields of the queue entry, then reason, failed, settled, history
-- mta:{n}:deaths  hash    stream entry -> relays that died holding it
-- mta:{n}:msg:ID  hash    what is known of a message beyond its envelope
--
-- A message leaves the queue for the dead letters. A large body stays where it is, the dead letter's now. Reports on it
-- enter the queue in the same step.
-- KEYS  queue lease dead deaths [msg:ID]
-- ARGV  entry, consumer, fence, how many words of the letter follow: field, value, field, value … (in place of the
--       entry's own where they are named alike), then for each report: id, envelope, body
-- Reply 1; 0 the message is no longer ours, nothing was changed.

local pending = redis.call('XPENDING', KEYS[1], 'relay', ARGV[1], ARGV[1], 1, ARGV[2])
if not pending[1] or pending[1][4] ~= tonumber(ARGV[3]) then
  return 0
end
local last = 4 + ARGV[4]
local named = {}
for index = 5, last, 2 do
  named[ARGV[index]] = true
end
local letter = {}
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if found then
  for index = 1, #found[2], 2 do
    if not named[found[2][index]] then
      letter[#letter + 1] = found[2][index]
      letter[#letter + 1] = found[2][index + 1]
    end
  end
end
for index = 5, last do
  letter[#letter + 1] = ARGV[index]
end
redis.call('XADD', KEYS[3], '*', unpack(letter))
for index = last + 1, #ARGV, 3 do
  redis.call('XADD', KEYS[1], '*', 'id', ARGV[index], 'envelope', ARGV[index + 1], 'body', ARGV[index + 2])
end
redis.call('XACK', KEYS[1], 'relay', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
if KEYS[5] then
  redis.call('UNLINK', KEYS[5])
end
return 1
