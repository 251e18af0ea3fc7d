-- Merges PATCH into a session's metadata, member by member: null removes one, any other value replaces it.
-- Both are compact JSON, as records.py has it. It is no activity.
-- Reply  the record and the clock, or as load() has it if the session is not alive; also the size, if
--        nothing is changed because the metadata would have that many bytes

local session, record = load()
if not session then return record end

-- Blanks a string. Its quotation marks stay.
local function blank(text) return '"' .. string.rep('_', #text - 2) .. '"' end

-- Returns the names of an object's members, as JSON, and their values by name; nil if it is no compact
-- JSON. cjson would change numbers and empty arrays. Here a member stays as it is: its ends are found
-- in a copy of the same length, in which colons, commas and brackets are outside of strings.
local function members(object)
  local names, values = {}, {}
  local shape = string.gsub(string.gsub(object, '\\.', '__'), '"[^"]*"', blank)
  local start = 2
  while start < #object do
    local colon = string.find(shape, ':', start, true)
    if not colon then return end
    local opening = string.sub(shape, colon + 1, colon + 1)
    local value = opening == '{' and '^%b{}' or opening == '[' and '^%b[]' or '^[^,}]+'
    local _, last = string.find(shape, value, colon + 1)
    if not last then return end
    local name = string.sub(object, start, colon - 1)
    names[#names + 1] = name
    values[name] = string.sub(object, colon + 1, last)
    start = last + 2
  end
  return names, values
end

local names, values = members(string.sub(session.tail, METADATA_START, -2))
if not names then return 'unreadable' end
local patched, patch = members(PATCH)
for _, name in ipairs(patched) do
  if not values[name] then names[#names + 1] = name end
  values[name] = patch[name]
end
local merged = {}
for _, name in ipairs(names) do
  if patch[name] ~= 'null' then merged[#merged + 1] = name .. ':' .. values[name] end
end
local metadata = '{' .. table.concat(merged, ',') .. '}'
if #metadata > METADATA_BYTES then return record .. now .. ' ' .. #metadata end
session.tail = string.sub(session.tail, 1, METADATA_START - 1) .. metadata .. '\n'
announce_update(session, 'metadata')
return save(session) .. now
