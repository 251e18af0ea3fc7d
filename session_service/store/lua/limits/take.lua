-- Takes requests from a bucket, after putting RETURNED back.
-- Reply  {granted, left, microseconds until one more is there, failed (0|1)}

return {take(BUCKET, RETURNED, WANTED)}
