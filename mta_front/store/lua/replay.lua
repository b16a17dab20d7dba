#!lua flags=allow-oom
-- mta:{n}:dead   stream  dead letters
-- mta:{n}:queue  stream  one entry per message: id, envelope (JSON) and, when the body is not a key of its own, body
--
-- A dead letter goes back into the queue, or away.
-- KEYS  dead queue, or dead body:ID …: what there is of these
-- ARGV  entry of the dead letter, then to put it back: id, envelope
-- Reply 1; 0 there is no such letter.

local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return 0
end
if ARGV[2] then
  local words = {'id', ARGV[2], 'envelope', ARGV[3]}
  for index = 1, #letter[2], 2 do
    if letter[2][index] == 'body' then
      words[5], words[6] = 'body', letter[2][index + 1]
    end
  end
  redis.call('XADD', KEYS[2], '*', unpack(words))
elseif KEYS[2] then
  redis.call('UNLINK', unpack(KEYS, 2))
end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
