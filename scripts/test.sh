#!/usr/bin/env bash
# Everything that CI runs, in order, stopping at the first failure. What a fresh Debian machine lacks is installed
# first: C compiler, python3 and PostgreSQL by apt-get, components by rustup, cargo-nextest and cargo-deny below the target
# folder. Otherwise nothing is written but the target folder and a temporary one.
set -euo pipefail
# shellcheck source=scripts/ensure_tools.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/ensure_tools.sh"
# A folder given relative to the caller's stays that folder after the change of folder.
[[ -z ${CARGO_TARGET_DIR:-} ]] || CARGO_TARGET_DIR=$(target_dir)
cd -- "$repo"

title=none
scratch=$(mktemp -d)
finish() {
    local status=$?
    rm -rf -- "$scratch"
    if [[ $status != 0 ]]; then
        printf '\nFAILED: %s (exit status %d, after %d s)\n' "$title" "$status" "$SECONDS" >&2
    fi
}
trap finish EXIT

# step TITLE COMMAND…: announces, runs, and says how long it took.
step() {
    local began=$SECONDS
    title=$1
    shift
    printf '\n==> %s\n' "$title"
    "$@"
    printf '    %s: ok, %d s\n' "$title" "$((SECONDS - began))"
}

install_tools() {
    need_cargo
    need_c_compiler
    need_python
    need_postgres
    need_component fmt rustfmt
    need_component clippy clippy
    need_cargo_tool nextest 0.9.143
    need_cargo_tool deny 0.20.2
}

torture() {
    timeout 600 scripts/torture.sh --json >"$scratch/torture.json"
    python3 scripts/check_torture.py "$scratch/torture.json"
    # Guards, ids, counters and metrics under kills; it fails when anything does not hold.
    timeout 600 scripts/torture.sh --system resonance --processes 200 --updates 40 --kill 150
    # Tasks and worker processes under kills.
    timeout 600 scripts/torture.sh --system workers --updates 3000 --kill 300
    # A shared file under kills, beside the ways in which files are shared without it.
    timeout 600 scripts/torture.sh --system files --processes 16 --updates 20
}

step "tools" install_tools
step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
step "tests" scripts/with_postgres.sh cargo nextest run --workspace --locked
step "examples in the documentation" cargo test --doc --workspace --locked
step "documentation" env RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked
step "dependencies" cargo deny --locked check bans licenses sources
step "proof" scripts/prove.sh
step "torture" torture
step "torture on postgresql" scripts/torture_postgres.sh

printf '\nall checks passed in %d s\n' "$SECONDS"
