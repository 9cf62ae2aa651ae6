#!/usr/bin/env python3
"""The cargo that cargo-mutants calls: all mutants are in one build, and a mutant costs only its tests.

`cargo.py prepare LIST` (in the package): LIST is what `cargo mutants --list --json` says. Of each function that
has mutants it makes one that holds them all, as arms of a `match` on a number in the environment, and builds
that once; a mutant that does not compile is found by its errors and left out, as unviable.

`cargo.py test ...` is called by cargo-mutants (as $CARGO) after it has put one mutant into the sources. It
sees which one that is, and runs the tests of the one build with its number: the small ones first, up to the
first that is red. A mutant that cannot be an arm of a `match` goes to the real cargo, and so does all else.
"""

import bisect
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

MARKER = " /* ~ changed by cargo-mutants ~ */"
CARGO = os.environ.get("REAL_CARGO", "cargo")
# The one build, what is known of it, and which tests it has (in the order of how long they take).
BUILD = Path(os.environ["MUTANTS_BUILD"])
TARGETS = os.environ["MUTANTS_TARGETS"].split(",")
TEST_ARGUMENTS = os.environ.get("MUTANTS_TEST_ARGUMENTS", "").split()

SELECTOR = """
/// The number of the mutant that is played.
pub(crate) fn mutant() -> usize {
    static PLAYED: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0)
    });
    *PLAYED
}
"""


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def offset(starts, place):
    return starts[place["line"] - 1] + place["column"] - 1


def body_of(text, begin, end, name):
    """Where the body of a function is, within its braces; nothing if it cannot be wrapped."""
    head = re.compile(r"^[ \t]*(pub(\([^)]*\))?[ \t]+)?(async[ \t]+)?fn[ \t]+" + re.escape(name) + r"\b", re.M)
    found = head.search(text, text.rfind("\n", 0, begin) + 1, end)
    if not found:
        return None
    depth, at = 0, found.end()
    while text[at] != "{" or depth:
        depth += (text[at] in "([") - (text[at] in ")]")
        at += 1
    return None if "-> impl" in text[found.end() : at] else (at + 1, end - 1)


def wrapped(text, mutants):
    """The text of a file with these mutants (by number) in it, and which part of it is of which mutant."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    functions = defaultdict(list)
    for number, mutant in mutants.items():
        if mutant["function"]:
            span = mutant["function"]["span"]
            name = mutant["function"]["function_name"].split("::")[-1]
            body = body_of(text, offset(starts, span["start"]), offset(starts, span["end"]), name)
            if body:
                functions[body].append((number, mutant))
    parts, ranges, done, size = [], [], 0, 0

    def put(part, number=None):
        nonlocal size
        if number:
            ranges.append((size, size + len(part), number))
        parts.append(part)
        size += len(part)

    for (begin, end), held in sorted(functions.items()):
        if begin < done:
            continue
        put(text[done:begin] + " match crate::mutant() {\n")
        for number, mutant in held:
            first, last = offset(starts, mutant["span"]["start"]), offset(starts, mutant["span"]["end"])
            put(f"{number} => {{")
            put(text[begin:first] + mutant["replacement"] + text[last:end], number)
            put("}\n")
        put("_ => {" + text[begin:end] + "}\n}")
        done = end
    put(text[done:])
    return "".join(parts), ranges


def errors(sources):
    """The mutants that do not compile."""
    check = [CARGO, "check", "--lib", "--message-format=json", "--quiet"]
    said = subprocess.run(check, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    wrong = set()
    for line in said.stdout.splitlines():
        message = json.loads(line).get("message")
        if not isinstance(message, dict) or message["level"] != "error" or not message["spans"]:
            continue
        found = set()
        for span in message["spans"]:
            text, ranges = sources.get(span["file_name"], ("", []))
            at = len(text.encode()[: span["byte_start"]].decode()) if ranges else 0
            index = bisect.bisect_right([begin for begin, _, _ in ranges], at) - 1
            if index >= 0 and at < ranges[index][1]:
                found.add(ranges[index][2])
        if not found:
            sys.exit(f"not an error of a mutant: {message['rendered']}")
        wrong |= found
    if said.returncode and not wrong:
        sys.exit("the build with all mutants fails, and not for a mutant")
    return wrong


def prepare(listed):
    shutil.rmtree(BUILD / "package", ignore_errors=True)
    shutil.copytree(".", BUILD / "package", ignore=shutil.ignore_patterns("mutants.out*", "target"))
    mutants = defaultdict(dict)
    for number, mutant in enumerate(json.loads(Path(listed).read_text()), start=1):
        mutants[mutant["file"]][number] = mutant
    known, originals = {}, {}
    for file, held in mutants.items():
        text = Path(file).read_text()
        originals[file] = digest(text)
        starts = [0]
        for line in text.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        for number, mutant in held.items():
            first, last = offset(starts, mutant["span"]["start"]), offset(starts, mutant["span"]["end"])
            known[digest(text[:first] + mutant["replacement"] + MARKER + text[last:])] = number
    os.chdir(BUILD / "package")
    with open("src/lib.rs", "a") as lib:
        lib.write(SELECTOR)
    texts = {file: Path(file).read_text() for file in mutants}
    unviable = set()
    while True:
        sources = {}
        for file, held in mutants.items():
            viable = {number: mutant for number, mutant in held.items() if number not in unviable}
            sources[file] = wrapped(texts[file], viable)
            Path(file).write_text(sources[file][0])
        wrong = errors(sources)
        unviable |= wrong
        if not wrong:
            break
        print(f"{len(wrong)} do not compile", flush=True)
    held = {number for _, ranges in sources.values() for _, _, number in ranges} | unviable
    named = [flag for target in TARGETS for flag in (["--lib"] if target == "lib" else ["--test", target])]
    build = [CARGO, "test", "--no-run", "--message-format=json-render-diagnostics", *named]
    said = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True)
    binaries = {}
    for line in said.stdout.splitlines():
        made = json.loads(line)
        if made.get("executable"):
            binaries["lib" if "lib" in made["target"]["kind"] else made["target"]["name"]] = made["executable"]
    kept = {text: number for text, number in known.items() if number in held}
    state = {"known": kept, "originals": originals, "unviable": sorted(unviable)}
    state["binaries"] = [binaries[target] for target in TARGETS]
    (BUILD / "state.json").write_text(json.dumps(state))
    print(f"{len(known)} mutants, {len(unviable)} do not compile, {len(known) - len(kept)} need a build of their own")


def played(state):
    """Which mutant the sources hold: 0 if none, nothing if it is not in the one build."""
    for file, original in state["originals"].items():
        if (here := digest(Path(file).read_text())) != original:
            return state["known"].get(here)
    return 0


def is_green(binary, environment):
    """Runs the tests of a binary up to the first that is red: others may hang on what it saw."""
    run = subprocess.Popen(
        [binary, "--test-threads=8", *TEST_ARGUMENTS],
        env=environment,
        cwd=BUILD / "package",
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in run.stdout:
        print(line, end="", flush=True)
        if line.rstrip().endswith("FAILED"):
            run.kill()
            return False
    return run.wait() == 0


def test(arguments):
    state = json.loads((BUILD / "state.json").read_text())
    number = played(state)
    if number is None:
        os.execvp(CARGO, [CARGO, *arguments])
    if number in state["unviable"]:
        sys.exit("this mutant does not compile")
    if "--no-run" in arguments:
        return
    environment = {**os.environ, "MUTANT": str(number), "CARGO_MANIFEST_DIR": os.getcwd()}
    for binary in state["binaries"]:
        if not is_green(binary, environment):
            sys.exit(101)


if __name__ == "__main__":
    if sys.argv[1:2] == ["prepare"]:
        prepare(sys.argv[2])
    elif "test" in sys.argv[1:]:
        test(sys.argv[1:])
    else:
        os.execvp(CARGO, [CARGO, *sys.argv[1:]])
