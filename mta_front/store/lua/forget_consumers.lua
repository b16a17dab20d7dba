#!lua flags=allow-oom
-- mta:{n}:queue  stream  group relay: an entry in hand is pending for its consumer
--
-- Removes consumers that were not heard of for long and hold nothing. In one step: XGROUP DELCONSUMER would take what a
-- consumer holds with it, and such an entry is delivered to nobody any more. (In Redis 7.0 one that asks in vain counts
-- as silent; it is made anew when it gets something.)
-- KEYS  queue
-- ARGV  silence (ms), or consumer to remove at once
-- Reply how many were removed.

local count = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'relay')) do
  local consumer = {}
  for index = 1, #flat, 2 do
    consumer[flat[index]] = flat[index + 1]
  end
  local gone = ARGV[2] and consumer.name == ARGV[2] or consumer.idle >= tonumber(ARGV[1])
  if gone and consumer.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'relay', consumer.name)
    count = count + 1
  end
end
return count
