#!lua
-- Admits one attempt over the quotas of its scopes (tenant, model, upstream), all or nothing, or says why not and how
-- long to wait.
--
-- KEYS   [1]  ZSET: the proof. id -> when the lease ends; negative: a tombstone that ends at -score. It is the first
--        scope's set of leases. Then for each scope, only what it uses:
--        q HASH of buckets | l ZSET of leases (limited concurrency, not the first scope) | one HASH per log | the line's w and f
-- ARGV   now ('' = Redis' clock; tests give it) | id | lease | line | place | number of scopes, then for each scope
--        nb nl C W Q | nb field names | nb charges | nb capacities | nl times (charge, limit, hold, width)
--        C: concurrency limit, 0 = none. W: what to answer as its wait. Q: 1 = it has a line. All are integers, times are microseconds.
--        line: "channel depth high medium low shares…", of the caller and of all lines. place: "tenant group lane limit credit front waited": where it stands
--        if it has to wait, how long it may, 0 = not at all, how much of its coming late the buckets make good; 1 = before all of its lane; 1 =
--        it has stood in a line, and is refused at another only for a wait that is sure, not as it is full or by an estimate.
-- Reply  {1 = admitted | 0 = denied | 2 = gone | 3 = it waits | 4 = the line is full, now, wait, row that bound, then of the first scope: backlog
--        per bucket, sum and time until empty per log, places used if C > 0}. Rows count from 1 in the order of ARGV: buckets, logs,
--        concurrency; scope by scope. The row that is told is the one with the longest wait. Of 3 it is one of the scope in whose line it waits, and
--        the wait is when to ask again, 0 = when it is called ("turn <id>" on its channel).
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
-- Line    While somebody waits for a scope, nobody else is admitted to it, unless it is his turn. The tenant's own limits have no line. Who is
--         denied, admitted or told that the line is full waits nowhere from then on. Of 0 and 4 the row is the one that it would wait for longest.
--         Who is called comes some milliseconds late, which a bucket without a burst never makes good: so its charge counts from when it was to come, by at
--         most `credit`. That adds credit/T to the burst, for which a strict limit leaves room (lib/limiter_limits.h).
-- Leases  Concurrency counts those that have not ended, so ended ones never deny; each admission removes at most 16.
--
-- Atomic: everything. A known id gets the same answer again and charges nothing; a tombstone (settled before this call
--   came) writes nothing. Denied: no key changes.
-- Expires: q when the fullest bucket has drained + 1 s, only raised (GT); a log hold + 1 s and leases lease + 60 s after
--   their last change (a tombstone lives 60 s): the same span each time, so these only rise as well.
-- Calls: TIME, ZSCORE; HMGET HSET PEXPIRE per q; 3 per log (5 when slices fall out); ZADD PEXPIRE ZRANGEBYSCORE (ZREM)
--   per l, and ZCOUNT if it is limited; EXISTS of all lines. Three buckets and a lease: 15.
-- part: line
local call, floor, max = redis.call, math.floor, math.max
-- part: clock
local id, lease, rule, scopes = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[6])

local function int(x) return string.format('%d', x) end
local function expire(key, us, ...) return call('PEXPIRE', key, int(math.ceil(us / 1000)), ...) end

local ends = tonumber(call('ZSCORE', KEYS[1], id) or nil)
if ends and ends < 0 then return {2, now, 0, 0} end

local wait, bound, row, late = 0, 0, 0, 0
local function ask(p, delay) -- the next row of this scope needs this long
  row = row + 1
  if delay > wait then wait, bound = delay, row end
  if delay > p.wait then p.wait, p.bound = delay, row end
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

local scope, lined, lines, at, key = {}, {}, {}, 7, 1
for s = 1, scopes do
  local nb, nl = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local p = {nb = nb, nl = nl, limit = tonumber(ARGV[at + 2]), at = at + 5, charge = {}, tat = {}, log = {}, used = 0, wait = 0, bound = row + 1}
  at = at + 5
  if nb > 0 then
    key = key + 1; p.q = KEYS[key]
    p.tat, p.fresh = call('HMGET', p.q, unpack(ARGV, at, at + nb - 1)), true
    for i = 1, nb do
      if p.tat[i] then p.fresh = false end
      local charge, capacity, tat = tonumber(ARGV[at + nb + i - 1]), tonumber(ARGV[at + 2 * nb + i - 1]), tonumber(p.tat[i] or 0)
      p.tat[i], p.charge[i] = tat, charge
      ask(p, charge == 0 and 0 or max(tat, now) + charge - max(capacity, charge) - now)
    end
    at = at + 3 * nb
  end
  if s == 1 then p.l = KEYS[1] elseif p.limit > 0 then key = key + 1; p.l = KEYS[key] end
  for i = 1, nl do
    key = key + 1
    local log, delay = read_log(KEYS[key], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
    p.log[i] = log
    ask(p, delay)
    at = at + 4
  end
  p.timed = p.wait -- what time alone brings
  if p.limit > 0 then
    p.used = call('ZCOUNT', p.l, '(' .. int(now), '+inf')
    ask(p, p.used >= p.limit and tonumber(ARGV[p.at - 2]) or 0)
  end
  if ARGV[p.at - 1] == '1' then
    p.w, p.f = KEYS[key + 1], KEYS[key + 2]
    key = key + 2
    lined[#lined + 1], lines[#lines + 1] = p, p.f
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
        tat = max(tat, p.w and now - late or now)
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

-- ---- the lines ----

-- It has to wait, or others do. All of this is made here, so that nobody else pays for it.
local function stand_in_line(waits)
  local HOLD, UNTOLD = 2000000, 1000000 -- UNTOLD: a place may come free that nobody tells of: whose it was knew of no such limit when it began

  local function price(p) -- in its line; microseconds
    local most = 1
    for _, charge in ipairs(p.charge) do most = max(most, charge) end
    return most
  end

  local function pace(p) -- between two grants, as far as the limits say it; microseconds
    return max(price(p), p.limit > 0 and tonumber(ARGV[p.at - 2]) or 0)
  end

  local function next_lease_end(p) -- when a place comes free at the latest that its holder has died with
    local first = p.l and call('ZRANGEBYSCORE', p.l, '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1) or {}
    return first[2] and max(tonumber(first[2]) - now, 1000) or 0
  end

  local function waits_in(p, d)
    wait, bound = d, p.bound
    return 3
  end

  local function own_turn(p) -- it is called, and does not fit: when it may
    local place = p.limit > 0 and p.used >= p.limit
    local d = max(p.timed, place and math.min(next_lease_end(p), UNTOLD) or 0, 1)
    p.line.stay(d, place and 'p' or '')
    return waits_in(p, d)
  end

  local function leave_all()
    local all = {}
    for i, p in ipairs(lined) do all[i] = p.line end
    leave_lines(all, id)
  end

  local up, model = lined[#lined], #lined > 1 and lined[1] or nil

  -- nil: it is called at once. `first`: before all of its class there.
  local function join(p, place, first)
    local need, sure, told, other = p.wait, p.timed, p.bound, nil
    if p == model and place.limit >= max(sure, 1) and p.line.is_next(id) then
      p.line.come_next(id, place, pace(p))
      if p.line.is_head(id) then return nil end
      return waits_in(p, 0)
    end
    if p == up and model then
      sure = max(sure, model.timed)
      local there = max(model.wait, place.waited and place.limit > 0 and 0 or model.line.behind(place, pace(model)))
      if there > 0 then there = there + pace(up) end -- it is next here then
      if there > need then need, told = there, model.bound end
      other = {line = model.line, price = price(model)}
    end
    local answer, estimate = p.line.join(id, place, price(p), need, sure, pace(p), first or place.front, other)
    if answer == 'in' then
      if p.line.is_head(id) then return nil end
      return waits_in(p, 0)
    end
    leave_all()
    wait, bound = max(estimate, 1), estimate > need and p.bound or told
    return answer == 'full' and 4 or 0
  end

  local function last_time(p, place) -- it has waited as long as it may, and does not fit now: it leaves, and learns how long it would be
    leave_all()
    return join(p, place)
  end

  local function rhythm(p) return p.line.rhythm(pace(p)) end

  -- It is the head of `p` and has room there, but not yet in `other`, where it waits as well. `p` stands for it only where it takes turns more slowly than `other`, so that it
  -- loses less than one, and no two can wait for each other; and not for longer than HOLD. How long yet; 0 or less: others are called.
  local function may_stand(p, other, limit)
    if rhythm(p) < rhythm(other) or (p == up and rhythm(p) == rhythm(other)) then return 0 end
    return p.line.hold(math.min(limit, max(HOLD, 2 * rhythm(other)) - other.line.next_waits()))
  end

  local function wait_on(p, left) -- in `p`, and look again when nobody waits for it any more elsewhere
    if p.line.is_head(id) then own_turn(p) else waits_in(p, 0) end
    if left > 0 then wait = math.min(wait > 0 and wait or left, left, UNTOLD) end
    return 3
  end

  local function at_model(place) -- it waits there; nil: it has room in both
    local stands = up.line.is_head(id) -- for it
    local left = stands and up.wait == 0 and up.line.left() or 0
    if not model.line.is_head(id) then
      if stands and left <= 0 then up.line.granted() end
      return wait_on(model, left)
    elseif model.wait > 0 then
      if left <= 0 then up.line.leave(id) end
      return wait_on(model, left)
    end
    if not up.line.has(id) and (up.wait > 0 or up.line.total() > 0) then
      if place.limit == 0 then return last_time(up, place) end
      up.line.come_next(id, place, pace(up))
    end
    if not up.line.has(id) or (up.line.is_head(id) and up.wait == 0) then return nil end
    left = may_stand(model, up, place.limit)
    if left <= 0 then model.line.give_way(id, place) end
    return wait_on(up, left)
  end

  -- Its turn at the upstream, which has room, and its model has none: it waits there by its ticket, and the upstream stands for it if that costs it less than a turn, by what is
  -- known: when time alone brings the model's room, how long its turns take, and how long none came now.
  local function step_aside(place)
    local turn = max(rhythm(model), model.line.idle())
    local soon = max(model.wait, model.line.until_turn(id, place) * turn) <= rhythm(up)
    local left = soon and may_stand(up, model, place.limit) or 0
    if left <= 0 then up.line.granted() end
    local verdict = join(model, place, true)
    if verdict == 3 and left > 0 then wait = math.min(left, UNTOLD) end
    return verdict, true
  end

  -- It waits for the upstream first, and for its model when it finds that full. Who is called in the one while it waits in the other does not wait for long as its head (may_stand).
  local function find_line(place)
    if model and model.line.has(id) then
      local verdict = at_model(place)
      if verdict then return verdict end
    elseif up.line.is_head(id) and up.wait == 0 and model and
      (model.wait > 0 or (model.line.total() > 0 and not model.line.is_next(id))) then
      return step_aside(place)
    end
    if up.line.is_head(id) then
      if up.wait > 0 then return own_turn(up) end
    elseif up.line.has(id) then return waits_in(up, 0)
    elseif model and model.line.is_head(id) then return 1
    elseif up.wait > 0 or up.line.total() > 0 then return join(up, place), true
    elseif model and (model.wait > 0 or model.line.total() > 0) then return join(model, place), true
    end
    return 1
  end
  local function line_up(place)
    for _ = 1, 2 * #lined + 1 do
      local verdict, joined = find_line(place)
      if verdict == 1 then
        for _, p in ipairs(lined) do
          if p.line.is_head(id) then
            late = math.min(p.line.lateness(), place.credit)
            p.line.granted()
          elseif p == model then p.line.cancel(id)
          end
        end
      end
      if verdict == 3 and place.limit == 0 then return last_time(up.line.has(id) and up or model, place) end
      if verdict or not joined then return verdict end
    end
  end

  local tenant, group, lane, limit, credit, front, waited = ARGV[5]:match('^(%S+) (%d+) (%d+) (%d+) (%d+) (%d) (%d)$')
  local own = 0 -- of limits that have no line
  for s = 1, scopes do
    if not scope[s].w then own = max(own, scope[s].wait) end
  end
  if not waits and (limit == '0' or own > 0) then return 0 end
  for _, p in ipairs(lined) do
    p.line = line_open(p.w, p.f, now, rule)
    p.line.look(id)
    if p.line.has(id) then p.line.visit() end
  end
  local verdict = 0
  if own > 0 then leave_all()
  else
    verdict = line_up({tenant = tenant, group = tonumber(group), lane = tonumber(lane), limit = tonumber(limit), credit = tonumber(credit),
      front = front == '1', waited = waited == '1'})
  end
  for _, p in ipairs(lined) do p.line.save() end
  return verdict
end

local function find_verdict()
  local waits = #lines > 0 and call('EXISTS', unpack(lines)) > 0
  if not waits and (wait == 0 or rule == '') then return wait > 0 and 0 or 1 end
  return stand_in_line(waits)
end

local verdict
if ends then verdict, wait, bound = 1, 0, 0 else verdict = find_verdict() end
if not ends and verdict == 1 then
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
