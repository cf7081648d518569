#!/usr/bin/env bash
# The proof: injects faults of every kind and judges what they leave, as RELIABILITY.md explains, and prints one table
# (check, faults injected, violations, seconds). The fast part takes some minutes and is in CI.
#
#   scripts/prove.sh                 the fast part
#   scripts/prove.sh --long          all of it: hours
#   scripts/prove.sh --tested        the fast part without the tests that `cargo nextest run --workspace` has run already
#   scripts/prove.sh --bite          that every check can fail: plants what it must find, and demands that it does
#   scripts/prove.sh CHECK…          these checks alone (commonhold-prove --list names them; also loom, processes,
#                                    and, with a nightly compiler, tsan and fuzz)
#
# COMMONHOLD_PROVE_SEED repeats a run; a violation says how to repeat it alone.
set -euo pipefail
# shellcheck source=scripts/ensure_tools.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/ensure_tools.sh"
[[ -z ${CARGO_TARGET_DIR:-} ]] || CARGO_TARGET_DIR=$(target_dir)
cd -- "$repo"

long=() bite=() checks=() tested=
for argument in "$@"; do
    case $argument in
        --long) long=(--long) ;;
        --bite) bite=(--bite) ;;
        --tested) tested=yes ;;
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
        -*) die "no option $argument; see --help" ;;
        *) checks+=("$argument") ;;
    esac
done

need_cargo
need_c_compiler
need_cargo_tool nextest 0.9.143
scratch=$(mktemp -d)
models=
trap '[[ -z $models ]] || kill "$models" 2>/dev/null || true; rm -rf -- "$scratch"' EXIT
failed=0

# wanted NAME: whether the check is asked for; true when none is named.
wanted() {
    [[ ${#checks[@]} == 0 || " ${checks[*]} " == *" $1 "* ]]
}

# row NAME FAULTS VIOLATIONS SECONDS FIGURES: a line of the table.
row() {
    printf '%-28s %10s %10s %8s  %s\n' "$@"
}

# Every interleaving of the real protocols in small models, with deaths at every step, each with faults that it finds.
loom() {
    local began=$SECONDS status=0
    [[ ${#long[@]} == 0 ]] || export COMMONHOLD_LOOM_LONG=1
    cargo test --release --locked --quiet -p commonhold-core --features loom \
        --test 'loom*' -- --nocapture >"$scratch/loom" 2>&1 || status=$?
    local executions models found
    executions=$(grep -oE '[0-9]+ executions' "$scratch/loom" | awk '{ n += $1 } END { print n + 0 }')
    models=$(grep -cE '[0-9]+ executions' "$scratch/loom" || true)
    found=$(grep -cE ': found after' "$scratch/loom" || true)
    row loom "$executions" $((status != 0)) $((SECONDS - began)) \
        "executions of $models models; $found planted faults found"
    [[ $status == 0 ]] || { failed=1 && tail -n 40 "$scratch/loom"; }
}

# Whole processes: forks, reused process ids, namespaces, stewards, creators, restarts.
processes() {
    local began=$SECONDS status=0
    cargo nextest run --locked -p commonhold-tests >"$scratch/processes" 2>&1 || status=$?
    row processes - $((status != 0)) $((SECONDS - began)) "$(grep -E 'Summary' "$scratch/processes" | sed 's/^ *//')"
    [[ $status == 0 ]] || { failed=1 && grep -E 'FAIL|panicked' -A 12 "$scratch/processes" | tail -n 60; }
}

# Threads of one process under ThreadSanitizer. The standard library is not instrumented, so the test harness's own
# channel is reported and has to be left out.
tsan() {
    local began=$SECONDS status=0
    printf 'race:test::\nrace:std::sync::mpmc\n' >"$scratch/suppressions"
    RUSTFLAGS='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' \
        TSAN_OPTIONS="suppressions=$scratch/suppressions" \
        cargo +nightly test --locked --quiet --target x86_64-unknown-linux-gnu --target-dir "$(target_dir)/tsan" \
        -p commonhold-core -p commonhold-runtime -p commonhold-systems --lib --tests -- --test-threads 1 \
        >"$scratch/tsan" 2>&1 || status=$?
    row tsan - "$(grep -c 'WARNING: ThreadSanitizer' "$scratch/tsan")" $((SECONDS - began)) \
        "$(awk '/^test result/ { n += $4 } END { print n }' "$scratch/tsan") tests in one process"
    [[ $status == 0 ]] || { failed=1 && grep -A 30 'WARNING: Thr' "$scratch/tsan" | head -n 60; }
}

# libFuzzer on header, catalogue and words of a segment: five minutes each.
fuzz() {
    local began=$SECONDS status=0 runs
    scripts/fuzz.sh 300 >"$scratch/fuzz" 2>&1 || status=$?
    runs=$(awk '/^Done [0-9]+ runs/ { n += $2 } END { print n + 0 }' "$scratch/fuzz")
    row fuzz "$runs" $((status != 0)) $((SECONDS - began)) "inputs of two targets"
    [[ $status == 0 ]] || { failed=1 && tail -n 60 "$scratch/fuzz"; }
}

# asked NAME: whether a check is asked for that needs a nightly compiler: by its name, or in the long part.
asked() {
    [[ " ${checks[*]} " == *" $1 "* || (${#checks[@]} == 0 && ${#long[@]} != 0) ]]
}

inside=()
for check in "${checks[@]}"; do
    [[ " loom processes tsan fuzz " == *" $check "* ]] || inside+=("$check")
done

# The models need one processor, and no file: they run beside the rest.
if [[ ${#bite[@]} == 0 ]] && wanted loom; then
    { loom && [[ $failed == 0 ]]; } >"$scratch/models" 2>&1 &
    models=$!
fi
features=()
[[ ${#bite[@]} == 0 ]] || features=(--features faults)
if [[ ${#checks[@]} == 0 || ${#inside[@]} != 0 ]]; then
    cargo build --release --locked --quiet -p commonhold-proof "${features[@]}"
    seed=${COMMONHOLD_PROVE_SEED:+--seed=$COMMONHOLD_PROVE_SEED}
    "$(target_dir)/release/commonhold-prove" "${long[@]}" "${bite[@]}" ${seed:+"$seed"} "${inside[@]}" || failed=1
fi
if [[ ${#checks[@]} == 0 && ${#long[@]} != 0 && ${#bite[@]} == 0 ]]; then
    printf '\na debug build\n'
    cargo build --locked --quiet -p commonhold-proof
    "$(target_dir)/debug/commonhold-prove" killed frozen stopped long || failed=1
fi
if [[ ${#bite[@]} == 0 ]]; then
    if [[ -n $models ]]; then
        wait "$models" || failed=1
        cat "$scratch/models"
    fi
    [[ -n $tested ]] || ! wanted processes || processes
    ! asked tsan || tsan
    ! asked fuzz || fuzz
fi
if [[ $failed != 0 ]]; then
    printf '\nviolations were found\n' >&2
    exit 1
fi
printf '\nall holds: %d s\n' "$SECONDS"
