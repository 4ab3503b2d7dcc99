-- ARGV: P, then (id, lane, due, value) each.
local wrong = refused(2, (#ARGV - 1) / 4)
if wrong then
  return no_list(wrong)
end
put(2, (#ARGV - 1) / 4)
