#!/usr/bin/env python3
"""verify_history.py DB [TABLE ...]: recomputes hash and link of every history row (docs/store-format.md)."""
import functools, hashlib, json, sqlite3, struct, sys, urllib.parse
BASIS, PRIME, MASK, found = 0xCBF29CE484222325, 0x100000001B3, 2**64 - 1, []
CODES = {"i64": "<q", "u64": "<q", "timestamp": "<q", "bool": "<B", "f64": "<d"}

def fnv(data, h=BASIS):
    return functools.reduce(lambda h, byte: (h ^ byte) * PRIME & MASK, data, h)

def sized(value):  # a column as the link covers it; text and blobs stand so in the payload too
    if value is None:
        return b"\xff\xff\xff\xff"
    value = struct.pack("<d", value) if isinstance(value, float) else value
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return struct.pack("<I", len(data)) + data

def state_hash(table, row, fields):
    try:
        values = [(CODES.get(kind), row[name]) for name, kind in fields if not row["_deleted"]]
        payload = b"".join(struct.pack(code, v) if code else sized(v) for code, v in values)
        h = fnv(f"{table}\0{row['key']}\0".encode() + struct.pack("<Q", row["_version"]))
    except (struct.error, UnicodeError):
        return "a column of another type"
    return f"{functools.reduce(lambda h, j: (h ^ fnv(payload[j::4])) * PRIME & MASK, range(4), h):016x}"

def verify(db, table, fields, meta):
    at, before, last, count = 0, ["00" * 32], {}, meta.get(f"count:{table}")
    for row in db.execute(f'SELECT * FROM "{table}_history" ORDER BY _position, _rowid_'):
        name = f"{table}_history: key {row['key']!r} version {row['_version']} at position {row['_position']}: "
        if row["_position"] != at + 1:
            found.append(f"{name}position {at + 1} was due: rows are missing, or stand twice")
            before = []  # so its link cannot be judged
        columns, old = b"".join(map(sized, tuple(row)[:-1])), last.get(row["key"])
        due = [hashlib.sha256(bytes.fromhex(link) + columns).hexdigest() for link in before]
        if due and row["_link"] not in due:
            found.append(f"{name}its link is not the one of its columns")
        if state_hash(table, row, fields) != row["_hash"]:
            found.append(f"{name}its hash is not the one of its columns")
        if old and not 0 < row["_version"] - old["_version"] < (2**63 if old["_deleted"] else 2):
            found.append(f"{name}it follows version {old['_version']}")
        links = [str(row["_link"]), *due[:1]]  # the next may follow the stored link, or the one that was due
        before = [link for link in links if len(link) == 64 and not link.strip("0123456789abcdef")]
        at, last[row["key"]] = row["_position"], row
    if str(at) != count or meta.get(f"link:{table}") not in before:
        found.append(f"{table}_history: it ends at position {at}; the meta table counts {count}, or has another link")
    due = {key: tuple(row)[:-3] for key, row in last.items() if not row["_deleted"]}
    stored = {row["key"]: tuple(row) for row in db.execute(f'SELECT * FROM "{table}"')}
    for key in sorted(key for key in due.keys() | stored.keys() if due.get(key) != stored.get(key)):
        found.append(f"{table}: key {key!r} is not what its history ends with")
    return at

db = sqlite3.connect(f"file:{urllib.parse.quote(sys.argv[1])}?mode=ro", uri=True, isolation_level=None)
db.row_factory, db.text_factory = sqlite3.Row, lambda text: text.decode("utf-8", "surrogateescape")
db.execute("BEGIN")  # one snapshot, whatever is written meanwhile
meta = dict(map(tuple, db.execute("SELECT key, value FROM commonhold_meta")))
tables = {t["name"]: t["fields"] for t in json.loads(meta["catalogue"])["tables"] if t["history"] == "full"}
fields = {table: [field.split("(")[0].split(":") for field in tables[table]] for table in sys.argv[2:] or tables}
rows = sum(verify(db, *table, meta) for table in fields.items())
print("\n".join(found) or f"{rows} history rows in {len(fields)} tables: every hash and link holds")
sys.exit(bool(found))
