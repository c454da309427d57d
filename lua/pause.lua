#!lua flags=allow-oom
-- No worker is to call this model of a target for a while: its provider said when to come again. Only ever extends.
--
-- KEYS   [1] w HASH: 'm' + model -> until when; v = a number that grows with each change, so that who knows it need not read the others
-- ARGV   now ('' = Redis' clock; tests give it) | the breaker's name, for who listens | model | how long, microseconds | the longest that is taken | how many
--        models at most: beyond, the one that ends first goes
-- Reply  {1 = longer than what stood | 0, now, how long it stands}
--
-- Atomic: everything. Full memory does not stop it (allow-oom): it is small and bounded. Expires: with the longest pause, and a second.
-- Calls: TIME HMGET; extends: HSET PEXPIRE PEXPIRE PUBLISH; a new model: HLEN, and when there are too many: HGETALL HDEL.
local call, look, min = redis.call, redis.pcall, math.min
-- part: clock
local name, model, most, room = ARGV[2], ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
local length = min(tonumber(ARGV[4]), most)

local function int(x) return string.format('%d', x) end
local function number(x) -- what it counts on to grow by one must be below 2^53; what anybody else has written is none
  x = tonumber(x or nil)
  return x and x >= 0 and x < 2 ^ 53 and x or 0
end

local r = look('HMGET', KEYS[1], 'm' .. model, 'v')
if r.err then call('DEL', KEYS[1]); r = {} end
local stands = min(number(r[1]), now + most) -- beyond that nobody says it: the clock was set back
if stands >= now + length then return {0, now, stands - now} end

local function make_room()
  local all, gone, first, first_at = call('HGETALL', KEYS[1]), {}, nil, math.huge
  for i = 1, #all, 2 do
    local at = number(all[i + 1])
    if all[i] == 'v' then -- no model
    elseif at <= now then
      gone[#gone + 1] = all[i]
    elseif at < first_at then
      first, first_at = all[i], at
    end
  end
  if #gone == 0 then gone[1] = first end
  for i = 1, #gone, 1000 do call('HDEL', KEYS[1], unpack(gone, i, min(#gone, i + 999))) end
end

if not r[1] and call('HLEN', KEYS[1]) > room then make_room() end
call('HSET', KEYS[1], 'm' .. model, int(now + length), 'v', int(math.max(number(r[2]) + 1, now)))
local keep = int(math.ceil(length / 1000) + 1000)
if call('PEXPIRE', KEYS[1], keep, 'GT') == 0 then call('PEXPIRE', KEYS[1], keep, 'NX') end
call('PUBLISH', 'sluice:b', string.format('p %d %d ', length, #model) .. model .. name)
return {1, now, length}
