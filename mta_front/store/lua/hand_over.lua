#!lua
-- mta:{n}:queue       stream  one entry per message: id, envelope (JSON) and, when the body is not a key of its own, body
-- mta:{n}:body:ID     list    the segments of a large body; expires until it is handed over
-- mta:{n}:dup:DIGEST  string  "ID OPEN_UNTIL FIRST": the upload that was answered last, until when (ms) its session counts
--                             as alive, and the message that is stored; expires
--
-- Takes responsibility for a message: after this the relay finds it.
-- KEYS  queue [dup:DIGEST] [body:ID]
-- ARGV  deadline (µs), id, envelope, for how long it is remembered (ms, 0 = there is no dup:DIGEST), for how long its
--       session counts as alive (ms), how long before the deadline it was asked for (ms; -1: the store was away, and
--       OPEN_UNTIL says nothing of who is alive), " ID ID … " of uploads whose clients were not told by the worker that
--       asks, then: body | segments, length of the last segment
-- Reply the stream entry's id; a list of one: the id of the first copy, and this one was not stored; -1 too late, -2 the
--       body is not what was written. Then nothing was changed.

-- A frozen store executes this when it wakes. By then the sender has been told to try again.
local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return -1
end

local remembered = ARGV[4] ~= '0' and KEYS[2]
local record
if remembered then
  local alive = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[5])
  local id, open_until, first = string.match(redis.call('GET', remembered) or '', '^(%w+) (%d+) (%w+)$')
  -- While a session lives nobody sends its message again: what is equal, on another connection, is another message.
  local over = open_until == '0' or id and string.find(ARGV[7], ' ' .. id .. ' ', 1, true)
  if id and not over and ARGV[6] ~= '-1' then
    over = tonumber(open_until) < ARGV[1] / 1000 - ARGV[6]  -- its worker is dead, and was when this was asked for
  end
  if over then
    -- A write, so that this answer too waits for the disk: that of the first copy may have been lost with its fsync. It
    -- is ours now: each copy that was lost stands for one retry only.
    redis.call('SET', remembered, ARGV[2] .. ' ' .. alive .. ' ' .. first, 'PX', ARGV[4])
    return {first}
  end
  record = ARGV[2] .. ' ' .. alive .. ' ' .. ARGV[2]
end

local body = KEYS[remembered and 3 or 2]
local entry
if not body then
  entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'envelope', ARGV[3], 'body', ARGV[8])
else
  -- Each RPUSHX was answered with the length the list should have, so its order and content are known up to the last.
  if redis.call('LLEN', body) ~= tonumber(ARGV[8]) then
    return -2
  end
  if #redis.call('LINDEX', body, -1) ~= tonumber(ARGV[9]) then
    return -2
  end
  -- XADD first: it alone can fail, and then nothing has happened yet.
  entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'envelope', ARGV[3])
  redis.call('PERSIST', body)
end
if remembered then
  redis.call('SET', remembered, record, 'PX', ARGV[4])
end
return entry
