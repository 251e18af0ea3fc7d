-- Notes that the endpoints in the settings are registered in this data set. If the data set is lost or
-- replaced, the mark is gone or another one.
-- Reply  the mark of the data set

call('HSETNX', WEBHOOKS, 'settings', MARK)
call('PEXPIRE', WEBHOOKS, KEPT_MS)
return call('HGET', WEBHOOKS, 'settings')
