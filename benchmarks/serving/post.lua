-- wrk -s post.lua URL -- CONTENT_TYPE FILE...: posts the files in turn, and ends with one line of JSON.
-- A request counts towards requests_per_second if it was answered with a status below 400. Of the errors, `refused` were
-- answered with another status; the others got no answer.
local bodies, kind, turn = {}, nil, 0

function init(arguments)
  kind = arguments[1]
  for i = 2, #arguments do
    local file = assert(io.open(arguments[i], "rb"))
    bodies[#bodies + 1] = file:read("*a")
    file:close()
  end
end

function request()
  turn = turn % #bodies + 1
  return wrk.format("POST", nil, { ["Content-Type"] = kind }, bodies[turn])
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '{"requests_per_second": %.1f, "p50_ms": %.2f, "p99_ms": %.2f, "errors": %d, "refused": %d}\n',
    (summary.requests - e.status) / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.connect + e.read + e.write + e.status + e.timeout, e.status))
end
