#!lua
-- mta:{n}:queue    stream  one entry per message: id, envelope (JSON) and, when the body is not a key of its own, body
-- mta:{n}:body:ID  list    the segments of a large body; expires until it is handed over
--
-- Takes responsibility for a message: after this the relay finds it.
-- KEYS  queue [body:ID]
-- ARGV  deadline (µs), id, envelope, then: body | segments, length of the last segment
-- Reply the stream entry's id; -1 too late, -2 the body is not what was written. Then nothing was changed.

-- A frozen store executes this when it wakes. By then the sender has been told to try again.
local now = redis.call('TIME')
if now[1] * 1000000 + now[2] > tonumber(ARGV[1]) then
  return -1
end

if not KEYS[2] then
  return redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'envelope', ARGV[3], 'body', ARGV[4])
end

-- Each RPUSHX was answered with the length the list should have, so its order and content are known up to the last one.
if redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[4]) then
  return -2
end
if #redis.call('LINDEX', KEYS[2], -1) ~= tonumber(ARGV[5]) then
  return -2
end
-- XADD first: it alone can fail, and then nothing has happened yet.
local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'envelope', ARGV[3])
redis.call('PERSIST', KEYS[2])
return entry
