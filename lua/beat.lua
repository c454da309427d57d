#!lua flags=allow-oom
-- A worker's heart-beat in a line that some of its requests wait in: it says that it lives, and looks after who is called.
--
-- KEYS   [1] ZSET, [2] HASH: the line's w and f (lua/part/line.lua)
-- ARGV   now ('' = Redis' clock) | line, as in admit
-- Reply  {1 = the line is there | 2 = and there are more to be passed over: beat again | 0 = nobody waits, when it began, how many wait in each lane: high, medium, low; who is called counts in none; 1 = some
--        of this worker's have lost their places, because it did not come, or could not be told; now}
--
-- A line that began at another time than before is not the one that was waited in: Redis has lost that. One of which a part is lost is ended, so that all ask anew.
-- Atomic: everything. Expires: w and f 60 s after it. Calls: TIME EXISTS HMGET ZCARD; HSET PEXPIRE PEXPIRE, and what it takes to call somebody.
-- part: line
-- part: clock
if redis.call('EXISTS', KEYS[2]) == 0 then return {0, 0, 0, 0, 0, 0, now} end
local line = line_open(KEYS[1], KEYS[2], now, ARGV[2])
if not line.is_whole() then
  redis.call('DEL', KEYS[1], KEYS[2])
  return {0, 0, 0, 0, 0, 0, now}
end
line.visit()
line.look(nil, true)
local lost = line.return_from_death() and 1 or 0
line.save()
local there = line.total() == 0 and 0 or line.is_called() and 1 or 2
return {there, line.born(), line.waiting(1), line.waiting(2), line.waiting(3), lost, now}
