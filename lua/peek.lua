#!lua flags=no-writes
-- Tells what lies in the limits of one scope, as lua/admit would report it at this moment, and changes nothing.
--
-- KEYS   [1] ZSET: the scope's leases | q HASH of buckets, if there are any | one HASH per log
-- ARGV   now ('' = Redis' clock; tests give it) | the scope's rows as lua/admit takes them, of which names, holds and C
--        are read
-- Reply  {now, backlog per bucket, sum and time until empty per log, places used if C > 0}
--
-- no-writes: Redis holds it to that, and runs it when it is full, too. No allow-stale: what a replica that lost its master
-- remembers is not what admit would say.
-- Atomic: everything. Expires: nothing. Calls: TIME; HMGET; 1 per log (2 when slices fall out); ZCOUNT.
local call, max = redis.call, math.max
-- part: clock

local function int(x) return string.format('%d', x) end

local function read_log(key, hold)
  local r = call('HMGET', key, 'sum', 'lo', 'hi', 'due', 'last')
  local sum, lo, hi, due, newest = tonumber(r[1] or 0), tonumber(r[2] or 0), tonumber(r[3] or -1), tonumber(r[4] or 0), tonumber(r[5] or 0)
  if lo > hi then return sum, 0 end
  if now >= due then
    local names, alive = {}, false
    for i = lo, hi do names[#names + 1] = int(i) end
    for _, value in ipairs(call('HMGET', key, unpack(names))) do
      if value then
        local last, n = value:match('^(%d+) (%d+)$')
        alive = last + hold > now
        if alive then break end
        sum = sum - n
      end
    end
    if not alive then return sum, 0 end
  end
  return sum, max(newest + hold - now, 0)
end

local buckets, logs, places = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local reply, at, key = {now}, 7, 1
if buckets > 0 then
  key = key + 1
  for _, tat in ipairs(call('HMGET', KEYS[key], unpack(ARGV, at, at + buckets - 1))) do
    reply[#reply + 1] = max(tonumber(tat or 0) - now, 0)
  end
  at = at + 3 * buckets
end
for i = 1, logs do
  reply[#reply + 1], reply[#reply + 2] = read_log(KEYS[key + i], tonumber(ARGV[at + 2]))
  at = at + 4
end
if places > 0 then reply[#reply + 1] = call('ZCOUNT', KEYS[1], '(' .. int(now), '+inf') end
return reply
