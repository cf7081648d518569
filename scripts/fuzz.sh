#!/bin/sh
# Fuzzes header, catalogue and the words of a segment, each target for so many seconds (default 300).
# Needs a nightly compiler and cargo-fuzz: cargo install cargo-fuzz --locked
set -eu
cd "$(dirname "$0")/../fuzz"
for target in attach words; do
    cargo +nightly fuzz run --fuzz-dir . -s none "$target" -- -max_total_time="${1:-300}" -timeout=10 -rss_limit_mb=2048
done
