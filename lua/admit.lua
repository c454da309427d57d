#!lua
-- Admits one attempt over the quotas of its scopes (tenant, model, upstream), all or nothing, or says why not and how
-- long to wait.
--
-- KEYS   [1]  ZSET: the proof. id -> when the lease ends; negative: a tombstone that ends at -score. It is the first
--        scope's set of leases. Then for each scope, only what it uses:
--        q HASH of buckets | l ZSET of leases (limited concurrency, not the first scope) | one HASH per log
-- ARGV   now ('' = Redis' clock; tests give it) | id | lease | number of scopes, then for each scope
--        nb nl C W | nb field names | nb charges | nb capacities | nl times (charge, limit, hold, width)
--        C: concurrency limit, 0 = none. W: what to answer as its wait. All are integers, times are microseconds.
-- Reply  {1 = admitted | 0 = denied | 2 = gone, now, wait, row that bound, then of the first scope: backlog per bucket,
--        sum and time until empty per log, places used if C > 0}. Rows count from 1 in the order of ARGV: buckets, logs,
--        concurrency; scope by scope. The row that is told is the one with the longest wait.
--
-- Bucket  GCRA, virtual scheduling (ITU-T I.371). `<limit>` = theoretical arrival time; `<limit>:f` = when the bucket
--         was last full, before a charge. The caller gives the charge, T times the cost rounded up: all sums are of
--         integers below 2^53, and exact. A charge above the capacity needs a full bucket (the smoothing bucket before
--         a log; the caller refuses it everywhere else). A charge of 0 is only reported.
-- Log     Admissions summed in slices of `width`; a slice counts until its last admission is `hold` old, so the total
--         covers every window of the period, and never passes the limit. hold = period + guard (the provider sees a
--         call some milliseconds after us); width = period/98 rounded up, so at most 101 slices live. Fields: a slice's
--         number -> "last sum"; sum, lo, hi: total, first and last slice; due: when lo falls out; last: the newest
--         admission; born: when it was last empty. A clock that went back: the newest slice goes on and frees late.
-- Leases  Concurrency counts those that have not ended, so ended ones never deny; each admission removes at most 16.
--
-- Atomic: everything. A known id gets the same answer again and charges nothing; a tombstone (settled before this call
--   came) writes nothing. Denied: no key changes.
-- Expires: q when the fullest bucket has drained + 1 s, only raised (GT); a log hold + 1 s and leases lease + 60 s after
--   their last change (a tombstone lives 60 s): the same span each time, so these only rise as well.
-- Calls: TIME, ZSCORE; HMGET HSET PEXPIRE per q; 3 per log (5 when slices fall out); ZADD PEXPIRE ZRANGEBYSCORE (ZREM)
--   per l, and ZCOUNT if it is limited. Three buckets and a lease: 14.
local call, floor, max = redis.call, math.floor, math.max
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local id, lease, scopes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local function int(x) return string.format('%d', x) end
local function expire(key, us, ...) return call('PEXPIRE', key, int(math.ceil(us / 1000)), ...) end

local ends = tonumber(call('ZSCORE', KEYS[1], id) or nil)
if ends and ends < 0 then return {2, now, 0, 0} end

local wait, bound, row = 0, 0, 0
local function ask(delay) -- the next row needs this long
  row = row + 1
  if delay > wait then wait, bound = delay, row end
end

local function read_log(key, charge, limit, hold, width)
  local slot = floor(now / width)
  local r = call('HMGET', key, 'sum', 'lo', 'hi', 'due', 'last', 'born', int(slot))
  local log = {key = key, charge = charge, hold = hold, sum = tonumber(r[1] or 0), lo = tonumber(r[2] or 0), hi = tonumber(r[3] or -1),
    due = tonumber(r[4] or 0), last = tonumber(r[5] or 0), born = tonumber(r[6] or 0), here = r[7], gone = {}}
  if log.hi > slot then slot = log.hi; log.here = call('HGET', key, int(slot)) end
  log.slot = slot
  local missing = log.sum + charge - limit
  if charge == 0 then missing = 0 end
  local empty = log.lo > log.hi
  if empty or (now < log.due and missing <= 0) then return log, 0 end

  local names = {}
  for i = log.lo, log.hi do names[#names + 1] = int(i) end
  local values, delay, first = call('HMGET', key, unpack(names)), nil, nil
  for i, value in ipairs(values) do
    if value then
      local last, n = value:match('^(%d+) (%d+)$')
      local free = last + hold
      if free <= now and not first then
        log.sum = log.sum - n; missing = missing - n
        log.gone[#log.gone + 1] = names[i]
      else
        if not first then first = i; log.due = free end
        if missing <= 0 then break end
        missing = missing - n
        if missing <= 0 then delay = free - now; break end
      end
    end
  end
  if first then log.lo = log.lo + first - 1 else log.lo, log.hi, log.here = 0, -1, false end
  return log, delay or 0
end

local scope, at, key = {}, 5, 1
for s = 1, scopes do
  local nb, nl = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local p = {nb = nb, nl = nl, limit = tonumber(ARGV[at + 2]), at = at + 4, charge = {}, tat = {}, log = {}, used = 0}
  at = at + 4
  if nb > 0 then
    key = key + 1; p.q = KEYS[key]
    p.tat, p.fresh = call('HMGET', p.q, unpack(ARGV, at, at + nb - 1)), true
    for i = 1, nb do
      if p.tat[i] then p.fresh = false end
      local charge, capacity, tat = tonumber(ARGV[at + nb + i - 1]), tonumber(ARGV[at + 2 * nb + i - 1]), tonumber(p.tat[i] or 0)
      p.tat[i], p.charge[i] = tat, charge
      ask(charge == 0 and 0 or max(tat, now) + charge - max(capacity, charge) - now)
    end
    at = at + 3 * nb
  end
  if s == 1 then p.l = KEYS[1] elseif p.limit > 0 then key = key + 1; p.l = KEYS[key] end
  for i = 1, nl do
    key = key + 1
    local log, delay = read_log(KEYS[key], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
    p.log[i] = log
    ask(delay)
    at = at + 4
  end
  if p.limit > 0 then
    p.used = call('ZCOUNT', p.l, '(' .. int(now), '+inf')
    ask(p.used >= p.limit and tonumber(ARGV[p.at - 1]) or 0)
  end
  scope[s] = p
end

local function charge_buckets(p)
  local set, latest = {}, 0
  for i = 1, p.nb do
    if p.charge[i] > 0 then
      local name, tat = ARGV[p.at + i - 1], p.tat[i]
      if tat <= now then
        set[#set + 1] = name .. ':f'; set[#set + 1] = int(now)
        tat = now
      end
      tat = tat + p.charge[i]
      p.tat[i] = tat
      set[#set + 1] = name; set[#set + 1] = int(tat)
      latest = max(latest, tat)
    end
  end
  if latest == 0 then return end
  call('HSET', p.q, unpack(set))
  local left = latest - now + 1000000
  if expire(p.q, left, 'GT') == 0 and p.fresh then expire(p.q, left, 'NX') end -- GT never touches a key without an expiry
end

local function charge_log(log)
  if log.charge == 0 then return end
  if #log.gone > 0 then call('HDEL', log.key, unpack(log.gone)) end
  local n = 0
  if log.lo > log.hi then log.lo, log.born = log.slot, now
  elseif log.here then n = tonumber(log.here:match(' (%d+)$')) end
  log.last, log.hi, log.sum = max(log.last, now), log.slot, log.sum + log.charge
  if log.lo == log.slot then log.due = log.last + log.hold end
  call('HSET', log.key, int(log.slot), int(log.last) .. ' ' .. int(n + log.charge), 'sum', int(log.sum), 'lo', int(log.lo), 'hi', int(log.hi),
    'due', int(log.due), 'last', int(log.last), 'born', int(log.born))
  expire(log.key, log.hold + 1000000)
end

local function take_lease(p)
  if not p.l then return end
  local ended = call('ZRANGEBYSCORE', p.l, '-' .. int(now), int(now), 'LIMIT', 0, 16) -- leases and tombstones that have ended
  if #ended > 0 then call('ZREM', p.l, unpack(ended)) end
  call('ZADD', p.l, int(now + lease), id)
  expire(p.l, lease + 60000000)
  p.used = p.used + 1
end

local verdict = 1
if ends then wait, bound = 0, 0
elseif wait > 0 then verdict = 0
else
  for s = 1, scopes do
    charge_buckets(scope[s])
    for _, log in ipairs(scope[s].log) do charge_log(log) end
    take_lease(scope[s])
  end
end

local reply, p = {verdict, now, wait, bound}, scope[1]
for i = 1, p.nb do reply[#reply + 1] = max(p.tat[i] - now, 0) end
for _, log in ipairs(p.log) do
  reply[#reply + 1] = log.sum
  reply[#reply + 1] = log.lo > log.hi and 0 or max(log.last + log.hold - now, 0)
end
if p.limit > 0 then reply[#reply + 1] = p.used end
return reply
