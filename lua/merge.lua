#!lua
-- Charges what one worker admitted in one scope without Redis, once: quotas are debts, but never more than an empty
-- bucket.
--
-- KEYS   [1] ZSET: the scope's leases, where a tombstone of this call's id says that it was done; then, if there are
--        buckets, one HASH (q); then one HASH per log
-- ARGV   now ('' = Redis' clock) | id | lease | number of buckets | that many times (field, charge, capacity)
--        | number of logs | that many times (hold, width, n, n times (age, tokens))
-- Reply  {1 = charged | 0 = it was before, now}
--
-- Bucket   As in admit, whether it fits or not; but it goes no further than empty: what was admitted meanwhile would
--          otherwise be paid twice, by those who wait now.
-- Log      Each sum goes to the slice of its time, if that still counts: it falls out when it would have.
-- A call whose answer was lost is repeated with the same id: the tombstone lives 60 s.
--
-- Atomic: everything. Expires as in admit.
-- Calls: TIME ZSCORE ZADD PEXPIRE; HMGET HSET PEXPIRE per q (one more for a fresh one); HMGET twice, HSET, PEXPIRE per log.
local call, floor, max, min = redis.call, math.floor, math.max, math.min
-- part: clock
local id, lease, nb, at, key = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), 5, 1

local function int(x) return string.format('%d', x) end
local function expire(name, us, ...) return call('PEXPIRE', name, int(math.ceil(us / 1000)), ...) end

if call('ZSCORE', KEYS[1], id) then return {0, now} end

-- All is read before anything is written: a key of another type must not leave a tombstone and no charge.
local names, tats = {}, {}
if nb > 0 then
  key = key + 1
  for i = 1, nb do names[i] = ARGV[at + 3 * i - 3] end
  tats = call('HMGET', KEYS[key], unpack(names))
end
local buckets, logs = at, {}
at = at + 3 * nb + 1
for i = 1, tonumber(ARGV[at - 1]) do
  key = key + 1
  logs[i] = {key = KEYS[key], at = at, head = call('HMGET', KEYS[key], 'sum', 'lo', 'hi', 'due', 'last', 'born')}
  at = at + 3 + 2 * tonumber(ARGV[at + 2])
end

call('ZADD', KEYS[1], '-' .. int(now + 60000000), id)
expire(KEYS[1], lease + 60000000)

local function charge_buckets(q)
  local set, fresh, latest = {}, true, now
  for i = 1, nb do
    if tats[i] then fresh = false end
    local tat, charge, capacity = tonumber(tats[i] or 0), tonumber(ARGV[buckets + 3 * i - 2]), tonumber(ARGV[buckets + 3 * i - 1])
    if tat <= now then
      set[#set + 1] = names[i] .. ':f'; set[#set + 1] = int(now)
    end
    tat = max(tat, min(max(tat, now) + charge, now + capacity))
    set[#set + 1] = names[i]; set[#set + 1] = int(tat)
    latest = max(latest, tat)
  end
  call('HSET', q, unpack(set))
  local left = latest - now + 1000000
  if expire(q, left, 'GT') == 0 and fresh then expire(q, left, 'NX') end -- GT never touches a key without an expiry
end

local function merge_log(log, hold, width, n)
  local slots, tokens, times = {}, {}, {}
  for i = 1, n do
    local when = now - tonumber(ARGV[log.at + 2 * i + 1])
    if when + hold > now then
      local slot = int(floor(when / width))
      if not tokens[slot] then slots[#slots + 1] = slot; tokens[slot], times[slot] = 0, when end
      tokens[slot] = tokens[slot] + tonumber(ARGV[log.at + 2 * i + 2])
      times[slot] = max(times[slot], when)
    end
  end
  if #slots == 0 then return end
  local r, set = log.head, {}
  local sum, lo, hi, due = tonumber(r[1] or 0), tonumber(r[2] or 0), tonumber(r[3] or -1), tonumber(r[4] or 0)
  local last, born = tonumber(r[5] or 0), tonumber(r[6] or 0)
  local values = call('HMGET', log.key, unpack(slots))
  for i, name in ipairs(slots) do
    local slot, newest, held = tonumber(name), times[name], 0
    if values[i] then
      local l, h = values[i]:match('^(%d+) (%d+)$')
      newest, held = max(newest, tonumber(l)), tonumber(h)
    end
    set[#set + 1] = name; set[#set + 1] = int(newest) .. ' ' .. int(held + tokens[name])
    sum = sum + tokens[name]
    if lo > hi then lo, hi, born, due = slot, slot, newest, newest + hold end
    if slot <= lo then lo, due = slot, newest + hold end
    hi, last = max(hi, slot), max(last, newest)
  end
  call('HSET', log.key, 'sum', int(sum), 'lo', int(lo), 'hi', int(hi), 'due', int(due), 'last', int(last), 'born', int(born), unpack(set))
  expire(log.key, hold + 1000000)
end

if nb > 0 then charge_buckets(KEYS[2]) end
for _, log in ipairs(logs) do merge_log(log, tonumber(ARGV[log.at]), tonumber(ARGV[log.at + 1]), tonumber(ARGV[log.at + 2])) end
return {1, now}
