//! What is printed for shells and for `man`.

use std::process::{Command, Stdio};

use crate::{harness::not_run, settings::output};

async fn printed(args: &[&str]) -> String {
    let variables = [("GROUP_SERVICE_DATABASE_URL", "sqlite:secret.db")];
    let output = output(args, &variables).await;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
    assert_eq!(complaint, "");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in ["migrate", "healthcheck", "new-history", "database-url"] {
        // As roff has it, too.
        let there = text.contains(part) || text.contains(&part.replace('-', "\\-"));
        assert!(there, "no {part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    text
}

/// Gives a text to a program that must not complain; false if there is no such program.
fn accepted(program: &str, args: &[&str], text: &str) -> bool {
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
async fn completions_are_what_the_shells_understand() {
    for (shell, args) in [
        ("bash", &["-n"][..]),
        ("zsh", &["-n"]),
        ("fish", &["--no-execute"]),
    ] {
        let text = printed(&["completions", shell]).await;
        // bash is everywhere; of the others whatever is there.
        assert!(accepted(shell, args, &text) || shell != "bash");
    }
}

#[tokio::test]
async fn the_manual_page_has_every_command_and_setting() {
    let page = printed(&["man"]).await;
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
    if !accepted("groff", &["-man", "-Tutf8", "-ww"], &page) {
        not_run(
            "the_manual_page_has_every_command_and_setting",
            "there is no groff",
        );
    }
}
