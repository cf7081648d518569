#!/usr/bin/env python3
"""Judges the bare `torture --json`, read from the file named: before must lose updates, after must hold."""
import json
import sys

LOST_MIN = 4

try:
    with open(sys.argv[1], encoding="utf-8") as file:
        result = json.load(file)
    before, after = ({name: run[name] for name in ("lost", "updates_acknowledged", "ok")}
                     for run in (result["before"], result["after"]))
except (KeyError, TypeError, ValueError) as error:
    sys.exit(f"not the JSON of the bare torture: {error!r}")
print(f"before: {before['lost']} of {before['updates_acknowledged']} acknowledged updates lost")
print(f"after: {after['lost']} of {after['updates_acknowledged']} lost, ok {after['ok']}")
faults = []
if before["lost"] < LOST_MIN:
    faults.append(f"before lost {before['lost']} updates, fewer than {LOST_MIN}: it shows nothing")
if after["ok"] is not True:
    faults.append("after is not ok: " + json.dumps(result["after"]))
sys.exit("\n".join(faults) or 0)
