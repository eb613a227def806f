//! Shell completions and the manual page.

use std::process::{Command, Stdio};

use crate::{harness::skip_test, settings::output};

async fn run_printing(args: &[&str]) -> String {
    let variables = [("GROUP_SERVICE_DATABASE_URL", "sqlite:secret.db")];
    let output = output(args, &variables).await;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
    assert_eq!(complaint, "");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in ["migrate", "healthcheck", "new-history", "database-url"] {
        // roff escapes hyphens.
        let there = text.contains(part) || text.contains(&part.replace('-', "\\-"));
        assert!(there, "no {part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    text
}

/// Checks that a program accepts a text without warnings; false if the program isn't installed.
fn is_accepted_by(program: &str, args: &[&str], text: &str) -> bool {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return false };
    let mut input = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("taken");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{program}: {complaint}"
    );
    true
}

#[tokio::test]
async fn shell_completions_are_valid() {
    for (shell, args) in [
        ("bash", &["-n"][..]),
        ("zsh", &["-n"]),
        ("fish", &["--no-execute"]),
    ] {
        let text = run_printing(&["completions", shell]).await;
        // bash must be installed; the other shells are optional.
        assert!(is_accepted_by(shell, args, &text) || shell != "bash");
    }
}

#[tokio::test]
async fn man_page_lists_every_command_and_setting() {
    let page = run_printing(&["man"]).await;
    for part in [
        "COMMANDS",
        "token create",
        "GROUP_SERVICE_LISTEN",
        "EXIT STATUS",
    ] {
        assert!(
            page.replace("\\-", "-").contains(part),
            "no {part} in {page}"
        );
    }
    if !is_accepted_by("groff", &["-man", "-Tutf8", "-ww"], &page) {
        skip_test(
            "man_page_lists_every_command_and_setting",
            "there is no groff",
        );
    }
}
