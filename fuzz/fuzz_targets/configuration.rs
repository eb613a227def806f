//! Any text as a configuration file, as the value of any setting, and as what is read of some of them. The first byte
//! says which.
#![no_main]

use std::{collections::BTreeSet, sync::OnceLock};

use clap::{CommandFactory, Parser};
use group_service::{
    auth::PermissionGrant,
    config::{Config, LoadError, file, show},
    domain::{Caller, Permissions},
    store::Location,
};
use libfuzzer_sys::fuzz_target;

/// A password, which nothing may repeat.
const PASSWORD: &str = "c0rrect-horse";

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    // Whoever writes the password where none stands sees it again.
    if text.contains(PASSWORD) {
        return;
    }
    let settings = settings();
    match settings.get(usize::from(*which)) {
        Some(setting) => set(setting, &text),
        None => match which % 8 {
            0 => permissions(&text),
            1 => drop(PermissionGrant::parse(&text)),
            2 => location(&text),
            3 => secret(&text),
            4 => load(&text),
            _ => file(&text),
        },
    }
});

fn command() -> &'static clap::Command {
    static COMMAND: OnceLock<clap::Command> = OnceLock::new();
    COMMAND.get_or_init(Config::command)
}

/// The flags that there are, as the program knows them.
fn settings() -> &'static [String] {
    static SETTINGS: OnceLock<Vec<String>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let flags = command().get_arguments().filter_map(|arg| arg.get_long());
        let flags: Vec<_> = flags.map(str::to_owned).collect();
        assert!((20..200).contains(&flags.len()), "{flags:?}");
        flags
    })
}

fn set(setting: &str, text: &str) {
    // The operating system allows no others.
    if text.contains('\0') {
        return;
    }
    match Config::try_parse_from(["group-service".to_owned(), format!("--{setting}={text}")]) {
        Ok(config) => match config.check() {
            Ok(()) => assert!(
                config.network.listen.ip().is_loopback() || config.network.insecure,
                "one setting alone has opened it"
            ),
            Err(reason) => assert!(!format!("{reason:?}").is_empty()),
        },
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A file's text: every key and every mistake has its line.
fn file(text: &str) {
    let (entries, mistakes) = file::parse(text, command());
    let lines = 1..=text.split('\n').count();
    for entry in &entries {
        assert!(lines.contains(&entry.line), "{entry:?}");
        let mut known = command().get_arguments();
        assert!(known.any(|arg| arg.get_id().as_str() == entry.key));
    }
    let keys: BTreeSet<_> = entries.iter().map(|entry| &entry.key).collect();
    assert_eq!(keys.len(), entries.len(), "a key twice");
    for (line, reason) in &mistakes {
        assert!(lines.contains(line), "{line}: {reason}");
        assert!(!reason.is_empty());
    }
}

/// The whole way of a file: what it comes to, or mistakes, each with the file's name, and none with a password.
fn load(text: &str) {
    let path = std::env::temp_dir().join(format!("group-service-{}.toml", std::process::id()));
    let text = format!("database_url = \"postgres://user:{PASSWORD}@host/db\"\n{text}");
    std::fs::write(&path, text).expect("written");
    let args = [
        "group-service".into(),
        "--config".into(),
        path.clone().into(),
    ];
    match Config::load(args) {
        Ok(loaded) => assert!(!show(&loaded.settings).contains(PASSWORD)),
        Err(LoadError::Invalid(mistakes)) => {
            assert!(!mistakes.is_empty());
            for mistake in &mistakes {
                assert!(!mistake.contains(PASSWORD), "{mistake}");
            }
        }
        Err(LoadError::Usage(error)) => panic!("it was the file that was wrong: {error}"),
    }
}

/// What is read is told as it is read again.
fn permissions(text: &str) {
    if let Ok(some) = Permissions::parse(text) {
        let told = some.to_string();
        assert!(!told.is_empty());
        assert_eq!(Permissions::parse(&told), Ok(some));
    }
    if let Ok(caller) = Caller::parse(text) {
        assert_eq!(Caller::parse(caller.as_str()), Ok(caller));
    }
}

fn location(text: &str) {
    match Location::parse(text) {
        Ok(location) => assert!(!location.to_string().is_empty()),
        Err(reason) => assert!(!reason.is_empty()),
    }
}

/// Wherever a password stands, neither the complaint nor what is shown of the location has it.
fn secret(text: &str) {
    let (user, rest) = text.split_once('\n').unwrap_or(("user", text));
    for scheme in ["postgres", "mysql", "mariadb"] {
        let shown = match Location::parse(&format!("{scheme}://{user}:{PASSWORD}@{rest}")) {
            Ok(location) => location.to_string(),
            Err(reason) => reason,
        };
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
}
