//! Every claim in SECURITY.md names tests that exist.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_security_claim_names_existing_tests() {
    let text = fs::read_to_string(Path::new(ROOT).join("SECURITY.md")).expect("read");
    let tests = tests();
    let mut claims = 0;
    let mut wrong = Vec::new();
    for line in text.lines() {
        let quoted = line.split('`').skip(1).step_by(2);
        let named: Vec<_> = quoted
            .filter(|text| is_test(text) || text.starts_with("fuzz/"))
            .collect();
        for name in &named {
            let there = match name.starts_with("fuzz/") {
                true => Path::new(ROOT).join(name).is_file(),
                false => tests.contains(*name),
            };
            if !there {
                wrong.push(format!("there is no {name}: {line}"));
            }
        }
        // Tables of claims are those with three columns.
        let cells: Vec<_> = line.trim_matches('|').split('|').collect();
        let is_claim = line.starts_with('|') && cells.len() == 3 && !line.starts_with("|---");
        if is_claim && cells[0].trim() != "claim" {
            claims += 1;
            if named.is_empty() {
                wrong.push(format!("nothing proves: {line}"));
            }
        }
    }
    assert!(claims > 20, "{claims} claims");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the text has the form of a test name: `module::name`.
fn is_test(text: &str) -> bool {
    let part = |part: &str| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        !part.is_empty() && part.chars().all(letters)
    };
    text.contains("::") && text.split("::").all(part)
}

/// The existing tests, as listed by the test binary.
fn tests() -> BTreeSet<String> {
    let this = std::env::current_exe().expect("this program");
    let list = Command::new(this)
        .args(["--list", "--format", "terse"])
        .output();
    let list = String::from_utf8(list.expect("it runs").stdout).expect("text");
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let tests: BTreeSet<_> = tests.map(str::to_owned).collect();
    assert!(tests.len() > 100, "{list}");
    tests
}
