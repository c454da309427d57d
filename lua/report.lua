#!lua flags=allow-oom
-- Adds what a worker has counted to a target's breaker, judges, and says how it stands. With nothing counted it is the read. With a ticket it gives that back,
-- too, exactly once.
--
-- KEYS   [1] s HASH: state (0 closed, 1 open), epoch, until (when open ends), trips, force (0 auto, 1 open, 2 closed), good (probes that went well),
--            unreachable and failures (in a row), last (when something was counted), 0 … 9: the slices, each "slot calls failed first_bytes slow"
--        [2] p ZSET of tickets, as in probe
--        [3] w HASH of pauses, as in pause
-- ARGV   now ('' = Redis' clock; tests give it) | the breaker's name, for who listens
--        | window | min_calls | error_rate | slow_rate | slow_min_calls | unreachable | failures | open_for | open_most | probes: the rule; rates in parts of 10,000
--        | the epoch under which was counted (0 = not known) | calls | failed | first_bytes | slow | 1 = the target was reached meanwhile
--        | unreachable in a row since | 1 = a call went well meanwhile | failures in a row since | v of the pauses that the worker knows
--        | ticket ('' = none) | s it went well, f it did not, n nothing, w it goes well so far: the ticket stays | 1 = the answer to asking for it was lost
--        | force, as the worker knows it.   All times are microseconds.
-- Reply  {1 = the ticket was there, now, state (2 = half open), epoch, how long it stays open, trips, force, why, calls, failed, first_bytes, slow, run,
--        v of the pauses, and when that is another one: model, how long, for each}
--        why = what this call has changed it by: 0 nothing, 1 errors, 2 slow, 3 unreachable, 4 failures in a row, 5 a probe failed, 6 the probes went well,
--        7 it was lost, and is forced again;
--        calls … slow are the window's, run what was in a row: as they were judged
--
-- Open until a time is half open from that time on, without a write. What is counted under another epoch, or while it is not closed, is of calls that were in
-- flight when it opened: it neither opens it again nor lengthens anything. While it is forced, it is counted and not judged.
-- Where nothing is known of it, and the worker knows it as forced, Redis has lost it: it is forced again before anything is judged.
-- Epoch  max(the last one + 1, now) at each change: it grows even when the key was lost.
-- Atomic: everything. Full memory does not stop it (allow-oom): tickets must come back, and what it adds is small.
-- Expires: s closed: window + 10 s; open: until it would close, and open_most + a minute; forced: 7 days, from the last report.
-- What is not as we write it (another type of key) is as if it were not there, and is replaced.
-- Calls: TIME HMGET HGET; something counted or changed: (DEL) HSET PEXPIRE (PUBLISH); a ticket: ZREM (ZREM ZADD PEXPIRE PEXPIRE), or ZSCORE ZREM ZADD; pauses: HGETALL.
local call, look, max, min = redis.call, redis.pcall, math.max, math.min
-- part: clock
local function int(x) return string.format('%d', x) end
local function number(x) -- what it counts on to grow by one must be below 2^53; what anybody else has written is none
  x = tonumber(x or nil)
  return x and x >= 0 and x < 2 ^ 53 and x or 0
end
local function argument(i) return tonumber(ARGV[i]) end

local name, window, min_calls, error_rate, slow_rate, slow_min_calls = ARGV[2], argument(3), argument(4), argument(5), argument(6), argument(7)
local unreachable_most, failures_most, open_for, open_most, probes = argument(8), argument(9), argument(10), argument(11), argument(12)
local counted, ticket, result = argument(13), ARGV[23], ARGV[24]

local r = look('HMGET', KEYS[1], 'state', 'epoch', 'until', 'trips', 'force', 'good', 'unreachable', 'failures', 'last',
  '0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
if r.err then call('DEL', KEYS[1]); r = {} end
local known = r[2]
local state, epoch, ends, trips, force, good = number(r[1]), number(r[2]), number(r[3]), number(r[4]), number(r[5]), number(r[6])
local unreachable, failures, last = number(r[7]), number(r[8]), number(r[9])
local set, why, run = {}, 0, 0
local function put(field, value) set[#set + 1] = field; set[#set + 1] = int(value) end

if ends > now + open_most then -- the clock was set back, or the rule is a shorter one
  ends = now + open_most
  put('until', ends)
end
if state == 1 and now >= ends then state = 2 end

local function change(to, reason)
  why, state, epoch = reason, to, max(epoch + 1, now)
  if to == 1 then
    ends = now + min(open_for * 2 ^ min(trips, 40), open_most)
    trips = trips + 1
  else
    ends, trips = 0, 0
  end
  set = {}
  put('state', to); put('epoch', epoch); put('until', ends); put('trips', trips); put('force', force)
  call('DEL', KEYS[1]) -- with it the window, and what was in a row
end

-- A ticket whose call went well so far keeps its place under another name: so that counts once, whatever is lost or comes twice.
local kept = ticket:gsub('^(%d+) ', '%1 w')
local function keep()
  local at = call('ZSCORE', KEYS[2], ticket)
  if not at then return 0 end
  call('ZREM', KEYS[2], ticket)
  call('ZADD', KEYS[2], at, kept)
  return 1
end

local function give_back() -- 1: it was there
  if call('ZREM', KEYS[2], ticket) == 1 then return 1 end
  if call('ZREM', KEYS[2], kept) == 1 then
    if result == 's' then result = 'n' end
    return 1
  end
  if ARGV[25] == '1' then -- the asking may still come: it will find this
    call('ZADD', KEYS[2], int(-now - 60000000), ticket)
    if call('PEXPIRE', KEYS[2], 61000, 'GT') == 0 then call('PEXPIRE', KEYS[2], 61000, 'NX') end
  end
  return 0
end

if epoch == 0 and argument(26) ~= 0 then
  why, epoch, force = 7, now, argument(26)
  put('state', state == 0 and 0 or 1); put('epoch', epoch); put('force', force)
end

local there = 0
if ticket ~= '' and result == 'w' then
  there, result = keep(), 's'
elseif ticket ~= '' then
  there = give_back()
end
if there == 1 and state == 2 and force == 0 and number(ticket:match('^%d+')) == epoch then
  if result == 'f' then
    change(1, 5)
  elseif result == 's' then
    good = good + 1
    if good >= probes then change(0, 6) else put('good', good) end
  end
end

-- The window: ten slices, the present one among them; so between nine and ten tenths of it are looked back at.
local slot, sum = math.floor(now / max(1, math.floor(window / 10))), {0, 0, 0, 0}
local here = {0, 0, 0, 0}
if why == 0 and state == 0 then
  for i = 10, 19 do
    local s, a, b, c, d = (r[i] or ''):match('^(%d+) (%d+) (%d+) (%d+) (%d+)$')
    s = tonumber(s)
    if s and s > slot - 10 and s <= slot then
      sum = {sum[1] + a, sum[2] + b, sum[3] + c, sum[4] + d}
      if s == slot then here = {tonumber(a), tonumber(b), tonumber(c), tonumber(d)} end
    end
  end
end

local function add()
  local any = 0
  for i = 1, 4 do
    local more = argument(13 + i)
    any, here[i], sum[i] = any + more, here[i] + more, sum[i] + more
  end
  if any == 0 then return end
  if now - last > window then unreachable, failures = 0, 0 end
  last = now
  unreachable = (ARGV[18] == '1' and 0 or unreachable) + argument(19)
  failures = (ARGV[20] == '1' and 0 or failures) + argument(21)
  set[#set + 1] = int(slot % 10)
  set[#set + 1] = string.format('%d %d %d %d %d', slot, here[1], here[2], here[3], here[4])
  put('unreachable', unreachable); put('failures', failures); put('last', now)
end

if why == 0 and state == 0 then
  if counted == epoch or counted == 0 or epoch == 0 then add() end
  if now - last > window then unreachable, failures = 0, 0 end
  if force ~= 0 then
    run = 0
  elseif sum[1] >= min_calls and error_rate > 0 and sum[2] * 10000 > error_rate * sum[1] then
    change(1, 1)
  elseif sum[3] >= slow_min_calls and slow_rate > 0 and sum[4] * 10000 > slow_rate * sum[3] then
    change(1, 2)
  elseif unreachable_most > 0 and unreachable >= unreachable_most then
    run = unreachable
    change(1, 3)
  elseif failures_most > 0 and failures >= failures_most then
    run = failures
    change(1, 4)
  end
end

local left = state == 1 and ends - now or 0
if #set > 0 then call('HSET', KEYS[1], unpack(set)) end
if #set > 0 or known then
  local keep = window + 10000000
  if state ~= 0 then keep = left + open_most + 60000000 end
  if force ~= 0 then keep = max(keep, 604800000000) end
  call('PEXPIRE', KEYS[1], int(math.ceil(keep / 1000)))
end
if why > 0 then
  call('PUBLISH', 'sluice:b', string.format('b %d %d %d %d %d %d %d %d %d %d %d ', state, epoch, left, trips, force, why,
    sum[1], sum[2], sum[3], sum[4], run) .. name)
end

local w = look('HGET', KEYS[3], 'v')
local reply = {there, now, state, epoch, left, trips, force, why, sum[1], sum[2], sum[3], sum[4], run,
  type(w) == 'string' and number(w) or 0}
if reply[14] > 0 and w ~= ARGV[22] then
  local all = call('HGETALL', KEYS[3])
  for i = 1, #all, 2 do
    local still = number(all[i + 1]) - now
    if all[i]:sub(1, 1) == 'm' and still > 0 then
      reply[#reply + 1] = all[i]:sub(2)
      reply[#reply + 1] = min(still, 90000000000)
    end
  end
end
return reply
