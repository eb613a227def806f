use std::io::Write;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, italic, roman},
};
use group_service::config::Config;

/// Prints a shell completion script.
pub(super) fn completions(shell: Shell) -> Result<(), (u8, String)> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Config::command(), "group-service", &mut text);
    print(&text)
}

/// Prints the manual page, a single one for all commands.
pub(super) fn man() -> Result<(), (u8, String)> {
    let mut text = Vec::new();
    let page = page(&mut text);
    page.map_err(|error| (1, format!("the page can't be made: {error}")))?;
    print(&text)
}

fn page(text: &mut Vec<u8>) -> std::io::Result<()> {
    let program = Config::command();
    let page = Man::new(program.clone().disable_help_subcommand(true)).manual("Operator's manual");
    page.render_title(text)?;
    page.render_name_section(text)?;
    page.render_synopsis_section(text)?;
    page.render_description_section(text)?;
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    for command in program.get_subcommands() {
        describe(&mut commands, "", command);
    }
    commands.to_writer(text)?;
    page.render_options_section(text)?;
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in [
        ("0", "It was done."),
        (
            "1",
            "It failed, or healthcheck found no server that serves.",
        ),
        (
            "2",
            "A setting is wrong, or what it names can't be worked with: one sentence on standard error says why.",
        ),
    ] {
        rest.control("TP", []).text([bold(status)]);
        rest.text([roman(meaning)]);
    }
    rest.to_writer(text)?;
    page.render_version_section(text)
}

/// Describes a command with its own arguments, or its subcommands.
fn describe(page: &mut Roff, above: &str, command: &Command) {
    let name = format!("{above}{}", command.get_name());
    if command.has_subcommands() {
        for below in command.get_subcommands() {
            describe(page, &format!("{name} "), below);
        }
        return;
    }
    let own = command.get_arguments().filter(|argument| {
        !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str())
    });
    let own: Vec<_> = own.collect();
    let mut head = vec![bold(name)];
    for argument in &own {
        let value = argument.get_value_names().unwrap_or_default();
        let value = value.iter().map(|value| value.as_str()).next();
        let value = value.filter(|_| argument.get_action().takes_values());
        let (open, close) = if argument.is_required_set() {
            (" ", "")
        } else {
            (" [", "]")
        };
        head.push(roman(open));
        if let Some(long) = argument.get_long() {
            head.push(bold(format!("--{long}")));
            head.push(roman(if value.is_some() { " " } else { "" }));
        }
        head.push(italic(value.unwrap_or_default()));
        head.push(roman(close));
    }
    page.control("TP", []).text(head);
    let about = command.get_long_about().or(command.get_about());
    page.text([roman(format!(
        "{}.",
        about.map(ToString::to_string).unwrap_or_default()
    ))]);
    for argument in own {
        let name = match argument.get_long() {
            Some(long) => bold(format!("--{long}")),
            None => italic(argument.get_id().as_str().to_uppercase()),
        };
        let help = argument.get_help().map(ToString::to_string);
        page.control("RS", []).control("TP", []).text([name]);
        page.text([roman(format!("{}.", help.unwrap_or_default()))]);
        page.control("RE", []);
    }
}

fn print(text: &[u8]) -> Result<(), (u8, String)> {
    let printed = std::io::stdout().write_all(text);
    printed.map_err(|error| (1, format!("it can't be printed: {error}")))
}
