-- Notes that the endpoints of the settings are registered in this data set. After the data set was
-- lost or replaced, the mark is gone or another one.
-- ARGV   1 a mark  2 for how long webhooks are kept (ms)
-- Reply  the mark that the data set has

call('HSETNX', WEBHOOKS, 'settings', ARGV[1])
call('PEXPIRE', WEBHOOKS, ARGV[2])
return call('HGET', WEBHOOKS, 'settings')
