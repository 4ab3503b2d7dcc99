-- What the scripts have in common.  P is the namespace; every key has its hash tag, so that all of
-- them are in one slot of a cluster.  A message is one string: its head, which pack() of message.py
-- writes (priority digit, length of the queue's name, due, expires, at, attempt, queue), then the body.

local P = ARGV[1]
local M = KEYS[1]

local function seconds()
  local t = redis.call('TIME')
  return string.format('%d.%06d', t[1], t[2])
end

local function lane_of(value)
  local size = string.byte(value, 2) * 256 + string.byte(value, 3)
  return string.sub(value, 1, 1) .. ':' .. string.sub(value, 32, 31 + size)
end

local function queue_of(lane)
  return string.sub(lane, 3)
end

-- One token for each worker that may be asleep on the queue.  Where a token is left from before this
-- script, nobody sleeps: who sleeps takes his when the script is at its end.
local rung = {}
local function ring(queue, count)
  local key, before = P .. 'w:' .. queue, rung[queue]
  if before or redis.call('EXISTS', key) == 0 then
    local tokens = {}
    for n = 1, math.min(count, 64 - (before or 0)) do
      tokens[n] = '1'
    end
    if #tokens > 0 then
      redis.call('RPUSH', key, unpack(tokens))
      rung[queue] = (before or 0) + #tokens
    end
  end
end

local function push(command, lane, ids)
  local key = P .. 'r:' .. lane
  for first = 1, #ids, 1000 do
    local last = math.min(first + 999, #ids)
    if redis.call(command, key, unpack(ids, first, last)) == last - first + 1 then
      redis.call('SADD', P .. 'queues', queue_of(lane))
    end
  end
end

-- A withdrawn message leaves its id in the list, and 't' .. lane as its value, until it is met.
local function is_tombstone(value)
  return string.byte(value, 1) == 116
end

local function bury_tombstone(id, value)
  local lane = string.sub(value, 2)
  redis.call('HDEL', M, id)
  if redis.call('HINCRBY', P .. 'z', lane, -1) <= 0 then
    redis.call('HDEL', P .. 'z', lane)
  end
end

-- Whether something may be pushed to a key that is not in our namespace.
local checked = {}
local function is_list(key)
  if checked[key] == nil then
    local kind = redis.call('TYPE', key).ok
    checked[key] = kind == 'list' or kind == 'none'
  end
  return checked[key]
end

local function no_list(key)
  return redis.error_reply('WRONGTYPE ' .. key .. ' is no list: Celery keeps its messages there')
end

-- The first of Celery's lists that `put` could not push to.  Asked before the first write: a script
-- that ends half way has ended a task and sent only some of what follows it.
local function refused(at, count)
  for i = at, at + 4 * count - 1, 4 do
    local lane = ARGV[i + 1]
    if string.byte(lane, 1) == 107 and not is_list(string.sub(lane, 3)) then
      return string.sub(lane, 3)
    end
  end
end

-- A lane that begins with 'k' is one of Celery's lists: the value is the message as Celery reads it.
local function send_celery(lane, value)
  redis.call('LPUSH', string.sub(lane, 3), value)
end

-- Put new messages into their queues; ids that are there already stay as they are.
-- `at` is where in ARGV the first of `count` (id, lane, due, value) stands.
local function put(at, count)
  local lists, sizes, now = {}, {}, nil
  for i = at, at + 4 * count - 1, 4 do
    local id, lane, due, value = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local celery = string.byte(lane, 1) == 107
    local fresh = not celery and redis.call('HSETNX', M, id, value) == 1
    if celery then
      send_celery(lane, value)
    elseif not fresh then
      local old = redis.call('HGET', M, id)
      if is_tombstone(old) then
        redis.call('LREM', P .. 'r:' .. string.sub(old, 2), 1, id)
        bury_tombstone(id, old)
        redis.call('HSET', M, id, value)
        fresh = true
      end
    end
    if fresh then
      local queue = queue_of(lane)
      now = now or tonumber(seconds())
      if due ~= '' and tonumber(due) > now then
        local key = P .. 'd:' .. queue
        redis.call('ZADD', key, due, string.sub(lane, 1, 1) .. id)
        local head = redis.call('ZRANGE', key, 0, 0)
        if string.sub(head[1], 2) == id then
          -- Sleepers must learn that something is due sooner than they thought.
          redis.call('SADD', P .. 'queues', queue)
          redis.call('SADD', P .. 'dq', queue)
          sizes[queue] = sizes[queue] or 1
        end
      else
        local list = lists[lane]
        if list then
          list[#list + 1] = id
        else
          lists[lane] = { id }
        end
      end
    end
  end
  for lane, ids in pairs(lists) do
    push('RPUSH', lane, ids)
    local queue = queue_of(lane)
    sizes[queue] = (sizes[queue] or 0) + #ids
  end
  for queue, count in pairs(sizes) do
    ring(queue, count)
  end
end

-- What has lost a worker waits apart: the more urgent first, then the older.
local function suspect(id, value)
  local lane = lane_of(value)
  local at = struct.unpack('>d', string.sub(value, 20, 27))
  local score = (9 - tonumber(string.sub(value, 1, 1))) * 4e9 + at
  redis.call('ZADD', P .. 's:' .. queue_of(lane), string.format('%.6f', score), id)
  ring(queue_of(lane), 1)
end

local function lose(id)
  local value = redis.call('HGET', M, id)
  if value then
    redis.call('HINCRBY', P .. 'n', id, 1)
    suspect(id, value)
  end
end

-- Make due messages ready; at most `most` of them.
local function promote(queue, now, most)
  local key = P .. 'd:' .. queue
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, most)
  if #due == 0 then
    return 0
  end
  redis.call('ZREM', key, unpack(due))
  if redis.call('EXISTS', key) == 0 then
    redis.call('SREM', P .. 'dq', queue)
  end
  local lists = {}
  for _, member in ipairs(due) do
    local lane = string.sub(member, 1, 1) .. ':' .. queue
    lists[lane] = lists[lane] or {}
    table.insert(lists[lane], string.sub(member, 2))
  end
  for lane, ids in pairs(lists) do
    push('RPUSH', lane, ids)
  end
  return #due
end
