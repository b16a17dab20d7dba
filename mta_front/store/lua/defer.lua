#!lua flags=allow-oom
-- mta:{n}:queue    stream  group relay: an entry in hand is pending for its consumer; its delivery count is the fence
-- mta:{n}:later    zset    stream entry -> when it is due (ms); such an entry is not pending
-- mta:{n}:lease    zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:msg:ID   hash    what is known of a message beyond its envelope; fence: of the last deferral
-- mta:{n}:deaths   hash    stream entry -> relays that died holding it
-- mta:{n}:dead     stream  dead letters
-- mta:{n}:body:ID  list    the segments of a large body
--
-- Lets go of a message until it is due again. A dead letter for recipients that have failed, with a body of its own,
-- and reports, in the same step.
-- KEYS  queue later lease msg:ID deaths dead [body:ID, body:ID of the letter]
-- ARGV  entry, consumer, fence, due (ms), how many words of msg:ID follow: field, value …, how many words of a letter
--       follow: field, value … (body comes from the entry), then for each report: id, envelope, body
-- Reply 1, also when this very deferral was made before (its reply was lost); 0 the message is no longer ours.

local pending = redis.call('XPENDING', KEYS[1], 'relay', ARGV[1], ARGV[1], 1, ARGV[2])
if not pending[1] or pending[1][4] ~= tonumber(ARGV[3]) then
  return redis.call('HGET', KEYS[4], 'fence') == ARGV[3] and 1 or 0
end
local known = 5 + ARGV[5]
local letter = known + 1 + ARGV[known + 1]
redis.call('HSET', KEYS[4], 'fence', ARGV[3], unpack(ARGV, 6, known))
if letter > known + 1 then
  local words = {unpack(ARGV, known + 2, letter)}
  local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
  for index = 1, found and #found[2] or 0, 2 do
    if found[2][index] == 'body' then
      words[#words + 1] = 'body'
      words[#words + 1] = found[2][index + 1]
    end
  end
  if KEYS[7] then
    redis.call('COPY', KEYS[7], KEYS[8])
  end
  redis.call('XADD', KEYS[6], '*', unpack(words))
end
for index = letter + 1, #ARGV, 3 do
  redis.call('XADD', KEYS[1], '*', 'id', ARGV[index], 'envelope', ARGV[index + 1], 'body', ARGV[index + 2])
end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('XACK', KEYS[1], 'relay', ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
return 1
