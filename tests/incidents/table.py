"""The table of the incidents that ran: table.py FOLDER JUNIT.

FOLDER has one file per test with a line for each thing it asserted (tests/lab/asserted.rs); JUNIT says which passed, and how long each took.
"""

import collections
import pathlib
import re
import sys
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).parent

# what an exit code of `opsctl fix` stands for
CODES = {"0": "clears", "10": "asks first", "11": "refused when changed", "12": "failed", "13": "not verified", "15": "refused"}


def title(incident):
    """The first sentence of its file."""
    lines = (HERE / f"{incident}.rs").read_text().splitlines()
    text = " ".join(line[3:].strip() for line in lines if line.startswith("//!"))
    sentence = re.split(r" \(|[.](?: |$)", text.removeprefix("Control: "))[0]
    sentence = sentence[:1].upper() + sentence[1:]
    return sentence if len(sentence) <= 72 else sentence[:71].rsplit(" ", 1)[0] + " …"


def row(incident, tests, folder):
    kept = collections.Counter()
    fixes = collections.defaultdict(dict)
    left = {}
    for test in tests:
        file = folder / test["name"]
        for line in file.read_text().splitlines() if file.exists() else []:
            what, held, of = line.split("\t", 2)
            kind = "not" if what == "not" else "must"
            if what.startswith("fix "):
                fixes[of][CODES.get(what[4:], what)] = held
            elif what == "left":
                variant, roots = of.split("\t")
                left[variant] = roots
            else:
                kept[kind, held] += 1
    share = lambda kind: f"{kept[kind, 'held']}/{kept[kind, 'held'] + kept[kind, 'failed']}"
    roots = left.get("") if "" in left else next(iter(left.values()), None)
    failed = any(t["failed"] for t in tests)
    nothing = not kept and not failed
    number, name = incident.split("_", 1)
    return {
        "no": number,
        "incident": title(incident),
        "root cause": "-" if roots is None else roots or "none",
        "must": share("must"),
        "must not": share("not"),
        "fix": "; ".join(f"{fix}: {', '.join(f'{c}' + (' NOT' if h == 'failed' else '') for c, h in did.items())}" for fix, did in fixes.items()) or "-",
        "replays": str(len(left)),
        "s": f"{sum(t['seconds'] for t in tests):.0f}",
        "result": "FAIL" if failed else "left out" if nothing else "pass",
    }


def main():
    folder, junit = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    incidents = collections.defaultdict(list)
    for case in xml.etree.ElementTree.parse(junit).iter("testcase"):
        parts = case.get("name").split("::")
        if parts[0] == "incidents":
            failed = case.find("failure") is not None or case.find("error") is not None
            incidents[parts[1]].append({"name": case.get("name"), "failed": failed, "seconds": float(case.get("time") or 0)})
    rows = [row(incident, tests, folder) for incident, tests in sorted(incidents.items())]
    if not rows:
        print("no incident has such a name")
        return
    columns = list(rows[0])
    width = {c: max(len(c), *(len(r[c]) for r in rows)) for c in columns}
    line = lambda cells: "| " + " | ".join(cells) + " |"
    print(line(c.ljust(width[c]) for c in columns))
    print(line("-" * width[c] for c in columns))
    for r in rows:
        print(line(r[c].ljust(width[c]) for c in columns))


main()
