#!/usr/bin/env bash
# Fuzzes the daemon over HTTP: schemathesis makes requests, good and bad, from the daemon's own OpenAPI document. It
# fails when an answer is a server error or contradicts the document, when the daemon does not end well afterwards, or
# when its log tells of a panic.
#
#   scripts/fuzz_http.sh [EXAMPLES]       so many requests for each operation and phase at most (default 100)
#
# It is not in CI: schemathesis comes from PyPI, and what it sends differs from run to run. COMMONHOLD_FUZZ_SEED repeats
# a run. Everything it writes but the target folder is in temporary ones.
set -euo pipefail
# shellcheck source=scripts/ensure_tools.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/ensure_tools.sh"
[[ -z ${CARGO_TARGET_DIR:-} ]] || CARGO_TARGET_DIR=$(target_dir)
cd -- "$repo"

case ${1:-100} in
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
    '' | *[!0-9]* | 0) die "\`$1\` is no number of examples; see --help" ;;
    *) examples=${1:-100} ;;
esac

need_cargo
need_c_compiler
command -v curl >/dev/null || apt_install curl || die "no curl; install it"
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || die "no python3 with venv; install it"

scratch=$(mktemp -d)
shared=$(mktemp -d -p /dev/shm)
daemon=
finish() {
    [[ -z $daemon ]] || kill -KILL "$daemon" 2>/dev/null || true
    rm -rf -- "$scratch" "$shared"
}
trap finish EXIT

python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis==4.*' ||
    die "pip could not install schemathesis; is PyPI within reach?"
cargo build --locked --quiet -p commonhold-cli

"$(target_dir)/debug/commonhold" --segment "$shared/segment" --store "sqlite:$scratch/store.db" \
    serve --listen 127.0.0.1:0 --workers 1 --json-log 2>"$scratch/log" &
daemon=$!
address=
for _ in $(seq 300); do
    address=$(grep -om 1 '"address":"[^"]*"' "$scratch/log" | cut -d '"' -f 4 || true)
    [[ -z $address ]] || break
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.1
done
[[ -n $address ]] || { cat "$scratch/log" >&2 && die "the daemon did not start"; }

cd -- "$scratch"
failed=0
venv/bin/schemathesis run "http://$address/openapi.json" --max-examples "$examples" --workers 2 \
    --checks "${COMMONHOLD_FUZZ_CHECKS:-not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance}" \
    --request-timeout 40 --continue-on-failure --no-color \
    ${COMMONHOLD_FUZZ_SEED:+--seed "$COMMONHOLD_FUZZ_SEED"} || failed=1

curl --silent --fail --max-time 10 "http://$address/healthz" >/dev/null || { echo "the daemon does not answer any more" && failed=1; }
status=0
kill -TERM "$daemon" && wait "$daemon" || status=$?
daemon=
[[ $status == 0 ]] || { echo "the daemon ended with status $status" && failed=1; }
if grep -E 'panicked|"level":"ERROR"' "$scratch/log" >"$scratch/errors"; then
    echo "its log tells of errors:" && head -n 20 "$scratch/errors" && failed=1
fi
[[ $failed == 0 ]] || { tail -n 20 "$scratch/log" >&2 && die "the daemon failed; its last lines are above"; }
echo "no server error, no answer that the document does not have, and the daemon ended well"
