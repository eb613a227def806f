//! Runs this program as a baseline or as a client, in a separate process that shares nothing with what it is
//! compared with.
//!
//! A child ends when its standard input is closed, so that it doesn't outlive its parent.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{arrivals, bare, caller, raw};

/// First argument of a child process.
pub(crate) const CHILD_ARGUMENT: &str = "child";

/// A child process and its standard input and output.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl ChildProcess {
    /// Starts this program in a role, pinned to these cores if given.
    pub(crate) fn start(role: &str, arguments: &[&str], cores: Option<&str>) -> Self {
        let own = std::env::current_exe().expect("a path");
        let mut process = on_cores(&own, cores)
            .args([CHILD_ARGUMENT, role])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self {
            process,
            input,
            output,
        }
    }

    /// Sends bytes to the child.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("open until the end");
        input.write_all(bytes).expect("it listens");
        input.flush().expect("it listens");
    }

    /// Reads the next line of the child's output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        assert!(!line.is_empty(), "a child has ended too early");
        line.trim_end().to_owned()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command pinned to these cores if given. The process ends with the thread that starts it, even if that is killed.
pub(crate) fn on_cores(program: &Path, cores: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(cores) = cores {
        command.args(["taskset", "--cpu-list", cores]);
    }
    command.arg(program);
    command
}

/// Main function of a child process.
pub(crate) fn main(mut arguments: Vec<String>) {
    let role = if arguments.is_empty() {
        String::new()
    } else {
        arguments.remove(0)
    };
    match role.as_str() {
        "bare" => bare::main(&arguments),
        "arrivals" => arrivals::main(&arguments),
        "caller" => caller::main(&arguments),
        "raw" => raw::main(&arguments),
        _ => panic!("no such role: {role}"),
    }
}
