#!lua flags=allow-oom
-- A worker that reads along looks what has come, and says that it is still there; or that it leaves.
--
-- KEYS   [1] f HASH: the flight, as in join  [2] s STREAM of this fence, as in append
-- ARGV   now ('' = Redis' clock) | fence | channel of the worker | presence: until when it counts without another sign; 0 = no sign now; -1 = it leaves
--        | id of the last entry that it has ('' = none) | how many entries at most
-- Reply  {1 = the leader goes on | 0 = not this one any more, how long its lease still holds, entries as XRANGE gives them}
--
-- Atomic: everything. Full memory does not stop it. Expires: nothing that did not before. Calls: TIME HMGET XRANGE (HSET or HDEL).
local call = redis.call
-- part: clock
local fence, reader, presence, last = ARGV[2], 'r:' .. ARGV[3], tonumber(ARGV[4]), ARGV[5]
local f = redis.pcall('HMGET', KEYS[1], 'fence', 'state', 'lease')
local goes_on = f[1] == fence and (f[2] == 'r' or f[2] == 'c')
if presence < 0 then
  if f[1] == fence then call('HDEL', KEYS[1], reader) end
  return {0, 0, {}}
end
if goes_on and presence > 0 then call('HSET', KEYS[1], reader, string.format('%d', now + presence)) end
return {goes_on and 1 or 0, (tonumber(f[3] or nil) or 0) - now, call('XRANGE', KEYS[2], last == '' and '-' or '(' .. last, '+', 'COUNT', ARGV[6])}
