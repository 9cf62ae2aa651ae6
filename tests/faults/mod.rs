//! What goes wrong on the worst day, on real servers and real processes. `README.md` beside this file is the
//! table: each fault, what has to come of it, and the test that shows it.
//!
//! `alone`: one daemon on the whole world. `several`: three daemons on an etcd cluster of three.

mod alone;
mod several;

use std::path::Path;

/// Every name of a test that stands in a row, and the sources of all tests.
#[test]
fn each_row_of_the_matrix_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let table = std::fs::read_to_string(root.join("faults/README.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let is_row = |line: &&str| line.strip_prefix("| ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit()));
    let rows: Vec<&str> = table.lines().filter(is_row).collect();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    for row in rows {
        // Number, fault, safe behaviour, test, last result.
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, _, _, test, result] = cells[..] else { panic!("a row has five cells: {row}") };
        assert!(!result.contains("FAILED"), "{row}");
        let name = test.trim_matches('`');
        let is_there = sources.contains(&format!("fn {name}(")) || sources.contains(&format!("    {name}: "));
        assert!(is_there, "there is no test {name}");
    }
}
