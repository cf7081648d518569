#!/usr/bin/env python3
"""postgres_to_sqlite.py URL FILE: copies the rows of a store, as they stand, by psql into a new SQLite file, for
verify_history.py. All in one snapshot, whatever is written meanwhile; nothing is computed, so what is wrong stays wrong."""
import json, sqlite3, subprocess, sys

TYPES = {"bigint": "INTEGER", "boolean": "INTEGER", "double precision": "REAL", "bytea": "BLOB"}
COLUMNS = """SELECT json_build_array(attname, format_type(atttypid, atttypmod)) FROM pg_attribute
    WHERE attrelid = to_regclass('"{}"') AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""

command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", sys.argv[1]]
psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
psql.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n")

def ask(sql):  # the rows of a query that gives JSON; no row is a dot
    print(sql, ";\n\\echo .", file=psql.stdin, flush=True)
    for line in iter(psql.stdout.readline, ".\n"):
        yield json.loads(line or sys.exit("psql has failed"))

def copy(table):
    columns = list(ask(COLUMNS.format(table)))
    if not columns:
        return
    names = ", ".join(f'"{name}" {TYPES.get(kind, "TEXT")}' for name, kind in columns)
    db.execute(f'CREATE TABLE "{table}"({names})')
    # JSON stands as the text that it is, not as its value.
    values = ", ".join(f'"{name}"::text' if kind == "json" else f'"{name}"' for name, kind in columns)
    order = ' ORDER BY "_position", ctid' if "_position" in dict(columns) else ""
    blobs = [i for i, (_, kind) in enumerate(columns) if kind == "bytea"]
    for row in ask(f'SELECT json_build_array({values}) FROM "{table}"{order}'):
        for i in blobs:
            row[i] = row[i] if row[i] is None else bytes.fromhex(row[i][2:])
        db.execute(f'INSERT INTO "{table}" VALUES({", ".join("?" * len(row))})', row)

db = sqlite3.connect(f"file:{sys.argv[2]}?mode=rwc", uri=True)
copy("commonhold_meta")
catalogue = db.execute("SELECT value FROM commonhold_meta WHERE key = 'catalogue'").fetchone()
for table in json.loads(catalogue[0])["tables"]:
    copy(table["name"])
    copy(table["name"] + "_history")
db.commit()
