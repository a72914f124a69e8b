#!lua name=examples
-- SPDX-License-Identifier: Apache-2.0
-- table_examples.lua - the functions of examples/ that bench/table_examples.py measures, for Redis. Values come as text from
-- redis.call(); struct.unpack takes numbers out of it, many at a time where Lua's stack has room for them.

local UNPACKED_MAX = 200
local formats = {}

-- The numbers of a list, in chunks: calls visit(id) for each.
local function each(list, visit)
  local count = #list / 4
  for from = 0, count - 1, UNPACKED_MAX do
    local now = math.min(UNPACKED_MAX, count - from)
    formats[now] = formats[now] or '<' .. string.rep('I4', now)
    local ids = {struct.unpack(formats[now], list, from * 4 + 1)}
    for i = 1, now do visit(ids[i]) end
  end
end

local function friends(id)
  return redis.call('GET', string.format('%.0f', id)) or ''
end

local function reach(keys, args)
  local start = tonumber(keys[1])
  local met, ring, rings = {[start] = true}, {start}, {}
  for hop = 1, tonumber(args[1]) do
    local nearest = {}
    for _, id in ipairs(ring) do
      each(friends(id), function(friend)
        if not met[friend] then
          met[friend] = true
          nearest[#nearest + 1] = friend
        end
      end)
    end
    rings[hop], ring = #nearest, nearest
  end
  return rings
end

local function suggest(keys, args)
  local who, known, shared, strangers = tonumber(keys[1]), {}, {}, {}
  known[who] = true
  local own = friends(who)
  each(own, function(friend) known[friend] = true end)
  each(own, function(friend)
    each(friends(friend), function(stranger)
      if not known[stranger] then
        if shared[stranger] then
          shared[stranger] = shared[stranger] + 1
        else
          shared[stranger] = 1
          strangers[#strangers + 1] = stranger
        end
      end
    end)
  end)
  table.sort(strangers, function(a, b)
    if shared[a] ~= shared[b] then return shared[a] > shared[b] end
    return a < b
  end)
  local best = {}
  for i = 1, math.min(tonumber(args[1]), #strangers) do best[i] = {strangers[i], shared[strangers[i]]} end
  return best
end

-- Of the orders ARGV[1] to ARGV[2] in state 1 or 2: region, count, sum, least and greatest amount.
local function totals(keys, args)
  local groups, order = {}, {}
  for id = tonumber(args[1]), tonumber(args[2]) do
    local bytes = redis.call('GETRANGE', string.format('%.0f', id), 16, 31)
    if #bytes == 16 then
      local amount, region, state = struct.unpack('<dI4I4', bytes)
      if state >= 1 and state <= 2 then
        local group = groups[region]
        if not group then
          group = {region, 0, 0, amount, amount}
          groups[region], order[#order + 1] = group, group
        end
        group[2], group[3] = group[2] + 1, group[3] + amount
        if amount < group[4] then group[4] = amount end
        if amount > group[5] then group[5] = amount end
      end
    end
  end
  table.sort(order, function(a, b) return a[1] < b[1] end)
  return order
end

-- Weights as numbers, kept from call to call as long as their bytes are the same.
local unpacked = {}
local function layer(key)
  local bytes = redis.call('GET', key)
  local kept = unpacked[key]
  if not kept or kept.bytes ~= bytes then
    kept = {bytes = bytes}
    for at = 1, #bytes, 4 do kept[#kept + 1] = struct.unpack('<f', bytes, at) end
    unpacked[key] = kept
  end
  return kept
end

local function classify(keys, args)
  local layers, classes = {}, {}
  for i, key in ipairs(keys) do layers[i] = layer(key) end
  for n, name in ipairs(args) do
    local image = redis.call('GET', name)
    local given = {string.byte(image, 1, #image)}
    for i = 1, #given do given[i] = given[i] / 255 end
    for number, weights in ipairs(layers) do
      local out, at, inputs = {}, 1, #given
      for output = 1, #weights / (inputs + 1) do
        local sum = weights[at]
        for i = 1, inputs do sum = sum + weights[at + i] * given[i] end
        at = at + inputs + 1
        out[output] = (number == #layers or sum > 0) and sum or 0
      end
      given = out
    end
    local best = 1
    for i = 2, #given do if given[i] > given[best] then best = i end end
    classes[n] = best - 1
  end
  return classes
end

local flags = {'no-writes'}
redis.register_function{function_name = 'reach', callback = reach, flags = flags}
redis.register_function{function_name = 'suggest', callback = suggest, flags = flags}
redis.register_function{function_name = 'totals', callback = totals, flags = flags}
redis.register_function{function_name = 'classify_stored', callback = classify, flags = flags}
