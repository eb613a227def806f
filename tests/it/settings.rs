//! The program's settings.

use std::{net::TcpListener, process::Output, time::Duration};

use crate::harness::binary;

pub(crate) async fn output(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command
        .args(args)
        .envs(variables.iter().copied())
        .current_dir(dir.path());
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    output.expect("it ends").expect("it starts")
}

/// One sentence on standard error, exit code 2, and nothing else.
pub(crate) fn refused(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for noise in ["panicked", "Error {", "backtrace", "secret"] {
        assert!(!stderr.contains(noise), "{stderr}");
    }
    stderr
}

#[tokio::test]
async fn a_wrong_setting_is_one_sentence_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    for (args, part) in [
        (
            &["--listen", "nonsense"][..],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "127.0.0.1"],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "300.0.0.1:1"],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "127.0.0.1:65536"],
            "must be an IP address and a port",
        ),
        (&["--listen", ""], "--listen"),
        (&["--listen"], "--listen"),
        (
            &["--listen", &taken, "--database-url", &url],
            "can't listen on",
        ),
        (
            &[
                "--insecure",
                "--listen",
                "192.0.2.1:1",
                "--database-url",
                &url,
            ],
            "can't listen on 192.0.2.1:1",
        ),
        (&["--log", "loud"], "must be error, warn, info"),
        (&["--log", ""], "--log"),
        (&["--log", "info,"], "must be error, warn, info"),
        (&["--colour"], "--colour"),
        (&["sing"], "sing"),
        (&["serve", "now"], "now"),
        (
            &["--database-url", "oracle://me:secret@db.example/shop"],
            "must begin with `sqlite:`, `postgres://`, `mysql://` or `mariadb://`",
        ),
        (
            &["--database-url", "postgres://me:secret@db.example"],
            "must name a database",
        ),
        (
            &["--database-url", "mysql://me:secret@db.example:port/shop"],
            "can't be read",
        ),
        (
            &["--database-url", "mysql://me:12/secret@db.example/shop"],
            "can't be read",
        ),
        (
            &["--read-database-url", "me:secret@db.example/shop"],
            "--read-database-url: the database URL must begin",
        ),
        (
            &[
                "--database-url",
                "postgres://me:secret@127.0.0.1:1/shop",
                "--connect-timeout",
                "1s",
                "--log",
                "off",
            ],
            "can't open the database postgres://127.0.0.1:1/shop: ",
        ),
        (&["--database-connections", "1"], "--database-connections"),
        (&["--connect-timeout", "soon"], "--connect-timeout"),
        (&["--database-url", "shop.db"], "must begin with `sqlite:`"),
        (&["--database-url", ""], "must begin with `sqlite:`"),
        (&["--database-url", "sqlite:"], "must name a file"),
        (&["--database-url", "sqlite::memory:"], "must name a file"),
        (
            &["--database-url", "sqlite:a.db?mode=secret"],
            "takes no parameters",
        ),
    ] {
        let sentence = refused(&output(args, &[]).await);
        assert!(sentence.contains(part), "{args:?}: {sentence}");
    }
    for (variable, value, part) in [
        ("GROUP_SERVICE_LISTEN", "x", "--listen"),
        (
            "GROUP_SERVICE_DATABASE_URL",
            "mysql://me:secret@db",
            "must name a database",
        ),
        ("GROUP_SERVICE_LOG", "loud", "--log"),
    ] {
        let sentence = refused(&output(&[], &[(variable, value)]).await);
        assert!(sentence.contains(part), "{variable}: {sentence}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("listed").count(),
        0,
        "nothing was created"
    );
}

#[tokio::test]
async fn help_and_version_tell_what_there_is() {
    let help = output(&["--help"], &[("GROUP_SERVICE_DATABASE_URL", "secret")]).await;
    let text = String::from_utf8(help.stdout).expect("text");
    assert!(help.status.success());
    for part in [
        "--listen",
        "GROUP_SERVICE_LISTEN",
        "127.0.0.1:50051",
        "--database-url",
        "GROUP_SERVICE_DATABASE_URL",
        "sqlite:group-service.db",
        "--log",
        "serve",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    let version = output(&["--version"], &[]).await;
    let expected = format!("group-service {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).expect("text"), expected);
}
