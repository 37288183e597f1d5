//! From the command line to the commands, and from their errors to one line and an exit code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

mod args;
mod cache_dir;
mod config;
mod daemon;
mod exec;
mod filesystem;
mod forecast;
mod inspect;
mod logging;
mod manual;
mod materialize;
mod meter;
mod mount;
mod open;
mod output;
mod place;
mod private_folder;
mod report;
mod slurm;
mod state;
mod status;
mod stop;
mod unmount;
mod update;
mod verify;

use args::{Cli, Command};

/// The exit codes that scripts may rely on (0 is success).
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const DIFFERENT: u8 = 3;
const INCOMPLETE: u8 = 4;

/// Runs the program.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let json = cli.command.json();
    // The panic itself has been printed, or is in the log.
    let panicked = |_| Err(anyhow::anyhow!("internal error; please report it, with the panic that was logged before"));
    match catch_unwind(AssertUnwindSafe(|| dispatch(cli))).unwrap_or_else(panicked) {
        Ok(code) => code,
        Err(error) => {
            let message = one_line(&format!("{error:#}"));
            output::error(&message);
            if json {
                output::json("error", serde_json::json!({ "error": message }));
            }
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let as_daemon = cli.daemon_child;
    match cli.command {
        Command::Inspect(args) => inspect::run(&args.into()),
        Command::Mount(args) => mount::run(&config::MountConfig::new(args, as_daemon)?),
        Command::Exec(args) => exec::run(&config::ExecConfig::new(args)?),
        Command::Materialize(args) => materialize::run(&config::CopyConfig::new(args)?),
        Command::Verify(args) => verify::run(&config::VerifyConfig::new(args)?),
        Command::Status(args) => status::run(args.mountpoint.as_deref(), args.json),
        Command::Unmount(args) => unmount::run(&args.into()),
        Command::Completions { shell } => Ok(manual::completions(shell)),
        Command::Man => manual::page(),
    }
}

/// Help and version are answers; everything else is a mistake, told in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(USAGE);
    }
    // clap writes paragraphs: the mistake, tips, the usage, a pointer to the help.
    let text = error.render().to_string();
    let paragraphs: Vec<String> = text.split("\n\n").map(one_line).collect();
    let mistake = paragraphs[0].trim_start_matches("error: ");
    let tip = paragraphs.iter().find(|paragraph| paragraph.starts_with("tip: ")).map(|tip| format!(" ({tip})"));
    output::error(&format!("{mistake}{}; see rechunkfs --help", tip.unwrap_or_default()));
    ExitCode::from(USAGE)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
