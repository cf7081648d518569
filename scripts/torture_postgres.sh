#!/usr/bin/env bash
# torture_postgres.sh: torture and replay with PostgreSQL as the store, on the private server of with_postgres.sh (or the
# one that COMMONHOLD_TEST_POSTGRES names). Fails when an update is lost where none may be, or a check does not hold.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
if [[ -z ${COMMONHOLD_TEST_POSTGRES:-} ]]; then
    exec "$here/with_postgres.sh" "${BASH_SOURCE[0]}" "$@"
fi
# shellcheck source=scripts/ensure_tools.sh
source "$here/ensure_tools.sh"
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

# A schema each: a torture begins with an empty store.
run=0
fresh() {
    run=$((run + 1))
    schema="torture_$$_$run"
    store="$COMMONHOLD_TEST_POSTGRES&schema=$schema"
}

# What psql reads and what an export holds, both judged by the script that knows nothing of our code.
agree() {
    PGOPTIONS="-c search_path=$schema" "$here/postgres_to_sqlite.py" "$COMMONHOLD_TEST_POSTGRES" "$scratch/psql_$run.db"
    python3 "$here/verify_history.py" "$scratch/psql_$run.db"
    "$(target_dir)/release/commonhold" export "sqlite:$scratch/export_$run.db" --store "$store"
    python3 "$here/verify_history.py" "$scratch/export_$run.db"
}

# A line for each request: 40 clients, sizes that differ.
log() {
    awk 'BEGIN { for (n = 0; n < 20000; n++)
        printf "10.0.0.%d - - [21/Nov/2026:10:00:00 +0000] \"GET /%d HTTP/1.1\" 200 %d\n", n % 40, n, n % 977 }'
}

fresh
timeout 600 "$here/torture.sh" --store "$store" --json >"$scratch/compared.json"
python3 "$here/check_torture.py" "$scratch/compared.json"
fresh
timeout 600 "$here/torture.sh" --store "$store" --processes 200 --updates 50 --keys 8 --kill 150
agree
fresh
timeout 600 "$here/torture.sh" --store "$store" --history latest --processes 100 --updates 200 --kill 60
timeout 600 "$here/torture.sh" --store "$store" --mode store --processes 60 --updates 50 --kill 30
fresh
timeout 600 "$here/torture.sh" --system resonance --store "$store" --processes 50 --updates 20 --kill 30
fresh
log >"$scratch/access.log"
timeout 600 "$(target_dir)/release/commonhold" replay "$scratch/access.log" \
    --workers 8 --by client --cap-requests 400 --kill 4 --store "$store"
