-- Announces a change of a session on request, of its timeout or of its metadata.
local function announce_update(session, changed)
  announce('updated', SESSION_ID, session, session.expires .. ' ' .. session.timeout .. ' '
    .. session.duration .. ' ' .. session.warning .. ' ' .. session.auto .. ' ' .. changed)
end
