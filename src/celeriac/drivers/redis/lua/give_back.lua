-- ARGV: P, holder.  Everything that the holder has comes back as lost.
local H = P .. 'h:' .. ARGV[2]
local ids = redis.call('HKEYS', H)
redis.call('DEL', H)
redis.call('ZREM', P .. 'l', ARGV[2])
for _, id in ipairs(ids) do
  lose(id)
end
return #ids
