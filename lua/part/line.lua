-- The line of one scope, a model or an upstream: who waits there, in which order, and whose turn it is. No script of its own: the build puts it into those
-- that say "-- part: line" (admit, settle, beat).
--
-- Order   Start-time fair queueing (Goyal, Vin, Cheng 1996), three times over: between groups of models by their shares, in a group between lanes by
--         their weights, in a lane between tenants, evenly. A waiter's price is the largest charge that it makes to a bucket of this scope, in microseconds
--         (1 where there is none). A class is a lane of a group.
-- Turn    One waiter at a time, the first in that order, is called: the head. Its instance then asks admit again, with all its keys, so that all limits
--         are looked at in one step; it takes what it needs, or learns when to come again. Whoever changes the line calls the next.
-- Death   A head that is late is called again; one that comes no more (LATEST), that nobody hears (PUBLISH reached no one), or whose instance has not been
--         seen for AWAY, loses its place, and so do those behind it of the same instance until that is seen again: its beat tells it so, and it asks
--         anew. Nothing was charged for them. LATEST is less than what a strict limit's burst makes good for.
--
-- Aside   Who is called at the upstream and finds its model full waits there from then on, and others are called. When its model has room for it, it is next at
--         the upstream, before all classes: it has had its turn. One of the two lines stands for it until it has its turn in the other, which takes turns more quickly:
--         so that costs less than a turn, and it is not served last by both. The one that does not stand gives way: it is next there, too (admit's may_stand).
-- Ticket  Who waits for the upstream may have to wait for its model as well: it has its place in that order, a tag, from when it comes, and takes it when it
--         steps aside. Till then it is nobody who could be called there, but one whom others come after. Who has none, as the line has begun since or lost
--         it, is before all of its class: they came later.
--
-- w  ZSET  id -> class * 2^47 + start tag, in units of 64 us. The head has been taken out. Class 0 are those who are next, by
--          when they came to be. Of those who have a ticket the same, in the upper half of the classes.
-- f  HASH  There as long as somebody waits. shares, of all groups | head, at (its channel), due (when it is to come), told (last called), needs ('p': a
--          place, which comes free unforeseen; 'l': another line, until it is due)
--          | next: how many are in class 0 | again: 1 = the head was | born | last, spacing: the last turn that was in order, and the time between
--          those on average | V, G<group> "start v", C<class> "start tag waiters": the clocks | e:<id> "till class price channel tenant"
--          | x:<id> "till price tenant", of a ticket | t:<class> <tenant>: where its next one's tag starts | i:<channel>: last seen | s:<channel>: its waiters
--          lose their places
-- Both expire 60 s after they were last looked after; the heart-beats of who waits do that.
-- All of it is made inside line_open, so that a script that finds nobody waiting pays for nothing of it.
-- Disadvantages: a head that needs much holds the line until it fits. The order is between those who wait; who was called and lost its turn starts over.
local function line_open(w, f, now, rule)
  local call, max = redis.call, math.max
  local CLASS, TICKETS, UNIT, AWAY, LATE, LATEST, PRICIEST = 2 ^ 47, 32, 64, 1500000, 50000, 200000, 2 ^ 28
  local word, weight, share = {}, {}, {}
  for one in rule:gmatch('%S+') do word[#word + 1] = one end
  local me, depth = word[1], tonumber(word[2])
  for k = 1, 3 do weight[k] = tonumber(word[2 + k]) end
  local shares = rule:match('^%S+ %S+ %S+ %S+ %S+ (.*)$')

  local function int(x) return string.format('%.0f', x) end
  local function exact(x) return string.format('%.17g', x) end

  -- Others may know of more groups, as a change goes through the fleet: theirs are served too.
  local known = call('HGET', f, 'shares') or ''
  local _, theirs = known:gsub('%S+', '')
  if theirs > #word - 5 then shares = known end
  for one in shares:gmatch('%S+') do share[#share + 1] = tonumber(one) end

  local names = {'head', 'at', 'due', 'needs', 'born', 'last', 'spacing', 'V', 'told', 'shares', 'next', 'again'}
  for g = 1, #share do
    names[#names + 1] = 'G' .. g
    for k = 1, 3 do names[#names + 1] = 'C' .. (3 * g - 3 + k) end
  end
  local r = call('HMGET', f, unpack(names))
  local head, at, due, needs = r[1] or '', r[2] or '', tonumber(r[3] or 0), r[4] or ''
  local born, last, spacing, V = tonumber(r[5] or now), tonumber(r[6] or now), tonumber(r[7] or 0), tonumber(r[8] or 0)
  local told, again = tonumber(r[9] or 0), r[12] == '1'
  local group, class, seen, fresh, dirty, visited = {}, {[0] = {n = tonumber(r[11] or 0)}}, {}, not r[5], false, false
  for g = 1, #share do
    local i, one = 4 * g + 9, {start = 0, v = 0}
    if r[i] then
      local start, v = r[i]:match('^(%S+) (%S+)$')
      one.start, one.v = tonumber(start), tonumber(v)
    end
    group[g] = one
    for k = 1, 3 do
      local start, tag, n = (r[i + k] or '0 0 0'):match('^(%S+) (%S+) (%S+)$')
      class[3 * g - 3 + k] = {start = tonumber(start), tag = tonumber(tag), n = tonumber(n)}
    end
  end

  local function waiters(g)
    local c = 3 * g - 3
    return class[c + 1].n + class[c + 2].n + class[c + 3].n
  end
  local function total()
    local n = class[0].n + (head ~= '' and 1 or 0)
    for g = 1, #share do n = n + waiters(g) end
    return n
  end
  local function parts(c) return math.ceil(c / 3), (c - 1) % 3 + 1 end -- its group, its lane

  local function entry(id)
    local text = call('HGET', f, 'e:' .. id)
    if not text then return nil end
    local till, c, price, channel, tenant = text:match('^(%d+) (%d+) (%d+) (%S+) (%S+)$')
    return {id = id, till = tonumber(till), class = tonumber(c), price = tonumber(price), channel = channel, tenant = tenant}
  end

  local function lives(channel) -- seen of late; it may be hung all the same
    if channel == me then return true end
    if seen[channel] == nil then
      local i, lost = unpack(call('HMGET', f, 'i:' .. channel, 's:' .. channel))
      seen[channel] = i and not lost and now - tonumber(i) < AWAY or false
    end
    return seen[channel]
  end
  local function give_up(channel)
    if channel ~= me and seen[channel] ~= false then call('HDEL', f, 'i:' .. channel) end
    if seen[channel] ~= false then call('HSET', f, 's:' .. channel, 1) end
    seen[channel] = false
  end
  local function tell(channel, id)
    return lives(channel) and call('PUBLISH', channel, 'turn ' .. id) > 0
  end

  local function next_class() -- of the groups, then of its lanes, the one whose clock is behind most
    if class[0].n > 0 then return 0 end
    local g, c
    for i = 1, #share do
      if waiters(i) > 0 and (not g or group[i].start < group[g].start) then g = i end
    end
    for i = 3 * (g or 0) - 2, 3 * (g or 0) do
      if g and class[i].n > 0 and (not c or class[i].start < class[c].start) then c = i end
    end
    return c
  end
  local function take_first(c)
    local first = call('ZRANGEBYSCORE', w, int(c * CLASS), '(' .. int((c + 1) * CLASS), 'WITHSCORES', 'LIMIT', 0, 1)
    if not first[1] then class[c].n = 0; return nil end -- somebody has deleted it under us
    call('ZREM', w, first[1])
    class[c].n = class[c].n - 1
    local e = entry(first[1])
    if e then e.tag = tonumber(first[2]) - c * CLASS end
    return e
  end
  local function advance(e) -- it is served from here on, as far as the clocks go
    if e.class == 0 then return end
    local g, k = parts(e.class)
    local c = class[e.class]
    V, group[g].v = group[g].start, c.start
    group[g].start = V + e.price / share[g]
    c.start, c.tag = c.start + e.price / weight[k], max(c.tag, e.tag)
  end
  local function call_next(id) -- `id` is asking just now and need not be told
    head, at, dirty = '', '', true
    for _ = 1, 64 do
      local c = next_class()
      if not c then return end
      local e = take_first(c)
      if e and e.till > now and (e.id == id or tell(e.channel, e.id)) then
        advance(e)
        head, at, due, told, needs, again = e.id, e.channel, now, now, '', e.class == 0
        return
      end
      if e then
        call('HDEL', f, 'e:' .. e.id)
        if e.till > now then give_up(e.channel) end
      end
    end
  end
  local function next_turn(id)
    call('HDEL', f, 'e:' .. head)
    call_next(id)
  end
  local function take_turn() -- who stood in order has had its turn
    if again then return end
    spacing = spacing + (math.min(now - last, 8 * spacing) - spacing) / 16
    last = now
  end
  local function pass_over(id)
    give_up(at)
    next_turn(id)
  end

  local function score(c, tag) return int(c * CLASS + tag) end
  local tickets
  local function count_tickets()
    tickets = tickets or fresh and 0 or call('ZCOUNT', w, score(TICKETS, 0), '+inf')
    return tickets
  end
  local function count(c, tag) -- in that class, up to that tag; who stands here, and who has a ticket
    local n = class[c].n
    if n > 0 and tag then n = call('ZCOUNT', w, score(c, 0), score(c, tag)) end
    if count_tickets() == 0 then return n end
    return n + call('ZCOUNT', w, score(TICKETS + c, 0), tag and score(TICKETS + c, tag) or '(' .. score(TICKETS + c + 1, 0))
  end
  local function ticket(id) -- its class, its tag, its price, its tenant
    local at = count_tickets() > 0 and tonumber(call('ZSCORE', w, id) or -1) or -1
    local text = at >= TICKETS * CLASS and call('HGET', f, 'x:' .. id)
    if not text then return nil end
    local c, price, tenant = math.floor(at / CLASS) - TICKETS, text:match('^%d+ (%d+) (%S+)$')
    return c, at - (TICKETS + c) * CLASS, tonumber(price), tenant
  end
  local function take_ticket(id)
    local c, tag, price, tenant = ticket(id)
    if c then
      tickets = tickets - call('ZREM', w, id)
      call('HDEL', f, 'x:' .. id)
    end
    return c, tag, price, tenant
  end

  -- How many have their turn before one with `ahead` before it in its class. Of those who wait now, the other lanes and groups by their parts: at least so many.
  -- If others kept coming there: at most so many. A line that has stood for a quarter of what that takes is
  -- reckoned to go on so, a younger one in part.
  local function grants_before(g, k, ahead)
    local expected = {} -- of each class
    for c = 1, #class do expected[c] = count(c) end
    local called, lanes, groups, busy, parts_busy = count(0) + (head ~= '' and 1 or 0), ahead, 0, weight[k], share[g]
    for i = 1, 3 do
      local n = i ~= k and expected[3 * g - 3 + i] or 0
      lanes = lanes + math.min(n, math.ceil((ahead + 1) * weight[i] / weight[k]))
      busy = busy + (n > 0 and weight[i] or 0)
    end
    for i = 1, #share do
      local n = i ~= g and expected[3 * i - 2] + expected[3 * i - 1] + expected[3 * i] or 0
      groups = groups + math.min(n, math.ceil((lanes + 1) * share[i] / share[g]))
      parts_busy = parts_busy + (n > 0 and share[i] or 0)
    end
    local least, most = called + lanes + groups, (called + ahead) * busy / weight[k] * parts_busy / share[g]
    return least + max(most - least, 0) * math.min(4 * max(now - born, 0) / max(most * spacing, 1), 1)
  end

  local function cost(price) return math.min(math.ceil(max(price, 1) / UNIT), PRICIEST) end -- in tags
  local function tenant_field(c, tenant) return 't:' .. c .. ' ' .. tenant end
  local function position(p) -- of one that comes now: its class, its tag
    local c = 3 * p.group - 3 + p.lane
    return c, max(class[c].tag, tonumber(call('HGET', f, tenant_field(c, p.tenant)) or 0))
  end
  local function give_back(c, tenant, price) -- what it did not take, others of its lane and its tenant get
    local field = tenant_field(c, tenant)
    call('HSET', f, field, int(max(class[c].tag, tonumber(call('HGET', f, field) or 0) - price)))
  end

  local line = {}
  function line.total() return total() end
  function line.is_full() return total() + count_tickets() >= depth end
  function line.born() return born end
  function line.waiting(k) -- in that lane, of all groups; without the head
    local n = 0
    for g = 1, #share do n = n + class[3 * g - 3 + k].n end
    return n
  end
  function line.is_whole() -- w holds all whom the clocks count: else somebody has spoilt it, and some are in nobody's order
    local n, held = total() - (head ~= '' and 1 or 0), redis.pcall('ZCOUNT', w, '-inf', '(' .. int(TICKETS * CLASS))
    return held == n
  end
  function line.lateness() return max(now - due, 0) end -- of the head
  function line.is_head(id) return head == id end
  function line.has(id) return head == id or call('HEXISTS', f, 'e:' .. id) == 1 end
  function line.visit() visited = true end -- its instance lives
  function line.return_from_death() -- whether its waiters have lost places
    return call('HDEL', f, 's:' .. me) == 1
  end

  -- Passes over a head that does not come; calls somebody if nobody is called. `well`: also looks whether one that has time yet lives.
  function line.look(id, well)
    if head == '' then
      if total() > 0 then call_next(id) end
    elseif head ~= id and now > due then
      if now - due >= LATEST or not lives(at) then pass_over(id)
      elseif now - max(due, told) >= LATE then
        if tell(at, head) then told, dirty = now, true else pass_over(id) end
      end
    elseif head ~= id and well and not lives(at) then pass_over(id)
    end
  end
  function line.is_called() return head ~= '' end

  function line.behind(p, pace) -- how long one that comes now will wait; `pace`: the time between grants, as far as the limits say it
    return grants_before(p.group, p.lane, count(position(p))) * (spacing > 0 and spacing or pace)
  end

  local function forget_tickets(c) -- of those who did not come, some: the first of the class, who would be next
    for _, id in ipairs(call('ZRANGEBYSCORE', w, score(TICKETS + c, 0), '(' .. score(TICKETS + c + 1, 0), 'LIMIT', 0, 4)) do
      local text = call('HGET', f, 'x:' .. id)
      if not text or tonumber(text:match('^%d+')) <= now then
        tickets = count_tickets() - call('ZREM', w, id)
        call('HDEL', f, 'x:' .. id)
      end
    end
  end
  -- A ticket for one that waits at the upstream first, until p.limit has passed. Who asks anew, as it has lost its place there, has it already.
  function line.reserve(id, p, price)
    if total() == 0 or p.front then return end
    local c, tag = position(p)
    forget_tickets(c)
    forget_tickets(math.floor(now / UNIT) % (#class + 1))
    local mine, _, paid = ticket(id)
    local set = {'x:' .. id, int(now + p.limit) .. ' ' .. int(paid or cost(price)) .. ' ' .. p.tenant}
    if not mine then
      tickets, dirty = count_tickets() + call('ZADD', w, score(TICKETS + c, tag), id), true
      set[3], set[4] = tenant_field(c, p.tenant), int(tag + cost(price))
    end
    call('HSET', f, unpack(set))
  end
  function line.is_next(id) return ticket(id) == 0 end -- it has had its turn here, and waits elsewhere
  function line.rhythm(pace) return spacing > 0 and spacing or pace end -- the time between grants
  function line.idle() return head ~= '' and now - last or 0 end -- how long nobody has had a turn
  function line.until_turn(id, p) -- in grants, for one that comes by its ticket now
    local c, tag = ticket(id)
    if c == 0 then return 1 end
    local own = 3 * p.group - 3 + p.lane
    return grants_before(p.group, p.lane, c == own and count(c, tag) - 1 or 0) + 1
  end
  function line.cancel(id) -- it does not come here any more
    local c, _, price, tenant = take_ticket(id)
    if c and c > 0 then give_back(c, tenant, price) end
  end

  -- Takes a place, by its ticket if it has one. 'in', or 'late' and 'full', where nothing is taken; and how long the wait will be, as far as that can be told: `need` at least,
  -- of which `sure` is no estimate. `first`: before all of its class, as it was called once already and waits for something else now. `other`: the line where it
  -- has a ticket from then on, and its price there.
  function line.join(id, p, price, need, sure, pace, first, other)
    local c, tag = position(p)
    local mine, g = class[c], group[p.group]
    local field, finish = tenant_field(c, p.tenant), tag
    if spacing == 0 then spacing = max(pace, 1) end
    price = cost(price)
    local had, place, paid = take_ticket(id)
    local reserved = had == c
    if reserved then tag = place elseif first then tag = mine.tag end
    local ahead = count(c, tag)
    local before = grants_before(p.group, p.lane, ahead)
    local wait = math.ceil(max(need, before * spacing))
    -- Behind several it takes a sixteenth more, for others come who have their turn before it. Who was let in is not turned out by an estimate.
    local late = p.limit == 0 or (p.waited and sure or max(wait, ahead > 0 and before * spacing * 17 / 16 or 0)) > p.limit
    if late or (not p.waited and (line.is_full() or other and other.line.is_full())) then
      if reserved then give_back(c, p.tenant, paid) end
      return late and 'late' or 'full', wait
    end
    if other then other.line.reserve(id, p, other.price) end
    if waiters(p.group) == 0 then g.start = max(g.start, V) end
    if mine.n == 0 then mine.start = max(mine.start, g.v) end
    if fresh then call('DEL', w) end -- of a line whose clocks somebody has deleted
    mine.n, fresh, dirty, visited = mine.n + 1, false, true, true
    call('ZADD', w, score(c, tag), id)
    call('HSET', f, 'e:' .. id, table.concat({int(now + p.limit), c, int(price), me, p.tenant}, ' '),
      field, int(max(finish, reserved and 0 or finish + price)))
    line.look(id)
    return 'in', wait
  end

  function line.stay(d, what) -- the head does not fit yet
    due, needs, dirty = now + d, what, true
  end
  function line.hold(d) -- the head fits, and waits elsewhere: how long it may do so as the head, of d
    if needs ~= 'l' then line.stay(d, 'l') end
    return due - now
  end
  function line.left() return needs == 'l' and due - now or 0 end -- of that
  function line.give_way(id, p) -- the head fits, and waits elsewhere: others are called, and it has a ticket, as one who is next
    call('HDEL', f, 'e:' .. id)
    tickets = count_tickets() + call('ZADD', w, score(TICKETS, math.floor(now / UNIT)), id)
    call('HSET', f, 'x:' .. id, int(now + p.limit) .. ' 0 ' .. p.tenant)
    call_next()
  end
  function line.granted() -- to the head
    take_turn()
    next_turn()
  end
  function line.come_next(id, p, pace) -- it has had its turn here, and has room elsewhere now
    if spacing == 0 then spacing = max(pace, 1) end
    if fresh then call('DEL', w) end
    take_ticket(id)
    class[0].n, fresh, dirty, visited = class[0].n + 1, false, true, true
    call('ZADD', w, int(math.floor(now / UNIT)), id)
    call('HSET', f, 'e:' .. id, table.concat({int(now + p.limit), 0, 1, me, p.tenant}, ' '))
    line.look(id)
  end
  function line.next_waits() -- how long the first of those has been next who are; as the head since it was called
    local first = class[0].n > 0 and call('ZRANGEBYSCORE', w, 0, '(' .. int(CLASS), 'WITHSCORES', 'LIMIT', 0, 1) or {}
    return max(first[2] and now - first[2] * UNIT or 0, head ~= '' and again and now - told or 0)
  end
  function line.leave(id) -- who waited here, if it did
    local e = entry(id)
    if not e then
      if head == id then call_next() end -- it had begun to, when something failed
      return nil
    end
    local of = class[e.class]
    call('HDEL', f, 'e:' .. id)
    if e.class > 0 then give_back(e.class, e.tenant, e.price) end
    dirty = true
    if head == id then
      if e.class > 0 then
        local g, k = parts(e.class)
        group[g].start, of.start = group[g].start - e.price / share[g], of.start - e.price / weight[k]
      end
      call_next()
    elseif call('ZREM', w, id) == 1 then
      of.n = of.n - 1
    end
    return e
  end
  function line.free(place, refund) -- something came free unforeseen: the head may fit sooner than it thinks
    if head == '' or needs == 'l' or not (refund or (place and needs == 'p')) then return end
    if not tell(at, head) then pass_over() elseif due > now then due, told, dirty = now, now, true end
  end

  function line.save()
    if total() == 0 then
      if dirty then call('DEL', f, w) end
      return
    end
    local set = visited and {'i:' .. me, int(now)} or {}
    if dirty then
      local values = {head, at, int(due), needs, int(born), int(last), exact(spacing), exact(V), int(told), shares, int(class[0].n), again and 1 or 0}
      for i = 1, #values do set[#set + 1] = names[i]; set[#set + 1] = values[i] end
      for g = 1, #share do
        set[#set + 1] = 'G' .. g; set[#set + 1] = exact(group[g].start) .. ' ' .. exact(group[g].v)
        for c = 3 * g - 2, 3 * g do
          set[#set + 1] = 'C' .. c
          set[#set + 1] = exact(class[c].start) .. ' ' .. int(class[c].tag) .. ' ' .. int(class[c].n)
        end
      end
    end
    if #set == 0 then return end
    call('HSET', f, unpack(set))
    call('PEXPIRE', f, 60000)
    call('PEXPIRE', w, 60000)
  end
  return line
end

-- Leaves all of them, the upstream's, which is the last, first; and what it has a ticket for. Whether it waited anywhere.
local function leave_lines(lines, id)
  local waited = false
  for i = #lines, 1, -1 do
    local left = lines[i].leave(id) ~= nil
    if i < #lines and not left then lines[i].cancel(id) end
    waited = waited or left
  end
  return waited
end
