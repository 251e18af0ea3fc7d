-- Takes one request from a bucket and calls a script, the function act; does nothing if the bucket is empty.
-- Reply  {granted (0|1), left, microseconds until one more is there, failed (0|1), the script's own reply};
--        nil in place of that if none was granted

local granted, left, wait, failed = take(BUCKET, 0, 1)
return {granted, left, wait, failed, granted == 1 and act() or false}
