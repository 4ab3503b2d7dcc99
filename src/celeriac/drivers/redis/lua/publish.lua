-- ARGV: P, then (id, lane, due, value) each.
put(2, (#ARGV - 1) / 4)
