#!lua flags=allow-oom
-- mta:{n}:queue   stream  group relay: an entry in hand is pending for its consumer
-- mta:{n}:later   zset    stream entry -> when it is due (ms); such an entry is not pending
-- mta:{n}:lease   zset    stream entry -> when its holder counts as gone (ms)
-- mta:{n}:deaths  hash    stream entry -> relays that died holding it
--
-- Finds entries that nobody would ever take, and marks that have lost their entry; each is judged and mended in one step.
-- KEYS  queue later lease deaths
-- ARGV  1 = mend, idle (ms) after which a message without a lease is nobody's, entries
-- Reply for each entry: '' it is well; stranded (was taken, and is neither in hand nor deferred), stuck (in hand without a
--       lease, for long), ghost (marks of an entry that is gone).

local now = redis.call('TIME')
local now_ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local mend = ARGV[1] == '1'

local function parts(entry)
  local ms, seq = string.match(entry, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local last_ms, last_seq = 0, 0
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  for index = 1, #flat, 2 do
    if flat[index] == 'last-delivered-id' then
      last_ms, last_seq = parts(flat[index + 1])
    end
  end
end

local found = {}
for index = 3, #ARGV do
  local entry = ARGV[index]
  local verdict = ''
  if not redis.call('XRANGE', KEYS[1], entry, entry)[1] then
    verdict = 'ghost'
    if mend then
      redis.call('ZREM', KEYS[2], entry)
      redis.call('ZREM', KEYS[3], entry)
      redis.call('HDEL', KEYS[4], entry)
    end
  else
    local pending = redis.call('XPENDING', KEYS[1], 'relay', entry, entry, 1)[1]
    local ms, seq = parts(entry)
    local was_taken = ms < last_ms or ms == last_ms and seq <= last_seq
    if pending then
      if pending[3] >= tonumber(ARGV[2]) and not redis.call('ZSCORE', KEYS[3], entry) then
        verdict = 'stuck'
        if mend then
          redis.call('ZADD', KEYS[3], 0, entry)
        end
      end
    elseif was_taken and not redis.call('ZSCORE', KEYS[2], entry) and not redis.call('ZSCORE', KEYS[3], entry) then
      verdict = 'stranded'
      if mend then
        redis.call('ZADD', KEYS[2], now_ms, entry)
      end
    end
  end
  found[#found + 1] = verdict
end
return found
