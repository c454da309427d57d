#!lua flags=allow-oom
-- Asks for a ticket of a half-open breaker: at most so many calls at once in the whole fleet find out whether the target is well again.
--
-- KEYS   [1] s HASH: the breaker, as in report
--        [2] p ZSET: ticket -> when its call has surely ended; below 0: a ticket that was given back before its asking came, -> minus until when that is known
-- ARGV   now ('' = Redis' clock; tests give it) | ticket: "epoch id channel": the epoch that the worker knows, an id that nobody else has, the channel that the
--        worker listens to | how long its call may take | how many at once. All times are microseconds.
-- Reply  {1 = granted | 2 = no ticket is needed: it is closed | 0 = denied, now, state, epoch, how long it stays open, trips, force; as report's}
--
-- Asking twice is answered as once. One of another epoch is denied: the worker learns the present one. Tickets of old epochs hold their places until they
-- come back: their calls are still with the target.
-- When all places are taken, each owner is called by an empty word to its channel: whom nobody hears has died, and his ticket with him. So a killed worker's
-- place is free at once; a stopped one's when its call must have ended. Disadvantage: a worker whose listening connection is just broken counts as
-- dead, so for a moment there may be more calls; in a cluster, only listeners at this node are heard of.
-- Atomic: everything. Expires: p with its last ticket. Full memory does not stop it (allow-oom): tickets are few, and without
-- them each worker would give its own.
-- Calls: TIME HMGET; half open: ZSCORE ZREMRANGEBYSCORE ZRANGEBYSCORE; all taken: PUBLISH each, ZREM; granted: ZADD PEXPIRE PEXPIRE.
local call, look = redis.call, redis.pcall
-- part: clock
local ticket, lasts, probes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local function int(x) return string.format('%d', x) end
local function number(x) -- what it counts on to grow by one must be below 2^53; what anybody else has written is none
  x = tonumber(x or nil)
  return x and x >= 0 and x < 2 ^ 53 and x or 0
end

local r = look('HMGET', KEYS[1], 'state', 'epoch', 'until', 'trips', 'force')
if r.err then r = {} end
local state, epoch, ends, force = number(r[1]), number(r[2]), number(r[3]), number(r[5])
if state == 1 and now >= ends then state = 2 end
local function answer(verdict) return {verdict, now, state, epoch, state == 1 and ends - now or 0, number(r[4]), force} end

if force == 1 then return answer(0) end
if force == 2 or state == 0 then return answer(2) end
if state == 1 or number(ticket:match('^%d+')) ~= epoch then return answer(0) end

local mine = look('ZSCORE', KEYS[2], ticket)
if type(mine) == 'table' then
  if mine.err then call('DEL', KEYS[2]) end
  mine = nil
end
mine = tonumber(mine) or 0
if mine > now then return answer(1) end
if mine < 0 then return answer(0) end
call('ZREMRANGEBYSCORE', KEYS[2], int(-now), int(now))
local held = call('ZRANGEBYSCORE', KEYS[2], '(' .. int(now), '+inf')
if #held >= probes then
  local dead = {}
  for _, other in ipairs(held) do
    if call('PUBLISH', other:match('^%d+ %S+ (.*)$') or '', '') == 0 then dead[#dead + 1] = other end
  end
  if #dead > 0 then call('ZREM', KEYS[2], unpack(dead)) end
  if #held - #dead >= probes then return answer(0) end
end
call('ZADD', KEYS[2], int(now + lasts), ticket)
local keep = int(math.ceil(lasts / 1000) + 1000)
if call('PEXPIRE', KEYS[2], keep, 'GT') == 0 then call('PEXPIRE', KEYS[2], keep, 'NX') end
return answer(1)
