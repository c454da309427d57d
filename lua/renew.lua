#!lua flags=allow-oom
-- Renews many leases of one set.
--
-- KEYS   [1] ZSET: id -> when the lease ends; negative: a tombstone
-- ARGV   now ('' = Redis' clock) | lease, microseconds | ids, at most 1000
-- Reply  how many of them Redis did not know
--
-- A lease that Redis does not know is written again: a Redis that came back empty, or that nobody could reach for a
-- while, must not end every stream of the fleet. A tombstone stays one: its call was settled, and this renewal is late.
-- GT: a late one never shortens a lease. A late renewal that finds no tombstone would cost a place for one lease; so the
-- caller lets settle leave one whenever a renewal is unanswered.
-- Atomic: everything. Expires: lease + 60 s. Calls: TIME ZMSCORE ZADD PEXPIRE.
-- part: clock
local lease, ends, unknown = tonumber(ARGV[2]), nil, 0
ends = string.format('%d', now + lease)
local add = {}
for i, score in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 3))) do
  if not score then unknown = unknown + 1 end
  if not score or tonumber(score) >= 0 then
    add[#add + 1] = ends
    add[#add + 1] = ARGV[i + 2]
  end
end
if #add > 0 then
  redis.call('ZADD', KEYS[1], 'GT', unpack(add))
  redis.call('PEXPIRE', KEYS[1], string.format('%d', math.ceil((lease + 60000000) / 1000)))
end
return unknown
