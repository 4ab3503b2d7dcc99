-- What the scripts that take from Celery's lists have in common.  ARGV: P, holder, `unacked`,
-- `unacked_index`, ...  A message is never decoded here: its text goes through as it came.
--
-- What a holder has is known by tags of ours, which are new for each claim, so that the tag proves
-- the ownership.  Under the tag stand, in Celery's own two keys, the message and the end of the lease;
-- and in P .. 'ch:' .. holder what puts it back where it was: losses, sizes, queue and list.
-- Aside, in P .. 'cm' by tag: what is delayed (P .. 'cd:' .. queue) or has lost a worker
-- (P .. 'cs:' .. queue), as losses, size of the list's name, list, message.

local H = P .. 'ch:' .. ARGV[2]
local UNACKED, INDEX = ARGV[3], ARGV[4]

local function aside_of(losses, list, raw)
  return losses .. ' ' .. #list .. ' ' .. list .. raw
end

local function open_aside(value)
  local _, stop, losses, size = string.find(value, '^(%d+) (%d+) ')
  size = tonumber(size)
  return tonumber(losses), string.sub(value, stop + 1, stop + size), string.sub(value, stop + size + 1)
end

local function hold(tag, raw, losses, queue, list, tail, until_ms)
  redis.call('ZADD', INDEX, string.format('%.3f', until_ms / 1000), tag)
  redis.call('HSET', UNACKED, tag, '[' .. raw .. tail)
  redis.call('HSET', H, tag, losses .. ' ' .. #raw .. ' ' .. #queue .. ' ' .. queue .. list)
end

-- End the hold of a tag.  Returns losses, queue, list and the message; nothing where the tag is not
-- held; no message where somebody else has acknowledged or restored it.
local function let_go(key, tag)
  local mark = redis.call('HGET', key, tag)
  if not mark then
    return nil
  end
  redis.call('HDEL', key, tag)
  local entry = redis.call('HGET', UNACKED, tag)
  redis.call('HDEL', UNACKED, tag)
  redis.call('ZREM', INDEX, tag)
  local _, stop, losses, raw, size = string.find(mark, '^(%d+) (%d+) (%d+) ')
  size = tonumber(size)
  local queue = string.sub(mark, stop + 1, stop + size)
  local list = string.sub(mark, stop + size + 1)
  return tonumber(losses), queue, list, entry and string.sub(entry, 2, 1 + tonumber(raw))
end

local function delay(tag, losses, queue, list, raw, due)
  local key = P .. 'cd:' .. queue
  redis.call('HSET', P .. 'cm', tag, aside_of(losses, list, raw))
  redis.call('ZADD', key, due, tag)
  redis.call('SADD', P .. 'queues', queue)
  redis.call('SADD', P .. 'cdq', queue)
  if redis.call('ZRANGE', key, 0, 0)[1] == tag then
    ring(queue, 1)
  end
end

-- What has lost a worker is not shown to Celery's again: here it is claimed alone, and counted.
local function set_apart(tag, losses, queue, list, raw)
  redis.call('HSET', P .. 'cm', tag, aside_of(losses, list, raw))
  redis.call('ZADD', P .. 'cs:' .. queue, seconds(), tag)
  redis.call('SADD', P .. 'queues', queue)
  ring(queue, 1)
end

local function lose_all(key)
  for _, tag in ipairs(redis.call('HKEYS', key)) do
    local losses, queue, list, raw = let_go(key, tag)
    if raw then
      set_apart(tag, losses + 1, queue, list, raw)
    end
  end
end

-- Put what is due to the end of its list that consumers take from.
local function promote_celery(queue, now, most)
  local key = P .. 'cd:' .. queue
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, most)
  for _, tag in ipairs(due) do
    redis.call('ZREM', key, tag)
    local value = redis.call('HGET', P .. 'cm', tag)
    if value then
      redis.call('HDEL', P .. 'cm', tag)
      local losses, list, raw = open_aside(value)
      if losses > 0 or not is_list(list) then
        set_apart(tag, losses, queue, list, raw)
      else
        redis.call('RPUSH', list, raw)
      end
    end
  end
  if redis.call('EXISTS', key) == 0 then
    redis.call('SREM', P .. 'cdq', queue)
  end
  return #due
end
