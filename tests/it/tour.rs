//! Runs the commands in README.md and docs/tour.md with the real grpcurl, and compares their output.

use std::{collections::HashMap, process::Command};

use crate::harness::{Process, raw::methods, skip_test};

const README: &str = include_str!("../../README.md");
const TOUR: &str = include_str!("../../docs/tour.md");
const API: &str = include_str!("../../docs/api.md");
/// The address that the documents use.
const ADDRESS: &str = "127.0.0.1:50051";

/// A command in a document, and its documented output.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
}

#[tokio::test]
async fn the_tour_of_the_readme_works_as_it_says() {
    let tour = section(README, "## Tour\n");
    walk("the_tour_of_the_readme_works_as_it_says", tour, 6).await;
}

#[tokio::test]
async fn the_long_tour_works_as_it_says() {
    walk("the_long_tour_works_as_it_says", TOUR, 24).await;
}

/// Runs the commands in a text, at least `least` calls, on an empty database, and compares their output.
async fn walk(test: &str, text: &str, least: usize) {
    if Command::new("grpcurl").arg("-version").output().is_err() {
        return skip_test(test, "grpcurl is not on the path");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let server = Process::start(&format!("sqlite:{}", dir.path().join("tour.db").display())).await;
    let steps = steps_of(text);
    let calls = steps
        .iter()
        .filter(|step| step.command.starts_with("grpcurl"))
        .count();
    assert!(calls >= least, "{calls} calls were found: {steps:?}");

    // Ids and page tokens differ in every run: those of the text are mapped to those returned in their places.
    let mut ids: HashMap<String, String> = HashMap::new();
    let mut variables = String::new();
    for Step { command, output } in steps {
        let mut command = command;
        for (theirs, ours) in &ids {
            command = command.replace(theirs, ours);
        }
        if !command.starts_with("grpcurl") {
            variables.push_str(&command);
            variables.push('\n');
            continue;
        }
        let script = format!(
            "{variables}{}",
            command.replace(ADDRESS, &server.address.to_string())
        );
        let run = Command::new("sh")
            .args(["-c", &script])
            .output()
            .expect("sh runs");
        let printed = [run.stdout, run.stderr].concat();
        let printed = String::from_utf8(printed).expect("text");
        let failed = output.contains("ERROR:");
        assert_eq!(run.status.success(), !failed, "{command}\n{printed}");
        let (shape, seen) = shape(&printed);
        let (expected, theirs) = self::shape(&output);
        assert_eq!(
            shape, expected,
            "{command}\nprints\n{printed}\nand not\n{output}"
        );
        for (theirs, ours) in theirs.into_iter().zip(seen) {
            let known = ids.entry(theirs).or_insert_with(|| ours.clone());
            assert_eq!(*known, ours, "{command}\n{printed}");
        }
    }
    server.stop().await;
}

#[test]
fn the_readme_has_the_two_commands_and_api_md_every_rpc() {
    for command in ["$ cargo run --release\n", "$ cargo test\n"] {
        assert!(README.contains(command), "no {command}");
    }
    let table = section(API, "## RPCs\n");
    for method in methods() {
        assert!(
            table.contains(&format!("`{}`", method.name())),
            "no {}",
            method.name()
        );
        let service = method.parent_service().full_name().to_owned();
        assert!(table.contains(&format!("`{service}`")), "no {service}");
    }
}

/// The text below a heading, up to the next heading.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, section) = text
        .split_once(heading)
        .unwrap_or_else(|| panic!("no {heading}"));
    section.split("\n## ").next().unwrap_or(section)
}

/// The commands in a text, each with its documented output.
fn steps_of(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("split gives at least one");
        for step in format!("\n{block}").split("\n$ ").skip(1) {
            let mut lines = step.lines();
            let mut command = String::new();
            for line in lines.by_ref() {
                command.push_str(line);
                if !line.ends_with('\\') {
                    break;
                }
                command.push('\n');
            }
            let output = lines.collect::<Vec<_>>().join("\n");
            steps.push(Step { command, output });
        }
    }
    steps
}

/// The part of an output that is the same in every run: without white space, times, and ids and page tokens, which
/// are returned separately.
fn shape(output: &str) -> (Vec<String>, Vec<String>) {
    let mut ids = Vec::new();
    let mut lines = Vec::new();
    for line in output.lines() {
        if line.trim_start().starts_with("\"nextPageToken\"") {
            let token = line.split('"').nth(3).expect("a token");
            ids.push(token.to_owned());
            lines.push("nextPageToken".to_owned());
            continue;
        }
        let mut words = Vec::new();
        for word in line.split_whitespace() {
            let mut shaped = String::new();
            for part in word.split_inclusive('"') {
                let bare = part.trim_end_matches('"');
                let quote = &part[bare.len()..];
                let kind = if bare.parse::<sea_orm::prelude::Uuid>().is_ok() {
                    ids.push(bare.to_owned());
                    "ID"
                } else if bare.starts_with("20") && bare.ends_with('Z') && bare.contains('T') {
                    "TIME"
                } else {
                    bare
                };
                shaped.push_str(kind);
                shaped.push_str(quote);
            }
            words.push(shaped);
        }
        if !words.is_empty() {
            lines.push(words.join(" "));
        }
    }
    (lines, ids)
}
