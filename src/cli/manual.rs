//! Shell completions and the manual page, made from the arguments themselves.

use std::process::ExitCode;

use clap::CommandFactory;

use super::args::Cli;
use super::output;

/// Prints the completions for `shell`.
pub(crate) fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rechunkfs", &mut script);
    output::text(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Prints one page with all subcommands.
pub(crate) fn page() -> anyhow::Result<ExitCode> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    let top = clap_mangen::Man::new(command.clone());
    top.render_title(&mut page)?;
    top.render_name_section(&mut page)?;
    top.render_synopsis_section(&mut page)?;
    top.render_description_section(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        let name = subcommand.get_name().to_owned();
        let man = clap_mangen::Man::new(subcommand.clone());
        let mut section = Vec::new();
        man.render_synopsis_section(&mut section)?;
        man.render_options_section(&mut section)?;
        // Sections of the page become subsections of the command's.
        let section = String::from_utf8_lossy(&section).replace(".SH ", ".SS ");
        page.extend(format!(".SH \"{}\"\n{about}\n{section}", name.to_uppercase()).bytes());
    }
    top.render_extra_section(&mut page)?;
    output::text(&String::from_utf8_lossy(&page));
    Ok(ExitCode::SUCCESS)
}
