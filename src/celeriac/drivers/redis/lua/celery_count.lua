-- ARGV: P, '', unacked, index, count of lists, then for each queue: name, lists...
-- Returns ready, delayed, held for each.
local lists = tonumber(ARGV[5])
local held = {}
for _, holder in ipairs(redis.call('ZRANGE', P .. 'cl', 0, -1)) do
  for _, mark in ipairs(redis.call('HVALS', P .. 'ch:' .. holder)) do
    local _, stop, size = string.find(mark, '^%d+ %d+ (%d+) ')
    local queue = string.sub(mark, stop + 1, stop + tonumber(size))
    held[queue] = (held[queue] or 0) + 1
  end
end
local counts = {}
for i = 6, #ARGV, 1 + lists do
  local queue = ARGV[i]
  local ready = redis.call('ZCARD', P .. 'cs:' .. queue)
  for n = 1, lists do
    local size = redis.pcall('LLEN', ARGV[i + n])
    ready = ready + (type(size) == 'number' and size or 0)
  end
  counts[#counts + 1] = ready
  counts[#counts + 1] = redis.call('ZCARD', P .. 'cd:' .. queue)
  counts[#counts + 1] = held[queue] or 0
end
return counts
