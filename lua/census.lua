#!lua
-- One worker says that it lives, and hears how many do. Its answer is also what tells that Redis takes writes.
--
-- KEYS   [1] ZSET: worker -> when it counts as dead
-- ARGV   now ('' = Redis' clock) | the worker's name | how long it is believed, microseconds
-- Reply  {now, workers that live, this one's place among their names, from 0}
--
-- Atomic: everything. Not with full memory (no allow-oom): a Redis that quotas cannot be charged to is none for them.
-- Expires: the set with its last worker. Calls: TIME ZADD ZREMRANGEBYSCORE ZRANGE PEXPIRE.
local call = redis.call
-- part: clock
local name, life, place = ARGV[2], tonumber(ARGV[3]), 0
call('ZADD', KEYS[1], string.format('%d', now + life), name)
call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))
call('PEXPIRE', KEYS[1], string.format('%d', math.ceil(life / 1000)))
local live = call('ZRANGE', KEYS[1], 0, -1)
for _, other in ipairs(live) do
  if other < name then place = place + 1 end
end
return {now, #live, place}
