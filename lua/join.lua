#!lua
-- Looks one request up: is its answer stored, is it on its way, or is it ours to ask for? One step for cache and flight, so that of many who ask at once
-- exactly one leads.
--
-- KEYS   [1] f HASH: the flight: fence, owner (the leader's channel), lease (until when), state, until; r:<channel> = until when that worker reads along
--        [2] v HASH: the stored answer: made, fresh, stale, error, late (times), head, body, raw, sum
--        [3] HASH of purges: what was purged -> when; nothing begun before is given to who asks after
-- ARGV   now ('' = Redis' clock; tests give it) | channel of the asking worker | lease | presence (how long a reader counts without a sign of life)
--        | wishes, a letter each: c may be given what is stored; l may lead; f may follow; k this worker knows that it leads; e the upstream has failed, so
--        that what is stale for that case will do; w what came in just now, within the window, will do
--        | the oldest age that will do ('' = any) | how stale beyond fresh will do (below 0: how long it must be fresh still)
--        | the flight's name for hints
--        | fields of KEYS[3] to heed, any number. All times are microseconds.
-- Reply  {verdict, now, …}:
--        hit, stale, refresh   made, fresh, stale, error, head, body, raw, sum, fence (refresh: of the flight that is ours to lead; else 0)
--        lead                  fence, 1 = an answer is stored that will do if the upstream fails
--        follow                fence, how long its lease still holds, 1 = the leader is the asking worker
--        pass                  nothing is shared: ask for yourself
--        none                  nothing is stored that will do, and more was not asked for
--
-- States  r running (joinable, as long as its lease holds), c running but closed to newcomers, p its answers cannot be shared: until `until` everybody asks for
--         himself, x it failed: until `until` a stale answer is given without a refresh; anything else: over.
-- Fence   max(the last one + 1, now, behind every purge that is heeded): it grows even when the key was lost; a leader whose fence is not the key's is
--         refused by append and finish.
-- Atomic: everything. Expires: f lease + 10 minutes. Full memory refuses it: who cannot join asks for himself.
-- What is not as we write it (another type of key, a time that is no number) is as if it were not there, and is replaced.
-- Calls: TIME HMGET HMGET HMGET; lead: (DEL) HSET PEXPIRE; follow: (HSET) HSET PUBLISH.
local call, look, max = redis.call, redis.pcall, math.max
-- part: clock
local channel, lease, presence, wishes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local oldest, slack, name = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

local function int(x) return string.format('%d', x) end
local function number(x) return tonumber(x or nil) end
-- What a fence may have to be beyond: from 2^53 on, one more is the same number, and two leaders would have one fence.
local function countable(x)
  x = number(x)
  return x and x > 0 and x < 2 ^ 53 and x or 0
end
local function wants(letter) return wishes:find(letter, 1, true) ~= nil end

local floor = 0
for _, at in ipairs(call('HMGET', KEYS[3], unpack(ARGV, 9))) do
  floor = max(floor, countable(at))
end

local v = look('HMGET', KEYS[2], 'made', 'fresh', 'stale', 'error', 'head', 'body', 'raw', 'sum', 'late')
local made, fresh, stale, failed = number(v[1]), number(v[2]), number(v[3]), number(v[4])
local stored = made and fresh and stale and failed and v[5] and v[6] and made > floor
local function give(verdict, fence) return {verdict, now, made, fresh, stale, failed, v[5], v[6], v[7] or '0', v[8] or '', fence} end

local young = stored and (not oldest or now - made <= oldest)
if wants('w') and stored and now < (number(v[9]) or 0) then return give('hit', 0) end
if wants('c') and young and now < fresh + slack then return give(now < fresh and 'hit' or 'stale', 0) end
if wants('e') then
  if stored and now < failed then return give('stale', 0) end
  return {'none', now}
end

local f = look('HMGET', KEYS[1], 'fence', 'owner', 'lease', 'state', 'until')
local fence, owner, held, state, still = countable(f[1]), f[2], number(f[3]) or 0, f[4], number(f[5]) or 0
local running = owner and (state == 'r' or state == 'c') and held > now and fence > floor and (owner ~= channel or wants('k'))
local resting = (state == 'p' or state == 'x') and still > now

local function lead()
  fence = max(fence + 1, now, floor + 1)
  if f[1] or f.err then call('DEL', KEYS[1]) end -- its readers belong to the flight before
  call('HSET', KEYS[1], 'fence', int(fence), 'owner', channel, 'lease', int(now + lease), 'state', 'r')
  call('PEXPIRE', KEYS[1], int(lease / 1000 + 600000))
end

if wants('c') and young and now < stale and slack >= 0 then -- not for who wants it fresh for some time to come
  if running or resting or not wants('l') then return give('stale', 0) end
  lead()
  return give('refresh', fence)
end
if not wants('l') then return {'none', now} end
if (resting and state == 'p') or (running and (state == 'c' or not wants('f'))) then return {'pass', now} end
if running then
  if held > now + lease then -- no leader says that: the clock was set back, or it is not ours; one that lives says its own within a beat
    held = now + lease
    call('HSET', KEYS[1], 'lease', int(held))
  end
  if owner ~= channel then
    call('HSET', KEYS[1], 'r:' .. channel, int(now + presence))
    call('PUBLISH', owner, name)
  end
  return {'follow', now, fence, held - now, owner == channel and 1 or 0}
end
lead()
return {'lead', now, fence, stored and now < failed and 1 or 0}
