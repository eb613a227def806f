//! Architecture rules that the compiler doesn't check (ARCHITECTURE.md).

use std::{
    collections::{BTreeMap, BTreeSet},
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
            "src/telemetry/log_writer",
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
        "the domain imports no other room",
    ),
    (
        &["migrations/"],
        &["group_service"],
        "a migration does tomorrow what it did when it was written",
    ),
];

/// The rooms of `src/`, and which other rooms each may import. ARCHITECTURE.md has the same table.
const ROOMS: [(&str, &[&str]); 16] = [
    ("auth", &["domain", "entity", "error", "store", "tls"]),
    ("codec", &["domain", "error", "listen"]),
    ("config", &["auth", "domain", "store"]),
    ("domain", &[]),
    ("entity", &["domain"]),
    ("error", &["domain"]),
    ("feed", &["domain", "error", "store"]),
    ("fuzzing", &["codec", "domain", "grpc", "listen"]),
    (
        "grpc",
        &[
            "auth", "codec", "domain", "entity", "error", "feed", "listen", "metrics", "pb",
            "store",
        ],
    ),
    ("listen", &["auth", "config", "store", "tls"]),
    ("metrics", &["feed", "listen", "store", "telemetry", "tls"]),
    ("pb", &["codec"]),
    (
        "server",
        &[
            "auth", "config", "feed", "grpc", "listen", "metrics", "pb", "store", "tls",
        ],
    ),
    ("store", &["domain", "entity", "error"]),
    ("telemetry", &["config"]),
    ("tls", &[]),
];
/// Imports that only generated code has.
const GENERATED: (&str, &str) = ("pb", "codec");

/// The code imports exactly what the table says, and so does ARCHITECTURE.md.
#[test]
fn rooms_import_what_the_table_says() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&Path::new(ROOT).join("src")) {
        let path = file.strip_prefix(ROOT).expect("below the root");
        let room = path.iter().nth(1).expect("a file").to_string_lossy();
        let room = room.trim_end_matches(".rs").to_owned();
        // The binary may import everything.
        if ["lib", "main", "command"].contains(&&*room) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("read");
        let imports = used.entry(room.clone()).or_default();
        imports.extend(imported_rooms(&text).into_iter().filter(|to| *to != room));
    }
    let document = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).expect("read");
    let rooms: Vec<_> = used.keys().map(String::as_str).collect();
    assert_eq!(rooms, ROOMS.map(|(room, _)| room));
    for (room, allowed) in ROOMS {
        let allowed: BTreeSet<_> = allowed.iter().map(|to| (*to).to_owned()).collect();
        let mut used = used[room].clone();
        if room == GENERATED.0 {
            used.insert(GENERATED.1.to_owned());
        }
        assert_eq!(used, allowed, "imports of src/{room}");
        let row = format!("| `src/{room}.rs`");
        let row = document.lines().find(|line| line.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row of src/{room}.rs"));
        let column = row.split('|').nth(3).expect("a third column");
        let documented = column.split('`').skip(1).step_by(2);
        let documented: BTreeSet<_> = documented
            .filter(|word| rooms.contains(word))
            .map(str::to_owned)
            .collect();
        assert_eq!(documented, allowed, "ARCHITECTURE.md: src/{room}");
    }
}

#[test]
fn rooms_have_no_import_cycle() {
    let mut left: BTreeMap<_, BTreeSet<_>> = ROOMS
        .iter()
        .map(|(room, imports)| (*room, imports.iter().copied().collect()))
        .collect();
    // Takes out rooms that import none of those left, until all are out or the rest is in cycles.
    while let Some(leaf) = left
        .iter()
        .find(|(_, imports)| imports.iter().all(|to| !left.contains_key(to)))
        .map(|(room, _)| *room)
    {
        left.remove(leaf);
    }
    assert!(
        left.is_empty(),
        "cycles between rooms, or into them: {left:?}"
    );
}

/// The rooms in paths that begin with `crate::`, alone or as a list in braces.
fn imported_rooms(text: &str) -> BTreeSet<String> {
    let code: Vec<_> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code = code.join("\n");
    let mut rooms = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            rooms.insert(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = 0;
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    rooms.insert(identifier(list[item..at].trim_start()));
                    item = at + 1;
                    if character == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    rooms.remove("");
    rooms
}

/// The identifier that a text begins with.
fn identifier(text: &str) -> String {
    let is_part = |character: &char| character.is_alphanumeric() || *character == '_';
    text.chars().take_while(is_part).collect()
}

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
