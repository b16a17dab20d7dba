-- A part of other scripts: removes what dead workers held of a lease. Each life is one score, so a key is walked from
-- life to life. Only at the limit, and not again until somebody else has died.
local function sweep(key, now)
  local dead = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now / 1000))
  if dead > 0 then
    redis.call('ZADD', KEYS[3], string.format('%.0f', now), '')
  end
  local mark = redis.call('ZSCORE', KEYS[3], '') or '0'
  if tonumber(redis.call('ZSCORE', KEYS[3], key) or -1) == tonumber(mark) then
    return
  end
  local member = redis.call('ZRANGE', key, 0, 0)[1]
  while member do
    local holder = string.match(member, '^%d+')
    if not redis.call('ZSCORE', KEYS[2], holder) then
      redis.call('ZREMRANGEBYSCORE', key, holder, holder)
    end
    member = redis.call('ZRANGE', key, '(' .. holder, '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
  end
  redis.call('ZADD', KEYS[3], mark, key)
end
