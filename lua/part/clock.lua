local now = tonumber(ARGV[1]) -- which tests give; else Redis' clock
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
