#!lua flags=allow-oom
-- Takes a breaker by hand: open for all, closed for all, or left to its rule again. Forced closed it is closed, its window empty: what is counted from then on
-- is judged when it is left to its rule. Where nothing is known of it, that it is left to its rule is written, too: a worker that knows it as forced must not tell
-- that to a Redis that has lost it (report).
--
-- KEYS   [1] s HASH: the breaker, as in report
-- ARGV   now ('' = Redis' clock; tests give it) | the breaker's name, for who listens | 0 auto, 1 open, 2 closed | window | open_most; microseconds
-- Reply  {1 = changed | 0, now, state, epoch, how long it stays open, trips, force; as report's}
--
-- Atomic: everything. Full memory does not stop it (allow-oom). Expires: 7 days, renewed by every report; not forced: as in report.
-- Calls: TIME HMGET; changed: (DEL) HSET PEXPIRE PUBLISH.
local call, look, max = redis.call, redis.pcall, math.max
-- part: clock
local name, wanted, window, open_most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function int(x) return string.format('%d', x) end
local function number(x) -- what it counts on to grow by one must be below 2^53; what anybody else has written is none
  x = tonumber(x or nil)
  return x and x >= 0 and x < 2 ^ 53 and x or 0
end

local r = look('HMGET', KEYS[1], 'state', 'epoch', 'until', 'trips', 'force')
if r.err then call('DEL', KEYS[1]); r = {} end
local state, epoch, ends, trips, force = number(r[1]), number(r[2]), number(r[3]), number(r[4]), number(r[5])
if state == 1 and now >= ends then state = 2 end
local function answer(changed) return {changed, now, state, epoch, state == 1 and ends - now or 0, trips, force} end

if wanted == force and epoch > 0 then return answer(0) end
epoch, force = max(epoch + 1, now), wanted
if force == 2 then
  state, ends, trips = 0, 0, 0
  call('DEL', KEYS[1])
end
call('HSET', KEYS[1], 'state', int(state == 0 and 0 or 1), 'epoch', int(epoch), 'until', int(ends), 'trips', int(trips), 'force', int(force))
local keep = state == 0 and window + 10000000 or max(ends - now, 0) + open_most + 60000000
if force ~= 0 then keep = max(keep, 604800000000) end
call('PEXPIRE', KEYS[1], int(math.ceil(keep / 1000)))
local reply = answer(1)
call('PUBLISH', 'sluice:b', string.format('b %d %d %d %d %d 7 0 0 0 0 0 ', state, epoch, reply[5], trips, force) .. name)
return reply
