#!/usr/bin/env bash
# with_postgres.sh COMMAND…: runs the command with a private PostgreSQL in a temporary folder, which is gone afterwards.
# COMMONHOLD_TEST_POSTGRES names it to the tests; it does not sync its log. PostgreSQL is installed when it is missing.
set -euo pipefail
# shellcheck source=scripts/ensure_tools.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/ensure_tools.sh"
[[ $# -gt 0 ]] || die "no command; give one"
need_cargo
need_postgres
cargo build --quiet --locked --manifest-path "$repo/Cargo.toml" -p commonhold-testing --bin with_postgres
exec "$(target_dir)/debug/with_postgres" "$@"
