//! `claudine man`

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Command, CommandFactory};
use clap_mangen::roff::{Roff, roman};

use super::{Cli, failure::Failure, output};
use crate::app::{AppError, ErrorKind};

/// Write the manual pages.
///
/// Each command has a page: `man claudine-logs` shows the page of `claudine logs`. Without a
/// directory, the page of `claudine` is printed. Write the pages again after an upgrade.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine man ~/.local/share/man/man1
  claudine man | man -l -")]
pub(super) struct Man {
    /// Output directory, created if missing.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let command = command();
        let version = command.get_version().unwrap_or_default();
        match self.dir {
            None => output::bytes(&page(&command, version)?)?,
            Some(dir) => {
                let mut pages = Vec::new();
                collect(&command, version, &mut pages)?;
                write(&pages, &dir)?;
                let (count, dir) = (pages.len(), dir.display());
                output::say(&format!("wrote {count} pages to {dir}"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A page: its file name and its text.
type Page = (String, Vec<u8>);

fn write(pages: &[Page], dir: &Path) -> Result<(), Failure> {
    let cannot = |what: &str, path: &Path, error: io::Error| {
        let message = format!("cannot {what} {}: {error}", path.display());
        AppError::new(ErrorKind::Unavailable, message)
    };
    fs::create_dir_all(dir).map_err(|error| cannot("make", dir, error))?;
    for (name, text) in pages {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| cannot("write", &path, error))?;
    }
    Ok(())
}

fn command() -> Command {
    let mut command = complete(Cli::command()).disable_help_subcommand(true);
    command.build();
    command
}

/// Adds every option to the page, even those that the short help leaves out.
fn complete(command: Command) -> Command {
    command
        .mut_args(|option| option.hide_short_help(false))
        .mut_subcommands(complete)
}

/// Collects the pages of this command and of its subcommands.
fn collect(command: &Command, version: &str, into: &mut Vec<Page>) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    into.push((format!("{name}.1"), page(command, version)?));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        collect(sub, version, into)?;
    }
    Ok(())
}

fn page(command: &Command, version: &str) -> io::Result<Vec<u8>> {
    let man = clap_mangen::Man::new(command.clone())
        // An empty date would make man take the next field as the date.
        .date(" ")
        .source(format!("claudine {version}"))
        .manual("Claudine");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    below(command).to_writer(&mut page)?;
    Ok(page)
}

/// Text below the help: a section for each heading, with the lines unchanged.
fn below(command: &Command) -> Roff {
    let text = command
        .get_after_long_help()
        .or_else(|| command.get_after_help());
    let text = text.map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    for line in text.lines() {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') => {
                roff.control("fi", []);
                roff.control("SH", [heading.to_uppercase().as_str()]);
                roff.control("nf", []);
            }
            _ => {
                roff.text([roman(line)]);
            }
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Collects the full names of all commands, such as `claudine worktree merge`.
    fn typed(command: &Command, path: &str, into: &mut Vec<String>) {
        into.push(path.to_owned());
        for sub in command.get_subcommands() {
            typed(sub, &format!("{path} {}", sub.get_name()), into);
        }
    }

    fn pages() -> Vec<Page> {
        let mut pages = Vec::new();
        collect(&command(), "1.2.3", &mut pages).unwrap();
        pages
    }

    #[test]
    fn each_command_has_a_manual_page() {
        let mut commands = Vec::new();
        typed(&Cli::command(), "claudine", &mut commands);
        let pages = pages();
        assert_eq!(pages.len(), commands.len());
        for (command, (name, page)) in commands.iter().zip(&pages) {
            assert_eq!(*name, format!("{}.1", command.replace(' ', "-")));
            let page = String::from_utf8(page.clone()).unwrap();
            let title = format!(
                ".TH {} 1 \" \" \"claudine 1.2.3\" Claudine\n",
                name.trim_end_matches(".1")
            );
            let synopsis = format!(".SH SYNOPSIS\n\\fB{command}\\fR ");
            for part in [title.as_str(), &synopsis, ".SH \"COMMON OPTIONS\"\n"] {
                assert!(page.contains(part), "{name}: {part}: {page}");
            }
            assert!(!page.contains("help(1)"), "{name}: {page}");
        }
    }

    #[test]
    fn text_below_the_help_keeps_its_lines_in_a_manual_page() {
        let pages = pages();
        let of = |name: &str| {
            let (_, page) = pages.iter().find(|(page, _)| page == name).unwrap();
            String::from_utf8(page.clone()).unwrap()
        };
        let check = |name: &str, part: &str| {
            let page = of(name);
            assert!(page.contains(part), "{name}: {part}: {page}");
        };
        check(
            "claudine-man.1",
            ".SH EXAMPLES\n.nf\n  claudine man ~/.local/share/man/man1\n",
        );
        check(
            "claudine.1",
            ".SH \"EXIT CODES\"\n.nf\n  0        success\n",
        );
        check("claudine.1", ".SH ENVIRONMENT\n.nf\n  CLAUDINE_DATA_DIR ");
        // An option that the short help leaves out.
        check("claudine-delegate.1", "Continue this session of the agent");
    }
}
