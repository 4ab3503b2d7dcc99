-- ARGV: P, holder, then for each delivery: verdict, id, token, extra (verdict's own, see below),
-- records, parts, follow-ups (counts), then those records, parts and follow-ups.
--   A done.  R replaced: extra counts the one (id, lane, due, value) that comes first among the
--   follow-ups.  L released, X lost: nothing.  B buried: extra is the head of the burial.
-- Returns the positions (from 0) of the deliveries that were not the holder's any more.
local function published(value)
  return struct.unpack('>d', string.sub(value, 20, 27))
end

local i = 3
while i <= #ARGV do
  local at = i + 7 + tonumber(ARGV[i + 4]) * 8 + tonumber(ARGV[i + 5]) * 4
  local follow = tonumber(ARGV[i + 6])
  local wrong = refused(at, follow)
  if wrong then
    return no_list(wrong)
  end
  i = at + follow * 4
end

local H = P .. 'h:' .. ARGV[2]
local stale, released, groups = {}, {}, {}
local position = 0
i = 3
while i <= #ARGV do
  local verdict, id, token, extra = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local records, parts = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  local follow = tonumber(ARGV[i + 6])
  local at = i + 7
  local after = at + records * 8 + parts * 4 + follow * 4
  local mark = redis.call('HGET', H, id)
  if mark and string.sub(mark, 1, #token) == token then
    -- A removal first: Redis lets a script that has begun to write go on when memory is full.
    redis.call('HDEL', H, id)
    if verdict == 'A' or verdict == 'R' then
      redis.call('HDEL', M, id)
      redis.call('HDEL', P .. 'n', id)
    elseif verdict == 'L' then
      released[#released + 1] = id
    elseif verdict == 'X' then
      lose(id)
    elseif verdict == 'B' then
      local value = redis.call('HGET', M, id)
      redis.call('HDEL', M, id)
      redis.call('HDEL', P .. 'n', id)
      redis.call('HSET', P .. 'xm', id, extra .. (value or ''))
      redis.call('ZADD', P .. 'x', redis.call('INCR', P .. 'xs'), id)
    end
    for n = 0, records - 1 do
      record(at + n * 8)
    end
    at = at + records * 8
    for n = 0, parts - 1 do
      fill(at + n * 4)
      groups[ARGV[at + n * 4]] = true
    end
    if follow > 0 then
      put(at + parts * 4, follow)
    end
  else
    stale[#stale + 1] = position
  end
  i = after
  position = position + 1
end

-- Back to its place by the time it was published: what was released before it may be older.  That is
-- looked for among the first few only; a whole batch goes back in one script, newest first.
local function give_back(one)
  local key = P .. 'r:' .. lane_of(one.value)
  local pivot
  for _, other in ipairs(redis.call('LRANGE', key, 0, 63)) do
    local value = redis.call('HGET', M, other)
    if value and not is_tombstone(value) then
      if published(value) >= one.at then
        break
      end
      pivot = other
    end
  end
  if pivot then
    redis.call('LINSERT', key, 'AFTER', pivot, one.id)
  else
    push('LPUSH', lane_of(one.value), { one.id })
  end
  ring(queue_of(lane_of(one.value)), 1)
end

local again = {}
for n, id in ipairs(released) do
  local value = redis.call('HGET', M, id)
  if value then
    if redis.call('HEXISTS', P .. 'n', id) == 1 then
      suspect(id, value)
    else
      again[#again + 1] = { id = id, value = value, at = published(value), n = n }
    end
  end
end
table.sort(again, function(a, b)
  if a.at ~= b.at then
    return a.at > b.at
  end
  return a.n > b.n
end)
for _, one in ipairs(again) do
  give_back(one)
end

send_ready(groups)

if redis.call('EXISTS', H) == 0 then
  redis.call('ZREM', P .. 'l', ARGV[2])
end
return stale
