//! The README's tour, word for word, with the real grpcurl.

use std::{collections::HashMap, process::Command};

use crate::harness::{Process, not_run, raw::methods};

const README: &str = include_str!("../../README.md");
/// The address that the README uses.
const ADDRESS: &str = "127.0.0.1:50051";

/// A command of the README, and what it prints there.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
}

#[tokio::test]
async fn the_tour_works_as_the_readme_says() {
    if Command::new("grpcurl").arg("-version").output().is_err() {
        return not_run(
            "the_tour_works_as_the_readme_says",
            "grpcurl is not on the path",
        );
    }
    let dir = tempfile::tempdir().expect("a directory");
    let server = Process::start(&format!("sqlite:{}", dir.path().join("tour.db").display())).await;
    let steps: Vec<_> = [
        "## Tour\n",
        "## Ask for access\n",
        "## Follow changes\n",
        "## Errors\n",
    ]
    .into_iter()
    .flat_map(steps_of)
    .collect();
    let calls = steps
        .iter()
        .filter(|step| step.command.starts_with("grpcurl"))
        .count();
    assert!(calls >= 14, "{calls} calls were found: {steps:?}");

    // Ids are new in every run: those of the README stand for those that came in their places.
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
fn the_readme_has_the_two_commands_and_every_rpc() {
    for command in ["$ cargo run --release\n", "$ cargo test\n"] {
        assert!(README.contains(command), "no {command}");
    }
    let (_, table) = README.split_once("## RPCs\n").expect("a table of RPCs");
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

/// The commands of a section, each with the lines that it prints.
fn steps_of(heading: &str) -> Vec<Step> {
    let (_, section) = README
        .split_once(heading)
        .unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap_or(section);
    let mut steps = Vec::new();
    for block in section.split("```console\n").skip(1) {
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

/// What is the same in every run: the output without its ids (which are listed), times, and white space.
fn shape(output: &str) -> (Vec<String>, Vec<String>) {
    let mut ids = Vec::new();
    let mut lines = Vec::new();
    for line in output.lines() {
        if line.trim_start().starts_with("\"nextPageToken\"") {
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
