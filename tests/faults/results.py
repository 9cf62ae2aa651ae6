#!/usr/bin/env python3
"""The fault matrix and its tests.

results.py             the filter by which nextest runs the test of each row
results.py JUNIT.XML   writes what became of each row's test into the last column of the table; a row whose test
                       was not part of that run keeps what it says
"""
import datetime
import pathlib
import sys
import xml.etree.ElementTree as tree

TABLE = pathlib.Path(__file__).parent / "README.md"


def test_of(line):
    """The cells of a row and the name of its test; (None, None) for any other line."""
    cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
    is_row = line.startswith("| ") and len(cells) == 5 and cells[3].startswith("`")
    return (cells, cells[3].strip("`")) if is_row else (None, None)


def results(path):
    """The name of each test -> what became of it."""
    found = {}
    day = datetime.date.today().isoformat()
    for case in tree.parse(path).getroot().iter("testcase"):
        failed = case.find("failure") is not None or case.find("error") is not None
        seconds = float(case.get("time", "0"))
        name = case.get("name").rsplit("::", 1)[-1]
        found[name] = f"{'FAILED' if failed else 'passed'} {day}, {seconds:.0f} s"
    return found


def main():
    lines = TABLE.read_text().splitlines()
    if len(sys.argv) == 1:
        names = [name for _, name in map(test_of, lines) if name]
        print(f"test(/::({'|'.join(names)})$/)")
        return
    found, told = results(sys.argv[1]), 0
    for place, line in enumerate(lines):
        cells, name = test_of(line)
        if name in found:
            lines[place] = f"| {' | '.join(cells[:-1])} | {found[name]} |"
            told += 1
    TABLE.write_text("\n".join(lines) + "\n")
    print(f"{told} rows of {TABLE.name} tell what became of their tests")


if __name__ == "__main__":
    main()
