//! Starts a separate server and database for each test, and checks its responses.

mod database;
mod process;
pub(crate) mod raw;
pub(crate) mod servers;
mod spans;
mod status;
mod test_server;
mod write_lock;

pub(crate) use database::{DISPOSABLE_VARIABLE, Database, SERVER_URL_VARIABLE, engine};
pub(crate) use process::{Process, binary, binary_with_ulimit};
pub(crate) use spans::Trace;
pub(crate) use status::{CallError, expect_error};
pub(crate) use test_server::{Groups, TestServer, unknown_id};
pub(crate) use write_lock::lock_writes;

/// Reports that a test can't run on this machine; fails in CI, where no test may be skipped.
pub(crate) fn skip_test(test: &str, why: &str) {
    let line = format!("NOT RUN: {test}: {why}");
    assert!(std::env::var_os("CI").is_none(), "{line}");
    print_uncaptured(&line);
}

/// Prints to the terminal in spite of the test runner's capture, which shows output of failing tests only.
pub(crate) fn print_uncaptured(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("\n{line}\n\n").as_bytes());
}
