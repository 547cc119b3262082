-- wrk's results as one line of JSON, the last that it prints.
function done(summary, latency, requests)
    local failed = summary.errors
    io.write(string.format(
        '{"requests": %d, "failed": %d, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, ' ..
        '"median_ms": %.2f, "p99_ms": %.2f, "slowest_ms": %.2f, "bytes": %d, "seconds": %.2f}\n',
        summary.requests, failed.status + failed.connect + failed.read + failed.write + failed.timeout,
        failed.status, failed.connect, failed.read, failed.write, failed.timeout,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000,
        summary.bytes, summary.duration / 1000000))
end
