-- KEYS: the messages, then the results.  ARGV: P, ids.  Returns (body, note, ms to live) each.
local found = {}
for i = 2, #KEYS do
  local body = redis.call('GET', KEYS[i])
  if body then
    found[#found + 1] = body
    found[#found + 1] = redis.call('GET', beside(ARGV[i])) or ''
    found[#found + 1] = redis.call('PTTL', KEYS[i])
  else
    found[#found + 1] = false
    found[#found + 1] = false
    found[#found + 1] = false
  end
end
return found
