-- Sends one request for each line of a file, with the header lines of wrk's option -H.
-- Arguments: method, path, file. A "{}" in the path stands for the line, up to a tab if it has one; the
-- rest after the tab is the body. Without a "{}" the whole line is the body.
-- Ends with a line of JSON; "sent" is the number of lines used.

local lines, before, after, method, path = {}, nil, nil, nil, nil
local head = ' HTTP/1.1\r\n'
sent = 0

function init(args)
  method, path = args[1], args[2]
  before, after = path:match('^(.*){}(.*)$')
  for name, value in pairs(wrk.headers) do head = head .. name .. ': ' .. value .. '\r\n' end
  for line in io.lines(args[3]) do lines[#lines + 1] = line end
end

local function with_body(target, body)
  return method .. ' ' .. target .. head .. 'Content-Type: application/json\r\nContent-Length: ' .. #body
    .. '\r\n\r\n' .. body
end

function request()
  local line = lines[sent % #lines + 1]
  sent = sent + 1
  local id, body = line:match('^([^\t]*)\t(.*)$')
  if id then return with_body(before .. id .. after, body) end
  if before then
    local length = method == 'POST' and 'Content-Length: 0\r\n' or ''
    return method .. ' ' .. before .. line .. after .. head .. length .. '\r\n'
  end
  return with_body(path, line)
end

local threads = {}
function setup(thread) threads[#threads + 1] = thread end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %d, "p99": %d, "errors": %d, "sent": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout, threads[1]:get('sent')))
end
