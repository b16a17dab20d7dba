#!lua flags=no-writes
-- mta:{n}:queue or mta:{n}:dead  stream
-- mta:{n}:later  zset    stream entry -> when it is due (ms)
-- mta:{n}:lease  zset    stream entry -> when its holder counts as gone (ms)
--
-- A look at messages, without their bodies.
-- KEYS  queue later lease, or dead
-- ARGV  where to begin ('-', or '(' and an entry), how many to read, how many to show, then texts that the envelope has
-- Reply the last entry that was read ('' when there are no more), then for each: entry, state (0 waiting, 1 deferred,
--       2 in hand), when that ends (ms), length of the body in the entry, and all its other fields.

local shown = {''}
local from, left, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
while left > 0 and room > 0 do
  -- Few at a time: bodies are read with them.
  local wanted = math.min(left, 50)
  local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', wanted)
  for _, entry in ipairs(found) do
    if room <= 0 then
      break
    end
    shown[1] = entry[1]
    from = '(' .. entry[1]
    left = left - 1
    local fields, body, envelope = {}, 0, ''
    for index = 1, #entry[2], 2 do
      if entry[2][index] == 'body' then
        body = #entry[2][index + 1]
      else
        fields[#fields + 1] = entry[2][index]
        fields[#fields + 1] = entry[2][index + 1]
        if entry[2][index] == 'envelope' then
          envelope = entry[2][index + 1]
        end
      end
    end
    local matches = true
    for index = 4, #ARGV do
      matches = matches and string.find(envelope, ARGV[index], 1, true) ~= nil
    end
    if matches then
      local state, ends = 0, false
      if KEYS[2] then
        ends = redis.call('ZSCORE', KEYS[2], entry[1])
        state = ends and 1 or 0
        if not ends then
          ends = redis.call('ZSCORE', KEYS[3], entry[1])
          state = ends and 2 or 0
        end
      end
      shown[#shown + 1] = {entry[1], state, ends or '0', body, fields}
      room = room - 1
    end
  end
  if #found < wanted and room > 0 then
    shown[1] = ''
    break
  end
end
return shown
