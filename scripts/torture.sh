#!/usr/bin/env bash
# The main job: builds `commonhold` when needed and runs its torture; every argument is passed on.
# Without arguments: 1000 processes, one record, before and after side by side. `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/ensure_tools.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/ensure_tools.sh"

need_cargo
need_c_compiler
# The caller's folder stays the current one, so that relative paths in the arguments mean what the caller means.
target=$(target_dir)
cargo build --quiet --release --locked --manifest-path "$repo/Cargo.toml" --target-dir "$target" -p commonhold-cli >&2 ||
    die "the build failed; the reason stands above"
exec "$target/release/commonhold" torture "$@"
