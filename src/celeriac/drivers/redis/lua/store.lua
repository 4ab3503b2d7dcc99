-- ARGV: P, then records (see `record`).
for i = 2, #ARGV, 8 do
  record(i)
end
