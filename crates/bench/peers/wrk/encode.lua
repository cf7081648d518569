-- Each request encodes another payload; what is not 201 is counted by wrk as an error, except other 2xx.
local thread = 0
local number = 0

function setup(t)
    t:set("id", thread)
    thread = thread + 1
end

function request()
    number = number + 1
    local body = string.format('{"payload":{"thread":%d,"number":%d,"text":"as much as a note has, about"}}', id, number)
    return wrk.format("POST", "/v1/sigils", { ["Content-Type"] = "application/json" }, body)
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("{\"requests\":%d,\"seconds\":%.6f,\"p50_us\":%d,\"p99_us\":%d,\"refused\":%d,\"broken\":%d}\n",
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        e.status, e.connect + e.read + e.write + e.timeout))
end
