#!lua flags=allow-oom
-- Settles one attempt, exactly once: ends its lease, gives back what it did not use, charges what it used beyond its
-- reservation. Or gives up its place in a line.
--
-- KEYS   [1] ZSET: the proof, as in admit; then the other scopes' sets of leases; then one HASH of buckets (q) per
--        scope that has any to change; then one HASH per log; then the w and f of each line in which
--        something comes free, or it may stand
-- ARGV   now ('' = Redis' clock) | id | lease | again (1: a settle of this id was sent before, without trace) | trace (1:
--        something sent for this id was never answered) | reserved at ('' = the answer to admit was lost; 'waits' = it surely was not admitted)
--        | number of other lease sets | number of q | number of logs | line, as in admit
--        then for each q: nb, nb times (field, change, roof); for each log: change, hold, width; for each line what comes free there: 1 = a
--        place, 2 = of what was charged, 3 = both, 0 = nothing
--        change = charge of the true use - charge reserved; roof = capacity + period: the furthest a debt can go
-- Reply  {1 = settled now | 0 = nothing was open, now, the debt forgiven per bucket in microseconds}
--
-- What is known of the id decides. It is in one of three states:
--   lease      Open: settle it. It becomes nothing, or a tombstone if a stray command for it may still come (again,
--              trace, answer lost). The other sets follow: a stray renewal must not bring a place back there either.
--   tombstone  Done already, or never to be admitted: nothing happens. Twice is once.
--   nothing    `again`, or reservation unknown: it is done already, or admit has not come yet: leave a tombstone
--              (60 s), which admit will find. Else we know that it was admitted and never settled, so its lease ended
--              and was removed while the call lived on, or was to be brought by a renewal (no renewal came through):
--              settle it all the same, and leave a tombstone for the repeats. Only when that first settle is lost too,
--              and had no trace, do the charges stay as reserved.
--   waiting    Only its place is given up; nothing was charged, and nothing that was sent for it can come any more.
-- Lines    It waits nowhere from then on, whatever state it was in; and who is called where something came free is told.
-- Refund   Subtracts, and stops at full. A reservation older than the last moment the bucket was full gives nothing
--          back: that has refilled already. In a log it goes to its own slice, if that still counts.
-- Overrun  Becomes debt, at most one period. In a log it counts from now, and nothing is forgiven.
--
-- Atomic: everything. Full memory does not stop it (allow-oom): a refund that is refused leaks. Expires as in admit.
-- Calls: TIME, ZSCORE; ZREM (or ZADD PEXPIRE) per lease set; HMGET HSET PEXPIRE per q; at most 5 per log; EXISTS of all lines.
-- part: line
local call, floor, max = redis.call, math.floor, math.max
-- part: clock
local id, lease, again, trace, reserved = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5] == '1', tonumber(ARGV[6])
local sets, groups, logs, rule = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]

local function int(x) return string.format('%d', x) end
local function expire(key, us, ...) return call('PEXPIRE', key, int(math.ceil(us / 1000)), ...) end

local function change_lines(open) -- they are the last of KEYS, and what comes free there the last of ARGV
  local lines, f = (#KEYS - 1 - sets - groups - logs) / 2, {}
  for i = 1, lines do f[i] = KEYS[#KEYS - 2 * (lines - i)] end
  if lines == 0 or call('EXISTS', unpack(f)) == 0 then return end
  local all = {}
  for i = 1, lines do all[i] = line_open(KEYS[#KEYS - 2 * (lines - i) - 1], f[i], now, rule) end
  local waited = leave_lines(all, id)
  for i, line in ipairs(all) do
    local free = tonumber(ARGV[#ARGV - lines + i])
    if open and not waited then line.free(free % 2 == 1, free >= 2) end
    line.look()
    line.save()
  end
end

if ARGV[6] == 'waits' then
  change_lines(false)
  return {0, now}
end
local ends = tonumber(call('ZSCORE', KEYS[1], id) or nil)
if ends and ends < 0 then return {0, now} end

local open = ends or (reserved and not again)
local clean = ends and reserved and not again and not trace -- nothing that was sent for it can still come
for i = 1, 1 + sets do
  if clean then
    call('ZREM', KEYS[i], id)
  else
    call('ZADD', KEYS[i], '-' .. int(now + 60000000), id)
    expire(KEYS[i], lease + 60000000)
  end
end
if not open then
  change_lines(false)
  return {0, now}
end
reserved = reserved or ends - lease -- a lease whose admission was never answered was never renewed

local reply, at, key = {1, now}, 11, 1 + sets

local function change_bucket(set, name, tat, full, change, roof) -- returns the new tat, or nil when nothing changes
  if tat <= now then tat, full = now, now end
  local forgiven, new = 0, nil
  if change > 0 then
    new = tat + change
    local top = max(tat, now + roof)
    if new > top then new, forgiven = top, new - top end
    if full == now then set[#set + 1] = name .. ':f'; set[#set + 1] = int(now) end
  elseif change < 0 and tat > now and reserved >= full then
    new = tat + change
    if new <= now then
      new = now
      set[#set + 1] = name .. ':f'; set[#set + 1] = int(now)
    end
  end
  if new then set[#set + 1] = name; set[#set + 1] = int(new) end
  reply[#reply + 1] = forgiven
  return new
end

for _ = 1, groups do
  key = key + 1
  local q, nb, names, set, latest = KEYS[key], tonumber(ARGV[at]), {}, {}, now
  for i = 1, nb do
    local name = ARGV[at + 3 * i - 2]
    names[2 * i - 1], names[2 * i] = name, name .. ':f'
  end
  local r, fresh = call('HMGET', q, unpack(names)), true
  for i = 1, nb do
    if r[2 * i - 1] then fresh = false end
    local new = change_bucket(set, ARGV[at + 3 * i - 2], tonumber(r[2 * i - 1] or 0), tonumber(r[2 * i] or 0),
      tonumber(ARGV[at + 3 * i - 1]), tonumber(ARGV[at + 3 * i]))
    if new then latest = max(latest, new) end
  end
  if #set > 0 then
    call('HSET', q, unpack(set))
    local left = latest - now + 1000000
    if expire(q, left, 'GT') == 0 and fresh then expire(q, left, 'NX') end
  end
  at = at + 1 + 3 * nb
end

local function refund_log(log, change, width) -- to the slice of the reservation
  local slot = int(floor(reserved / width))
  local r = call('HMGET', log, 'sum', 'lo', 'born', slot)
  if not r[4] or reserved < tonumber(r[3]) or tonumber(slot) < tonumber(r[2]) then return end
  local last, n = r[4]:match('^(%d+) (%d+)$')
  local back = math.min(-change, tonumber(n))
  call('HSET', log, slot, last .. ' ' .. int(n - back), 'sum', int(r[1] - back))
end

local function forget(log, lo, hi, hold) -- slices that no longer count: what they held, the first that does and when it falls out
  local names, gone, held = {}, {}, 0
  for i = lo, hi do names[#names + 1] = int(i) end
  local first, due
  for i, value in ipairs(call('HMGET', log, unpack(names))) do
    if value then
      local last, n = value:match('^(%d+) (%d+)$')
      if last + hold > now then first, due = lo + i - 1, last + hold; break end
      held = held + n
      gone[#gone + 1] = names[i]
    end
  end
  if #gone > 0 then call('HDEL', log, unpack(gone)) end
  return held, first, due
end

local function overrun_log(log, change, hold, width) -- to the slice of now
  local slot = floor(now / width)
  local r = call('HMGET', log, 'sum', 'lo', 'hi', 'due', 'last', 'born', int(slot))
  local sum, lo, hi, due = tonumber(r[1] or 0), tonumber(r[2] or 0), tonumber(r[3] or -1), tonumber(r[4] or 0)
  local last, born, here = tonumber(r[5] or 0), tonumber(r[6] or 0), r[7]
  if hi > slot then slot = hi; here = call('HGET', log, int(slot)) end
  if lo <= hi and now >= due then
    local held, first
    held, first, due = forget(log, lo, hi, hold)
    sum = sum - held
    if first then lo = first else hi = -1 end
  end
  if lo > hi then lo, born, here = slot, now, false end
  local n = here and tonumber(here:match(' (%d+)$')) or 0
  last = max(last, now)
  if lo == slot then due = last + hold end
  call('HSET', log, int(slot), int(last) .. ' ' .. int(n + change), 'sum', int(sum + change), 'lo', int(lo), 'hi', int(slot),
    'due', int(due), 'last', int(last), 'born', int(born))
  expire(log, hold + 1000000)
end

for _ = 1, logs do
  key = key + 1
  local change, hold, width = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if change < 0 then refund_log(KEYS[key], change, width) elseif change > 0 then overrun_log(KEYS[key], change, hold, width) end
  at = at + 3
end
change_lines(true)
return reply
