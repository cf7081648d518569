#!/usr/bin/env python3
"""postgres_to_sqlite.py URL FILE: copies the rows of a store, as they stand, by psql into a new SQLite file, for
verify_history.py. All in one snapshot, whatever is written meanwhile; nothing is computed, so what is wrong stays wrong."""
import json, os, sqlite3, subprocess, sys

TYPES = {"bigint": "INTEGER", "boolean": "INTEGER", "double precision": "REAL", "bytea": "BLOB"}
# As hexadecimal digits: psql leaves out characters that it does not know.
ROW = "SELECT encode(convert_to(json_build_array({})::text, 'UTF8'), 'hex') FROM"
COLUMNS = ROW.format("attname, format_type(atttypid, atttypmod)") + """ pg_attribute
    WHERE attrelid = to_regclass('"{}"') AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""

command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", sys.argv[1]]
psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
psql.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n")

def ask(sql):  # the rows of a query of ROW; no row is a dot
    print(sql, ";\n\\echo .", file=psql.stdin, flush=True)
    for line in iter(psql.stdout.readline, ".\n"):
        yield json.loads(bytes.fromhex(line or sys.exit("psql has failed")))

def copy(table):
    columns = list(ask(COLUMNS.format(table)))
    if not columns:
        return False
    names = ", ".join(f'"{name}" {TYPES.get(kind, "TEXT")}' for name, kind in columns)
    db.execute(f'CREATE TABLE "{table}"({names})')
    # JSON stands as the text that it is, not as its value.
    values = ", ".join(f'"{name}"::text' if kind == "json" else f'"{name}"' for name, kind in columns)
    order = ' ORDER BY "_position", ctid' if "_position" in dict(columns) else ""
    blobs = [i for i, (_, kind) in enumerate(columns) if kind == "bytea"]
    for row in ask(f'{ROW.format(values)} "{table}"{order}'):
        for i in blobs:
            row[i] = row[i] if row[i] is None else bytes.fromhex(row[i][2:])
        db.execute(f'INSERT INTO "{table}" VALUES({", ".join("?" * len(row))})', row)
    return True

if os.path.exists(sys.argv[2]):
    sys.exit(f"{sys.argv[2]}: the file exists; name a new one")
db = sqlite3.connect(sys.argv[2])
copy("commonhold_meta") or sys.exit("the database has no table commonhold_meta; check the url, and its schema")
catalogue = db.execute("SELECT value FROM commonhold_meta WHERE key = 'catalogue'").fetchone()
for table in json.loads(catalogue[0])["tables"]:
    copy(table["name"])
    copy(table["name"] + "_history")
db.commit()
