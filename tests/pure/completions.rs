//! What the package brings for shells is what the command line is.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use hr_gateway::cli::Cli;

/// Without `help …` for each command once more, which is half of it: there is `--help`.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

#[test]
fn the_packages_completions_are_those_of_the_command_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/debian/completions");
    for (shell, name) in
        [(Shell::Bash, "hr-gatewayd"), (Shell::Zsh, "_hr-gatewayd"), (Shell::Fish, "hr-gatewayd.fish")]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut without_help(Cli::command()), "hr-gatewayd", &mut script);
        let kept = folder.join(name);
        if std::env::var_os("WRITE_COMPLETIONS").is_some() {
            std::fs::write(&kept, &script).unwrap();
        }
        let same = std::fs::read(&kept).is_ok_and(|kept| kept == script);
        assert!(same, "{name} is of another day: run this test with WRITE_COMPLETIONS=1");
    }
}
