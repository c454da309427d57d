#!lua flags=allow-oom
-- Has what was begun up to now given to nobody who asks from now on and heeds this field.
--
-- KEYS   [1] HASH of purges: what was purged -> when, as join heeds it
-- ARGV   now ('' = Redis' clock; tests give it) | how long a purge has to stand: longer than any answer is kept | field. All times are microseconds.
-- Reply  {when}
--
-- A field only grows: a clock that was set back brings nothing back. Of twenty fields, whichever they are, those that have stood for long enough leave:
-- so a purge costs the same however many there were, and the old ones stay few.
-- Atomic: everything. Full memory does not stop it (allow-oom): what has to go must not stay for want of some bytes. Expires: the hash, when its
-- youngest field has stood for long enough. Calls: TIME HGET HSET PEXPIRE HRANDFIELD (HDEL).
local call = redis.call
-- part: clock
local keep, field = tonumber(ARGV[2]), ARGV[3]

-- What join takes for no time (it is beyond what a fence can be, or no number) is none here either, and leaves.
local function time_of(x)
  x = tonumber(x or nil)
  return x and x < 2 ^ 53 and x or 0
end

local at = math.max(now, time_of(call('HGET', KEYS[1], field)))
call('HSET', KEYS[1], field, string.format('%d', at))
call('PEXPIRE', KEYS[1], string.format('%d', (at - now + keep) / 1000))

local old, some = {}, call('HRANDFIELD', KEYS[1], '20', 'WITHVALUES')
for i = 1, #some, 2 do
  if time_of(some[i + 1]) < now - keep then old[#old + 1] = some[i] end
end
if #old > 0 then call('HDEL', KEYS[1], unpack(old)) end
return {at}
