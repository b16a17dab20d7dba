#!lua
-- mta:{n}:queue       stream  one entry per message: id, envelope (JSON) and, when the body is not a key of its own, body
-- mta:{n}:body:ID     list    the segments of a large body; expires until it is handed over
-- mta:{n}:dup:DIGEST  string  id of a message whose 250 the client may not have seen; expires
--
-- Takes responsibility for a message: after this the relay finds it.
-- KEYS  queue [dup:DIGEST] [body:ID]
-- ARGV  deadline (µs), id, envelope, for how long it is remembered (ms, 0 = there is no dup:DIGEST), id of a message
--       that is not its first copy since its 250 was seen, then: body | segments, length of the last segment
-- Reply the stream entry's id; a list of one: the id of the first copy, and this one was not stored; -1 too late, -2 the
--       body is not what was written. Then nothing was changed.

-- A frozen store executes this when it wakes. By then the sender has been told to try again.
local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return -1
end

local remembered = ARGV[4] ~= '0' and KEYS[2]
if remembered then
  local first = redis.call('GET', remembered)
  if first and first ~= ARGV[5] then
    -- A write, so that this answer too waits for the disk: that of the first copy may have been lost with its fsync.
    redis.call('PEXPIRE', remembered, ARGV[4])
    return {first}
  end
end

local body = KEYS[remembered and 3 or 2]
local entry
if not body then
  entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'envelope', ARGV[3], 'body', ARGV[6])
else
  -- Each RPUSHX was answered with the length the list should have, so its order and content are known up to the last.
  if redis.call('LLEN', body) ~= tonumber(ARGV[6]) then
    return -2
  end
  if #redis.call('LINDEX', body, -1) ~= tonumber(ARGV[7]) then
    return -2
  end
  -- XADD first: it alone can fail, and then nothing has happened yet.
  entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'envelope', ARGV[3])
  redis.call('PERSIST', body)
end
if remembered then
  redis.call('SET', remembered, ARGV[2], 'PX', ARGV[4])
end
return entry
