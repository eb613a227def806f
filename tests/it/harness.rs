//! A server of one's own for every test, and what tests say of its answers.

mod database;
mod hold;
mod process;
pub(crate) mod raw;
pub(crate) mod servers;
mod spans;
mod status;
mod world;

pub(crate) use database::{Database, SERVER, THROWAWAY, engine};
pub(crate) use hold::hold;
pub(crate) use process::{Process, binary, binary_under};
pub(crate) use spans::Trace;
pub(crate) use status::{Told, told};
pub(crate) use world::{Groups, World, id};

/// Says loudly that a test could not run here; fails where everything must have run.
pub(crate) fn not_run(test: &str, why: &str) {
    let line = format!("NOT RUN: {test}: {why}");
    assert!(std::env::var_os("CI").is_none(), "{line}");
    say(&line);
}

/// Says something past the capture of the test runner, which shows only what failing tests print.
pub(crate) fn say(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("\n{line}\n\n").as_bytes());
}
