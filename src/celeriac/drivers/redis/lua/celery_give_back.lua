-- ARGV: P, holder, unacked, index.  Everything that the holder has comes back as lost.
redis.call('ZREM', P .. 'cl', ARGV[2])
lose_all(H)
