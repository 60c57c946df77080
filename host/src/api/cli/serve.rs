//! `claudine serve`

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{Common, failure::Failure, output};
use crate::{
    api::{Wiring, client::Announcement},
    app::{AppError, HostInfo},
    config::{Begin, Overrides},
};

/// Run the host in the foreground.
///
/// For a service manager, a container, or to watch the host's log on standard error. SIGTERM and
/// SIGINT stop the host like `claudine down`: running tasks continue.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine serve --slots 2
  CLAUDINE_LOG_LEVEL=debug claudine serve --data-dir /tmp/try")]
pub(super) struct Serve {
    /// Limit of concurrent tasks: `auto` or a number, see `claudine slots`.
    #[arg(long, value_name = "auto|N")]
    slots: Option<String>,
    /// Retention of finished tasks, such as `36h` [default: 7d].
    ///
    /// Dependencies of unfinished tasks are kept, and tasks with an idempotency key for at least a
    /// day.
    #[arg(long, value_name = "TIME")]
    keep: Option<String>,
    /// Whether another command started this host. That command reads from the host's standard
    /// output whether the start succeeded.
    #[arg(long, hide = true)]
    background: bool,
    /// Whether a person asked for the host that another command started.
    #[arg(long, hide = true, requires = "background")]
    asked: bool,
    /// Pause the queue before any task starts.
    #[arg(long, hide = true)]
    paused: bool,
    /// Start no tasks, and end once no task runs.
    #[arg(long, hide = true, conflicts_with = "paused")]
    draining: bool,
    /// Start no tasks, and cancel those that run.
    #[arg(long, hide = true, conflicts_with_all = ["paused", "draining"])]
    killing: bool,
}

impl Serve {
    /// Parses the arguments with which another command starts a host in the background, without the
    /// parser of all commands, whose code would stay in the host's memory. Returns none for other
    /// arguments. The second value is the data directory.
    pub(super) fn in_background(arguments: &[OsString]) -> Option<(Self, PathBuf)> {
        let [_, begin @ .., dir] = arguments.get(..5)? else {
            return None;
        };
        if begin != ["serve", "--background", "--data-dir"] {
            return None;
        }
        let mut serve = Self {
            slots: None,
            keep: None,
            background: true,
            asked: false,
            paused: false,
            draining: false,
            killing: false,
        };
        let mut others = arguments[5..].iter().map(|word| word.to_str());
        while let Some(word) = others.next() {
            match word? {
                "--asked" => serve.asked = true,
                "--slots" => serve.slots = Some(value(others.next()??)?),
                "--keep" => serve.keep = Some(value(others.next()??)?),
                "--paused" => serve.paused = true,
                "--draining" => serve.draining = true,
                "--killing" => serve.killing = true,
                _ => return None,
            }
        }
        let begins = [serve.paused, serve.draining, serve.killing];
        let begins = begins.iter().filter(|is_set| **is_set).count();
        (begins <= 1).then(|| (serve, PathBuf::from(dir)))
    }

    pub(super) fn run(self, common: &Common, wiring: Wiring) -> Result<ExitCode, Failure> {
        let overrides = Overrides {
            data_dir: common.data_dir.clone(),
            begin: match (self.paused, self.draining, self.killing) {
                (true, _, _) => Begin::Paused,
                (_, true, _) => Begin::Draining,
                (_, _, true) => Begin::Killing,
                _ => Begin::Usual,
            },
            on_demand: self.background && !self.asked,
            slots: self.slots,
            keep: self.keep,
        };
        let mut ready = |host: &HostInfo| {
            let said = if self.background {
                announce(wiring, &Announcement::Ready(Box::new(host.clone())))
            } else if common.json() {
                output::json(host)
            } else {
                output::say(&format!("host ready: pid {}, {}", host.pid, host.url));
                Ok(())
            };
            if let Err(error) = said {
                tracing::warn!("cannot report that the host is ready: {error}");
            }
        };
        let served = (wiring.serve)(&overrides, self.background, &mut ready);
        match served {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if self.background => fail(wiring, error),
            Err(error) => Err(error.into()),
        }
    }
}

/// The value of an option, unless it could be another option.
fn value(word: &str) -> Option<String> {
    (!word.starts_with('-')).then(|| word.to_owned())
}

/// Logs an error, and passes it on to the command that started this host, which shows the error.
fn fail(wiring: Wiring, error: AppError) -> Result<ExitCode, Failure> {
    output::say(&format!("error: {error}"));
    let code = crate::api::status::of(error.kind).exit;
    announce(wiring, &Announcement::Failed(error))?;
    Ok(code.into())
}

fn announce(wiring: Wiring, announcement: &Announcement) -> Result<(), Failure> {
    let line = serde_json::to_string(announcement).map_err(std::io::Error::from)?;
    Ok((wiring.announce)(&line)?)
}
