//! Architecture rules that the compiler doesn't check (ARCHITECTURE.md).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Forbidden imports: path prefixes of files, forbidden modules and types, and the reason.
const IMPORT_RULES: [(&[&str], &[&str], &str); 4] = [
    (
        &[
            "src/domain",
            "src/entity",
            "src/store",
            "src/feed",
            "src/error",
            "src/config",
            // All but `otlp.rs`, which exports spans over gRPC.
            "src/telemetry.rs",
            "src/telemetry/filter",
            "src/telemetry/format",
            "src/telemetry/lines",
            "migrations/",
        ],
        &[
            "tonic",
            "tonic_types",
            "tonic_health",
            "prost",
            "prost_types",
            "pb",
        ],
        "wire types stay at the edge",
    ),
    (
        &[
            "src/grpc",
            "src/server",
            "src/main",
            "src/config",
            "src/telemetry",
            "src/error",
            "src/domain",
        ],
        &[
            "EntityTrait",
            "ConnectionTrait",
            "QueryFilter",
            "QuerySelect",
            "TransactionTrait",
            "Statement",
            "sqlx",
        ],
        "queries stay in the store",
    ),
    (
        &["src/domain"],
        &["store", "grpc", "entity", "server", "error"],
        "the domain knows nobody",
    ),
    (
        &["migrations/"],
        &["group_service"],
        "a migration does tomorrow what it did when it was written",
    ),
];

#[test]
fn import_rules_hold() {
    let mut breaches = Vec::new();
    let files: Vec<_> = ["src", "migrations"]
        .iter()
        .flat_map(|dir| rust_files(&Path::new(ROOT).join(dir)))
        .collect();
    assert!(files.len() > 30, "{files:?}");
    for file in files {
        let path = file
            .strip_prefix(ROOT)
            .expect("below the root")
            .display()
            .to_string();
        let text = fs::read_to_string(&file).expect("read");
        for (places, words, why) in IMPORT_RULES {
            if places.iter().any(|place| path.starts_with(place)) {
                breaches.extend(
                    code_words(&text)
                        .filter(|(_, word)| words.contains(word))
                        .map(|(line, word)| format!("{path}:{line}: `{word}`: {why}")),
                );
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// The identifiers in a file that are part of a path (`word::`), with their line numbers; without comments. A
/// module's own `mod word` and `self::word` don't count.
fn code_words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(number, line)| {
        let code = line.split("//").next().unwrap_or_default();
        let is_mod = code
            .trim_start()
            .trim_start_matches("pub ")
            .starts_with("mod ");
        code.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(move |word| !is_mod && !word.is_empty())
            .filter(move |word| {
                // Types match by name; crates and modules only where a path starts with them.
                word.starts_with(char::is_uppercase)
                    || code.contains(&format!("{word}::"))
                    || code.contains(&format!("use {word};"))
            })
            .map(move |word| (number + 1, word))
    })
}

#[test]
fn source_files_stay_within_300_lines() {
    // Exceptions: a file, and the reason why it is longer.
    let known: [(&str, &str); 0] = [];
    let long: Vec<_> = rust_files(&Path::new(ROOT).join("src"))
        .into_iter()
        .filter(|file| fs::read_to_string(file).expect("read").lines().count() > 300)
        .map(|file| {
            file.strip_prefix(ROOT)
                .expect("below the root")
                .display()
                .to_string()
        })
        .filter(|file| known.iter().all(|(known, _)| known != file))
        .collect();
    assert!(long.is_empty(), "over 300 lines: {long:?}");
}

#[test]
fn top_level_contains_only_expected_entries() {
    let known = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "benches",
        "build.rs",
        "deploy",
        "docs",
        "fuzz",
        "migrations",
        "proto",
        "src",
        "tests",
        "textkeys",
    ];
    let there: BTreeSet<_> = fs::read_dir(ROOT)
        .expect("listed")
        .map(|entry| {
            entry
                .expect("listed")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter(|name| {
            !name.starts_with('.') && name != "target" && !name.contains("group-service.db")
        })
        .collect();
    assert_eq!(there, known.map(str::to_owned).into());
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}
