#!lua flags=allow-oom
-- The leader of a flight tells what has come of its answer, and that it lives; or that it is over.
--
-- KEYS   [1] f HASH: the flight, as in join  [2] s STREAM of this fence: one entry a batch: "h" head | "<offset>" bytes | "e" how it ended
-- ARGV   now ('' = Redis' clock) | fence | lease | the flight's name for hints | end if alone (1: nobody reads along here; if nobody does elsewhere, it is over)
--        | close (1: newcomers cannot join any more; of s only the last entries are kept) | head ('' = told already) | offset of the bytes | bytes
--        | end ('' = it goes on; else what followers are told) | state after the end | how long that state holds
-- Reply  {1 = taken | 0 = not the leader any more | 2 = over: alone, how many workers read along}
--
-- A batch may come twice, when its first answer was lost: readers go by the offset. Nothing is kept for nobody: without readers an end leaves no stream.
-- Atomic: everything. Full memory does not stop it (allow-oom): followers would wait for a leader that lives.
-- Expires: f lease + 10 minutes; after its end 60 s with readers, else with its state, 1 s at least; s 60 s after the last batch's lease. Calls: TIME HGETALL HSET PEXPIRE, (HDEL), XADD up to 3, PEXPIRE or UNLINK, PUBLISH a reader.
local call = redis.call
-- part: clock
local fence, lease, name, alone, close = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1', ARGV[6] == '1'
local head, offset, bytes, ending, after = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]

local function int(x) return string.format('%d', x) end

local f, readers, gone, all = {}, {}, {}, redis.pcall('HGETALL', KEYS[1]) -- of another type: nobody leads
for i = 1, #all, 2 do
  local channel = all[i]:match('^r:(.*)$')
  if not channel then f[all[i]] = all[i + 1]
  elseif (tonumber(all[i + 1]) or 0) > now then readers[#readers + 1] = channel
  else gone[#gone + 1] = all[i] end
end
if f.fence ~= fence or (f.state ~= 'r' and f.state ~= 'c') then return {0, 0} end
if #gone > 0 then call('HDEL', KEYS[1], unpack(gone)) end

if alone and #readers == 0 then
  call('HSET', KEYS[1], 'state', 'a')
  call('PEXPIRE', KEYS[1], '1000')
  call('UNLINK', KEYS[2])
  return {2, 0}
end
local state = ending ~= '' and after or (close and 'c' or f.state)
call('HSET', KEYS[1], 'lease', int(now + lease), 'state', state, 'until', ending ~= '' and int(now + tonumber(ARGV[12])) or '0')
local left = lease / 1000 + 600000
if ending ~= '' then left = #readers > 0 and 60000 or math.max(1000, tonumber(ARGV[12]) / 1000) end -- what nobody needs takes no room
call('PEXPIRE', KEYS[1], int(left))
if ending ~= '' and #readers == 0 then
  call('UNLINK', KEYS[2])
  return {1, 0}
end

local function add(field, value)
  if close then call('XADD', KEYS[2], 'MAXLEN', '64', '*', field, value) else call('XADD', KEYS[2], '*', field, value) end
end
if head ~= '' then add('h', head) end
if bytes ~= '' then add(offset, bytes) end
if ending ~= '' then add('e', ending) end
if head ~= '' or bytes ~= '' or ending ~= '' then
  call('PEXPIRE', KEYS[2], int(lease / 1000 + 60000))
  for _, channel in ipairs(readers) do call('PUBLISH', channel, name) end
end
return {1, #readers}
