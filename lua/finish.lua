#!lua
-- The leader of a flight has its whole answer: it is stored, and those who read along elsewhere get the rest of it.
--
-- KEYS   [1] f HASH: the flight, as in join  [2] v HASH: the stored answer, as in join  [3] s STREAM of this fence, as in append
-- ARGV   now ('' = Redis' clock) | fence | the flight's name for hints | head for readers ('' = told already) | offset of the bytes | bytes | end: what
--        followers are told | how long it is fresh, then stale, then good if the upstream fails, then given to who comes late: each
--        counted from now | head | body | raw | sum
-- Reply  {1 = stored | 0 = not the leader any more, how many workers read along}
--
-- The answer counts as made when its flight began (the fence): a purge in between makes it old.
-- Atomic: everything. Full memory refuses it, and nothing has changed: append then ends the flight without storing.
-- Expires: v with its last time, f 1 s, with readers f and s 60 s. Calls: TIME HGETALL HSET PEXPIRE (EXISTS) HSET (UNLINK HSET) PEXPIRE;
-- with readers: XADD up to 3, PEXPIRE, PUBLISH each; else UNLINK.
local call, max = redis.call, math.max
-- part: clock
local fence, name, head, offset, bytes, ending = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local fresh, stale, failed, late = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local function int(x) return string.format('%d', x) end

local f, readers, all = {}, {}, redis.pcall('HGETALL', KEYS[1]) -- of another type: nobody leads
for i = 1, #all, 2 do
  local channel = all[i]:match('^r:(.*)$')
  if not channel then f[all[i]] = all[i + 1]
  elseif (tonumber(all[i + 1]) or 0) > now then readers[#readers + 1] = channel end
end
if f.fence ~= fence or (f.state ~= 'r' and f.state ~= 'c') then return {0, 0} end

call('HSET', KEYS[1], 'state', 'd')
call('PEXPIRE', KEYS[1], #readers > 0 and '60000' or '1000') -- what nobody needs takes no room
if fresh > 0 or call('EXISTS', KEYS[2]) == 0 then -- an answer for latecomers alone takes no other's place
  local fields = {'made', fence, 'fresh', int(now + fresh), 'stale', int(now + stale), 'error', int(now + failed), 'late', int(now + late),
    'head', ARGV[12], 'body', ARGV[13], 'raw', ARGV[14], 'sum', ARGV[15]}
  if type(redis.pcall('HSET', KEYS[2], unpack(fields))) == 'table' then -- a key of another type is in the way
    call('UNLINK', KEYS[2])
    call('HSET', KEYS[2], unpack(fields))
  end
  call('PEXPIRE', KEYS[2], int(math.ceil(max(fresh, stale, failed, late, 1000) / 1000)))
end
if #readers == 0 then
  call('UNLINK', KEYS[3])
  return {1, 0}
end
if head ~= '' then call('XADD', KEYS[3], '*', 'h', head) end
if bytes ~= '' then call('XADD', KEYS[3], '*', offset, bytes) end
call('XADD', KEYS[3], '*', 'e', ending)
call('PEXPIRE', KEYS[3], '60000')
for _, channel in ipairs(readers) do call('PUBLISH', channel, name) end
return {1, #readers}
