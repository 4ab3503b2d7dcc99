-- ARGV: P, holder, unacked, index, then for each delivery: verdict, tag, extra, id, value, records,
-- parts, follow-ups (counts), then those records, parts and follow-ups.
--   A done.  L released.  X lost.  B buried: extra is the head of the burial, value what is buried.
--   R replaced: value is the new message, extra its due time ('' for now), id its list.
--   D not due before extra.  Q quarantined.
-- Returns the positions (from 0) of the deliveries that were not the holder's any more.
local i = 5
while i <= #ARGV do
  local at = i + 8 + tonumber(ARGV[i + 5]) * 8 + tonumber(ARGV[i + 6]) * 4
  local follow = tonumber(ARGV[i + 7])
  local wrong = refused(at, follow)
  if ARGV[i] == 'R' and not is_list(ARGV[i + 3]) then
    wrong = ARGV[i + 3]
  end
  if wrong then
    return no_list(wrong)
  end
  i = at + follow * 4
end

local stale, released, groups = {}, {}, {}
local position = 0
i = 5
while i <= #ARGV do
  local verdict, tag, extra, id, value = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local records, parts = tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6])
  local follow = tonumber(ARGV[i + 7])
  local at = i + 8
  local after = at + records * 8 + parts * 4 + follow * 4
  local losses, queue, list, raw = let_go(H, tag)
  if losses then
    if verdict == 'R' then
      if extra == '' then
        redis.call('LPUSH', id, value)
      else
        delay(tag, 0, queue, id, value, extra)
      end
    elseif verdict == 'B' then
      redis.call('HSET', P .. 'xm', id, extra .. value)
      redis.call('ZADD', P .. 'x', redis.call('INCR', P .. 'xs'), id)
    elseif raw and verdict == 'L' then
      released[#released + 1] = { tag, losses, queue, list, raw }
    elseif raw and verdict == 'X' then
      set_apart(tag, losses + 1, queue, list, raw)
    elseif raw and verdict == 'D' then
      delay(tag, losses, queue, list, raw, extra)
    elseif raw and verdict == 'Q' then
      redis.call('LPUSH', P .. 'quarantine:' .. queue, raw)
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

-- The last first: each goes to the end from which the next is taken.
for n = #released, 1, -1 do
  local tag, losses, queue, list, raw = unpack(released[n])
  if losses > 0 or not is_list(list) then
    set_apart(tag, losses, queue, list, raw)
  else
    redis.call('RPUSH', list, raw)
  end
end

send_ready(groups)
if redis.call('EXISTS', H) == 0 then
  redis.call('ZREM', P .. 'cl', ARGV[2])
end
return stale
