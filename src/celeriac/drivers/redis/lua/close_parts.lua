-- ARGV: P, then parts (see `fill`).  Returns (group, packed follow-up) of each complete group.
local seen, found = {}, {}
for i = 2, #ARGV, 4 do
  fill(i)
  seen[#seen + 1] = ARGV[i]
end
local told = {}
for _, group in ipairs(seen) do
  local packed = not told[group] and ready(group)
  told[group] = true
  if packed then
    found[#found + 1] = group
    found[#found + 1] = packed
  end
end
return found
