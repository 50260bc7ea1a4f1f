"""The ledger's Lua scripts. Each is one atomic step, so a crash falls between two of them, never inside."""

CREATE = """
-- KEYS: job, jobs · ARGV: id, token, name, value, name, value, ... · the token knows a repeat from a twin
local token = redis.call('HGET', KEYS[1], 'token')
if token then return token == ARGV[2] and 1 or 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local now = redis.call('TIME')
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'state', 'preparing', 'created_s', now[1], 'token', ARGV[2])
redis.call('ZADD', KEYS[2], now[1], ARGV[1])
return 1
"""

TRANSITION = """
-- KEYS: job · ARGV: to, ended (0 or 1), from, from, ... · 1 done, 0 was there already, -1 not allowed
local state = redis.call('HGET', KEYS[1], 'state')
if state == ARGV[1] then return 0 end
for i = 3, #ARGV do
  if state == ARGV[i] then
    redis.call('HSET', KEYS[1], 'state', ARGV[1])
    if ARGV[2] == '1' then
      redis.call('HSET', KEYS[1], 'ended_s', redis.call('TIME')[1])
      redis.call('HDEL', KEYS[1], 'trouble')
    end
    return 1
  end
end
return -1
"""

TROUBLE = """
-- KEYS: job · ARGV: what is in the way · of a job that has ended, or that Redis forgot, nothing is any more
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'complete' or state == 'failed' or state == 'cancelled' or state == 'expired' then return 0 end
redis.call('HSET', KEYS[1], 'trouble', ARGV[1])
return 1
"""

FINISH = """
-- KEYS: job · ARGV: to · 1 done, 0 was there already, -1 not in a state for this, -2 batches to do, -3 counts disagree
local f = redis.call('HMGET', KEYS[1], 'state', 'enumerated', 'batches', 'committed', 'items_listed',
                     'done', 'skipped', 'failed')
if f[1] == ARGV[1] then return 0 end
if f[1] ~= 'preparing' and f[1] ~= 'uploading' and f[1] ~= 'uploaded' then return -1 end
local n = {}
for i = 2, 8 do n[i] = tonumber(f[i] or '0') or 0 end
if n[2] ~= 1 or n[4] < n[3] then return -2 end
if n[6] + n[7] + n[8] ~= n[5] then return -3 end
redis.call('HSET', KEYS[1], 'state', ARGV[1])
return 1
"""

FEED = """
-- KEYS: job, payloads · ARGV: batches expected, items, bytes, cursor, enumerated, n, payload * n
-- 1 done, 0 another feeder was here or Redis forgot: look where it stands, -1 the job takes no more
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'preparing' and state ~= 'uploading' then return -1 end
local batches = tonumber(redis.call('HGET', KEYS[1], 'batches') or '0')
if batches ~= tonumber(ARGV[1]) then return 0 end
local n = tonumber(ARGV[6])
for i = 1, n do
  local payload = ARGV[6 + i]
  if payload ~= '' then redis.call('HSET', KEYS[2], batches + i - 1, payload) end
end
redis.call('HINCRBY', KEYS[1], 'batches', n)
redis.call('HINCRBY', KEYS[1], 'items_listed', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'bytes_listed', ARGV[3])
redis.call('HSET', KEYS[1], 'cursor', ARGV[4], 'enumerated', ARGV[5], 'state', 'uploading')
redis.call('HDEL', KEYS[1], 'trouble')
return 1
"""

BEGIN = """
-- KEYS: job, committed, payloads, attempts, in_hand, kills, left, ended · ARGV: batch
-- {'stop', state} | {'committed'} | {'unknown'}
-- | {'go', attempt, payload, kills, now, sha1 of the payload, 1 where it was begun before}
local f = redis.call('HMGET', KEYS[1], 'state', 'batches', 'listed_batches')
if f[1] ~= 'uploading' and f[1] ~= 'preparing' then return {'stop', f[1] or ''} end
local batch = ARGV[1]
if tonumber(batch) >= tonumber(f[2] or '0') then return {'unknown'} end
if redis.call('GETBIT', KEYS[2], batch) == 1 then return {'committed'} end
local payload = redis.call('HGET', KEYS[3], batch) or ''
local was_begun = redis.call('HEXISTS', KEYS[4], batch)
if tonumber(batch) >= tonumber(f[3] or '9e15') then was_begun = 1 end  -- its items failed before
local attempt = redis.call('HINCRBY', KEYS[4], batch, 1)
local text = redis.call('HGET', KEYS[6], batch) or '{}'
if attempt > 1 then  -- before, nothing was tried by itself
  local kills = cjson.decode(text)
  local hand = redis.call('HGET', KEYS[5], batch)
  if hand then
    local index, node, process = string.match(hand, '^(%d+) (%S*) ?(%d*)$')
    -- a node that was stopped by its own command did not die of the item it had in hand
    if redis.call('SISMEMBER', KEYS[7], node) == 0 then
      local known = kills[index] or {0, ''}
      local why = redis.call('HGET', KEYS[8], node .. ' ' .. process)
      kills[index] = {known[1] + 1, why or known[2], node .. ' ' .. process}
      redis.call('HSET', KEYS[6], batch, cjson.encode(kills))
    end
    redis.call('HDEL', KEYS[5], batch)
  end
  text = next(kills) and cjson.encode(kills) or '{}'
end
return {'go', attempt, payload, text, redis.call('TIME')[1], redis.sha1hex(payload), was_begun}
"""

BLAME = """
-- KEYS: committed, in_hand, kills · ARGV: batch, index, kills, why · the item's process is ended for it, and why
if redis.call('GETBIT', KEYS[1], ARGV[1]) == 1 then return 0 end
local kills = cjson.decode(redis.call('HGET', KEYS[3], ARGV[1]) or '{}')
kills[ARGV[2]] = {tonumber(ARGV[3]), ARGV[4]}
redis.call('HSET', KEYS[3], ARGV[1], cjson.encode(kills))
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
"""

PARDON = """
-- KEYS: kills · ARGV: batch, index, node and process · who was taken for dead of the item lives: it had lost its lease
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then return 0 end
local kills = cjson.decode(text)
local known = kills[ARGV[2]]
if not known or known[3] ~= ARGV[3] then return 0 end
kills[ARGV[2]] = {known[1] - 1, known[2]}
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(kills))
return 1
"""

RELEASE = """
-- KEYS: attempts, in_hand · ARGV: batch · a polite stop: this attempt does not count against its items
-- Its field stays, as 0: the batch was begun, and some of it may be stored.
redis.call('HDEL', KEYS[2], ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') > 0 then redis.call('HINCRBY', KEYS[1], ARGV[1], -1) end
return 1
"""

COMMIT = """
-- KEYS: job, committed, payloads, attempts, in_hand, kills, failures, parts
-- ARGV: batch, sha1 of its payload or '', its part as JSON or '', n, counter * n, by * n, then field, failure, ...
-- 1 counted, 0 was counted already, -1 too late, or Redis forgot this batch or has other items under its number
-- Every batch of all nodes comes by here: what counts is how few commands it takes.
local call, job, batch = redis.call, KEYS[1], ARGV[1]
local f = call('HMGET', job, 'state', 'batches', 'listed_batches')
if f[1] ~= 'uploading' and f[1] ~= 'preparing' then return -1 end
if tonumber(batch) >= tonumber(f[2] or '0') then return -1 end
local payload = call('HGET', KEYS[3], batch) or ''
if ARGV[2] ~= '' and redis.sha1hex(payload) ~= ARGV[2] then
  return call('GETBIT', KEYS[2], batch) - 1
end
if call('SETBIT', KEYS[2], batch, 1) == 1 then return 0 end
if ARGV[3] ~= '' then call('HSET', KEYS[8], batch, ARGV[3]) end
local n = tonumber(ARGV[4])
for i = 5, 4 + n do
  if ARGV[i + n] ~= '0' then call('HINCRBY', job, ARGV[i], ARGV[i + n]) end
end
for i = 5 + 2 * n, #ARGV, 2 do call('HSET', KEYS[7], ARGV[i], ARGV[i + 1]) end
call('HINCRBY', job, 'committed', 1)
-- what was listed can be listed again; items that are tried again lie here and there in the source
if payload ~= '' and tonumber(batch) < tonumber(f[3] or '9e15') then call('HDEL', KEYS[3], batch) end
for k = 4, 6 do call('HDEL', KEYS[k], batch) end
return 1
"""

UNDO = """
-- KEYS: job, committed, payloads, attempts, failures, parts
-- ARGV: how often at most, n, batch * n, payload or '' * n, field of a failure of theirs, ...
-- 1 done, 0 was done as often already, or one of them cannot be undone, -1 the job is not completing
if redis.call('HGET', KEYS[1], 'state') ~= 'completing' then return -1 end
local times = tonumber(redis.call('HGET', KEYS[1], 'undone') or '0')
if times >= tonumber(ARGV[1]) then return 0 end
local n = tonumber(ARGV[2])
for i = 3, 2 + n do
  if redis.call('GETBIT', KEYS[2], ARGV[i]) == 1 and redis.call('HEXISTS', KEYS[6], ARGV[i]) == 0 then return 0 end
end
-- What they counted as failed must be there still: when the job was reopened, their failed items went elsewhere.
local failed = 0
for i = 3, 2 + n do
  local part = redis.call('GETBIT', KEYS[2], ARGV[i]) == 1 and redis.call('HGET', KEYS[6], ARGV[i])
  if part then failed = failed + (cjson.decode(part)[2].failed or 0) end
end
for i = 3 + 2 * n, #ARGV do failed = failed - redis.call('HEXISTS', KEYS[5], ARGV[i]) end
if failed ~= 0 then return 0 end
for i = 3, 2 + n do
  local batch, payload = ARGV[i], ARGV[i + n]
  if redis.call('GETBIT', KEYS[2], batch) == 1 then
    redis.call('SETBIT', KEYS[2], batch, 0)
    redis.call('HINCRBY', KEYS[1], 'committed', -1)
    for name, by in pairs(cjson.decode(redis.call('HGET', KEYS[6], batch))[2]) do
      redis.call('HINCRBY', KEYS[1], name, string.format('%.0f', -by))
    end
    redis.call('HDEL', KEYS[6], batch)
    redis.call('HSET', KEYS[4], batch, 1)
    if payload ~= '' then redis.call('HSET', KEYS[3], batch, payload) end
  end
end
for i = 3 + 2 * n, #ARGV do redis.call('HDEL', KEYS[5], ARGV[i]) end
redis.call('HSET', KEYS[1], 'state', 'uploading', 'undone', times + 1)
return 1
"""

REOPEN = """
-- KEYS: job, payloads, failures · ARGV: failures expected, batches expected, token, payload, ...
if redis.call('HGET', KEYS[1], 'reopened') == ARGV[3] then return 1 end
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'failed' then return -1 end
local count = redis.call('HLEN', KEYS[3])
local batches = tonumber(redis.call('HGET', KEYS[1], 'batches') or '0')
if count ~= tonumber(ARGV[1]) or batches ~= tonumber(ARGV[2]) then return 0 end
for i = 4, #ARGV do redis.call('HSET', KEYS[2], batches + i - 4, ARGV[i]) end
redis.call('HSETNX', KEYS[1], 'listed_batches', batches)
redis.call('HINCRBY', KEYS[1], 'batches', #ARGV - 3)
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[1], 'state', 'uploading', 'failed', 0, 'bytes_failed', 0, 'undone', 0,
           'reopened', ARGV[3], 'reopened_s', redis.call('TIME')[1])
redis.call('HDEL', KEYS[1], 'ended_s')
return 1
"""

HOLD = """
-- KEYS: duty · ARGV: holder, ttl_ms · 1 where the duty is (still) ours
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

TAKE_SLOT = """
-- KEYS: slots · ARGV: token, at once, ttl_ms · 1 where a slot is ours, taken or renewed; 0 where all are taken
local t = redis.call('TIME')
local now, ttl = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ttl), ARGV[1])
if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
return 1
"""

LET_GO = """
-- KEYS: duty · ARGV: holder
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
