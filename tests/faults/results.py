#!/usr/bin/env python3
"""Writes what became of each row's test into the table of the fault matrix: results.py JUNIT.XML

A row whose test was not part of that run keeps what it says.
"""
import datetime
import pathlib
import sys
import xml.etree.ElementTree as tree

TABLE = pathlib.Path(__file__).parent / "README.md"


def results(path):
    """The name of each test -> what became of it."""
    found = {}
    day = datetime.date.today().isoformat()
    for case in tree.parse(path).getroot().iter("testcase"):
        failed = case.find("failure") is not None or case.find("error") is not None
        seconds = float(case.get("time", "0"))
        name = case.get("name").rsplit("::", 1)[-1]
        found[name] = f"{'FAILED' if failed else 'passed'} {day} ({seconds:.0f} s)"
    return found


def main():
    found = results(sys.argv[1])
    lines, told = [], 0
    for line in TABLE.read_text().splitlines():
        cells = line.strip("|").split(" | ")
        name = cells[-2].strip().strip("`") if len(cells) == 5 else None
        if name in found:
            line = f"| {' | '.join(cell.strip() for cell in cells[:-1])} | {found[name]} |"
            told += 1
        lines.append(line)
    TABLE.write_text("\n".join(lines) + "\n")
    print(f"{told} rows of {TABLE.name} tell what became of their tests")


if __name__ == "__main__":
    main()
