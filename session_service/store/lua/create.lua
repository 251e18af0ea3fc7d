-- Creates a session.
-- Reply  the store's clock, which is createdAt, or 'full'

return create()
