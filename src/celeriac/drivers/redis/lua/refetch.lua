-- What a claim whose reply was lost has put into our hands.
-- ARGV: P, holder, token.  Returns as claim.lua.
local found = { '' }
local marks = redis.call('HGETALL', P .. 'h:' .. ARGV[2])
for i = 1, #marks, 2 do
  if string.sub(marks[i + 1], 1, #ARGV[3]) == ARGV[3] then
    local value = redis.call('HGET', M, marks[i])
    if value then
      found[#found + 1] = marks[i]
      found[#found + 1] = value
      found[#found + 1] = redis.call('HGET', P .. 'n', marks[i]) or '0'
    end
  end
end
return found
