"""Prints the table of the incidents that ran: table.py DIRECTORY JUNIT.

DIRECTORY contains one file per test, with one line per assertion (tests/lab/asserted.rs); JUNIT contains results and durations.
"""

import collections
import pathlib
import re
import sys
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).parent

# meaning of the exit codes of `opsctl fix`
CODES = {"0": "clears", "10": "needs confirmation", "11": "refused when changed", "12": "failed", "13": "not verified", "15": "refused"}


def title(incident):
    """The first sentence of the module documentation."""
    lines = (HERE / f"{incident}.rs").read_text().splitlines()
    text = " ".join(line[3:].strip() for line in lines if line.startswith("//!"))
    sentence = re.split(r" \(|[.](?: |$)", text.removeprefix("Control: "))[0]
    sentence = sentence[:1].upper() + sentence[1:]
    return sentence if len(sentence) <= 72 else sentence[:71].rsplit(" ", 1)[0] + " …"


def row(incident, tests, directory):
    assertions = collections.Counter()
    fixes = collections.defaultdict(dict)
    recordings = {}
    for test in tests:
        file = directory / test["name"]
        for line in file.read_text().splitlines() if file.exists() else []:
            kind, held, subject = line.split("\t", 2)
            if kind.startswith("fix "):
                fixes[subject][CODES.get(kind[4:], kind)] = held
            elif kind == "left":
                variant, roots = subject.split("\t")
                recordings[variant] = roots
            else:
                assertions["not" if kind == "not" else "must", held] += 1
    share = lambda kind: f"{assertions[kind, 'held']}/{assertions[kind, 'held'] + assertions[kind, 'failed']}"
    roots = recordings.get("") if "" in recordings else next(iter(recordings.values()), None)
    failed = any(t["failed"] for t in tests)
    skipped = not assertions and not failed
    number, name = incident.split("_", 1)
    return {
        "no": number,
        "incident": title(incident),
        "root cause": "-" if roots is None else roots or "none",
        "must": share("must"),
        "must not": share("not"),
        "fix": "; ".join(f"{fix}: {', '.join(f'{c}' + (' NOT' if h == 'failed' else '') for c, h in results.items())}" for fix, results in fixes.items()) or "-",
        "replays": str(len(recordings)),
        "s": f"{sum(t['seconds'] for t in tests):.0f}",
        "result": "FAIL" if failed else "skipped" if skipped else "pass",
    }


def main():
    directory, junit = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    incidents = collections.defaultdict(list)
    for case in xml.etree.ElementTree.parse(junit).iter("testcase"):
        parts = case.get("name").split("::")
        if parts[0] == "incidents":
            failed = case.find("failure") is not None or case.find("error") is not None
            incidents[parts[1]].append({"name": case.get("name"), "failed": failed, "seconds": float(case.get("time") or 0)})
    rows = [row(incident, tests, directory) for incident, tests in sorted(incidents.items())]
    if not rows:
        print("no incident matches the given names")
        return
    columns = list(rows[0])
    width = {c: max(len(c), *(len(r[c]) for r in rows)) for c in columns}
    line = lambda cells: "| " + " | ".join(cells) + " |"
    print(line(c.ljust(width[c]) for c in columns))
    print(line("-" * width[c] for c in columns))
    for r in rows:
        print(line(r[c].ljust(width[c]) for c in columns))


main()
