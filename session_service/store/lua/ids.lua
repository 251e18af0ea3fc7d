-- Returns the text of an id of 16 bytes, e.g. '3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836', or '' for a member
-- of another length, which we did not write: no session has that name.
local function id_text(id)
  if #id ~= ID_LENGTH then return '' end
  return string.format('%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(id, 1, 16))
end
