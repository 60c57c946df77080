//! Finds supervisors that do nothing, so that their tasks do not end, and compilers of plugins that
//! do nothing.

use claudine_domain::task::{State, Task};

use super::{
    down::{suspended_supervisors, unexamined},
    error::AppError,
    explain::is_queued,
    host::Host,
    view::{HaltKind, HaltView},
};
use crate::{
    fsx,
    identity::HostProcess,
    layout::Layout,
    plugin, proc_stat,
    supervise::{self, Silence, SilenceKind},
};

const IDLE: &str = "so it enforces no limits and notices no ends";

/// A living supervisor or compiler that does nothing, with its pid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Halted {
    /// A signal has stopped it.
    Suspended(u32),
    /// Its control group is frozen.
    Frozen(u32),
}

impl Halted {
    fn pid(self) -> u32 {
        match self {
            Self::Suspended(pid) | Self::Frozen(pid) => pid,
        }
    }

    /// A sentence about a supervisor with the way out.
    pub(super) fn text(self) -> String {
        format!("{}, {IDLE}; {}", self.said_of("supervisor"), self.way_out())
    }

    /// The sentence about a process that compiles a plugin and does nothing.
    pub(crate) fn said_of_compiler(self) -> String {
        self.said_of("process that compiles a plugin")
    }

    fn said_of(self, process: &str) -> String {
        match self {
            Self::Suspended(pid) => format!("the {process} (pid {pid}) is stopped by a signal"),
            Self::Frozen(pid) => {
                format!("the control group of the {process} (pid {pid}) is frozen")
            }
        }
    }

    /// What makes it go on.
    pub(crate) fn way_out(self) -> String {
        match self {
            Self::Suspended(pid) => format!("`kill -CONT {pid}` continues it"),
            Self::Frozen(_) => "it goes on once the group is thawed (`systemctl thaw`, `docker \
                                unpause`)"
                .to_owned(),
        }
    }
}

/// The supervisors that are certain to do nothing. A control group that cannot be seen from here
/// counts as not frozen.
pub(crate) fn halted_supervisors(layout: &Layout) -> Result<Vec<Halted>, AppError> {
    let suspended = suspended_supervisors(layout)?.into_iter();
    let frozen = supervise::frozen(&layout.supervisors()).map_err(|error| unexamined(&error))?;
    let frozen = frozen.into_iter().map(Halted::Frozen);
    Ok(suspended.map(Halted::Suspended).chain(frozen).collect())
}

/// A process that compiles a plugin for the host of this data directory, if a signal has stopped
/// it or its control group is frozen.
pub(crate) fn stopped_compiler(layout: &Layout) -> Option<Halted> {
    stopped_compilers(layout).into_iter().next()
}

/// The processes that compile plugins for the host and do nothing. A process that cannot be looked
/// at is not known to be stopped.
fn stopped_compilers(layout: &Layout) -> Vec<Halted> {
    let host = HostProcess::of(layout);
    let compilers = host.and_then(|host| plugin::compilers_of(host.pid).ok());
    let compilers = compilers.unwrap_or_default();
    let is_stopped = |pid: &u32| {
        let stat = proc_stat::try_stat(*pid).ok().flatten();
        stat.is_some_and(|stat| stat.is_stopped())
    };
    let suspended = compilers.iter().copied().filter(is_stopped);
    let suspended: Vec<Halted> = suspended.map(Halted::Suspended).collect();
    let frozen = supervise::frozen_among(compilers).into_iter();
    suspended
        .into_iter()
        .chain(frozen.map(Halted::Frozen))
        .collect()
}

/// Whether a compiler compiles this plugin: one of its arguments is the plugin's file in the cache.
fn is_compiler_of(pid: u32, plugin: &str) -> bool {
    let line = fsx::read_virtual_lossy(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut files = line
        .split('\0')
        .filter_map(|argument| argument.rsplit('/').next());
    files.any(|file| plugin::belongs_to(file, plugin))
}

/// The supervisors in frozen control groups.
fn frozen_supervisors(layout: &Layout) -> Result<Vec<HaltView>, AppError> {
    let halted = halted_supervisors(layout)?.into_iter();
    let frozen = halted.filter(|one| matches!(one, Halted::Frozen(_)));
    Ok(frozen
        .map(|one| HaltView {
            kind: HaltKind::Frozen,
            pid: Some(one.pid()),
            message: one.text(),
        })
        .collect())
}

fn silent_view(silence: Silence) -> HaltView {
    HaltView {
        kind: match silence.kind {
            SilenceKind::Unreached => HaltKind::Unreached,
            SilenceKind::Unanswered => HaltKind::Unanswered,
            SilenceKind::Unended => HaltKind::Unended,
        },
        pid: silence.pid,
        message: silence.said,
    }
}

/// The supervisor of a running task, if it does nothing. If no process of the task shows which
/// supervisor the task has, any supervisor that does nothing is returned. `None` if the supervisors
/// cannot be examined.
pub(super) fn halted_supervisor(task: &Task, layout: &Layout) -> Option<Halted> {
    if !may_have_supervisor(task) {
        return None;
    }
    let halted = halted_supervisors(layout).unwrap_or_else(|error| {
        tracing::warn!(%error, task = %task.id, "nobody knows whether the task's supervisor is halted");
        Vec::new()
    });
    let leader = task.last_attempt().and_then(|attempt| attempt.leader);
    let parent = leader.and_then(|leader| {
        let stat = proc_stat::try_stat(leader.pid).ok().flatten()?;
        (stat.start_time == leader.start_time).then_some(stat.parent)
    });
    let its_own = |one: &Halted| parent.is_none_or(|parent| parent == one.pid());
    halted.into_iter().find(its_own)
}

fn may_have_supervisor(task: &Task) -> bool {
    matches!(task.state, State::Running { .. }) && !is_queued(task)
}

impl Host {
    /// Why the supervisor of a running task cannot be reached, or does not answer.
    pub(super) fn unreached(&self, task: &Task) -> Option<String> {
        if !may_have_supervisor(task) {
            return None;
        }
        let held_back = (self.held_back)(task.last_attempt_id()?)?;
        let mut silent = (self.silences)().into_iter();
        let is_silent = silent.any(|silence| silence.said == held_back);
        is_silent.then_some(held_back)
    }

    /// The known obstacle to the end of a running task: its supervisor does nothing, or cannot be
    /// reached.
    pub(super) fn halt_of(&self, task: &Task) -> Option<String> {
        let halted = halted_supervisor(task, &self.reader.layout);
        halted.map(Halted::text).or_else(|| self.unreached(task))
    }

    /// The process that compiles a plugin, if that process does nothing.
    pub(super) fn stopped_compiler_of(&self, plugin: &str) -> Option<Halted> {
        let layout = &self.reader.layout;
        // The search passes over all processes of the machine.
        if !layout.is_compiling(std::process::id()) {
            return None;
        }
        let mut stopped = stopped_compilers(layout).into_iter();
        stopped.find(|one| is_compiler_of(one.pid(), plugin))
    }

    /// Whether a supervisor may be one for which [`Self::halt_of`] has a reason.
    pub(super) fn may_have_halted(&self) -> bool {
        let halted = halted_supervisors(&self.reader.layout);
        !halted.is_ok_and(|halted| halted.is_empty()) || !(self.silences)().is_empty()
    }

    /// The supervisors that the host cannot reach or that do not answer, and those in frozen
    /// control groups.
    pub(super) fn halts(&self) -> Vec<HaltView> {
        let silent = (self.silences)().into_iter().map(silent_view);
        // If supervisors cannot be examined, the search for suspended ones says so.
        let frozen = frozen_supervisors(&self.reader.layout).unwrap_or_default();
        silent.chain(frozen).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        fs::{self, File},
        io::Read,
        os::unix::process::CommandExt,
        process::{Command, Stdio},
    };

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::identity::Purpose;

    #[test]
    fn a_compiler_of_the_host_is_found_as_long_as_a_signal_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let mut lock = File::create(layout.lock()).unwrap();
        HostProcess::note(&mut lock, Purpose::Host).unwrap();
        // A shell with the command line of a compiler.
        fs::write(dir.path().join("__compile"), "echo; read line").unwrap();
        let mut compiler = Command::new("/bin/sh");
        compiler.arg0(format!("/proc/{}/exe", std::process::id()));
        let stem = "shell-x-0123456789abcdef-0123456789abcdef";
        let code = layout.cache().join(stem);
        let code = code.with_extension(Layout::compiled_by(std::process::id()));
        compiler.arg("__compile").arg(code);
        compiler.current_dir(dir.path());
        compiler.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut compiler = compiler.spawn().unwrap();
        let mut begun = [0];
        let output = compiler.stdout.as_mut().unwrap();
        output.read_exact(&mut begun).unwrap();
        assert_eq!(stopped_compiler(&layout), None);
        assert!(is_compiler_of(compiler.id(), "shell-x"));
        for other in ["shell", "shell-x-0123456789abcdef", "claude"] {
            assert!(!is_compiler_of(compiler.id(), other), "{other}");
        }
        let pid = Pid::from_child(&compiler);
        kill_process(pid, Signal::STOP).unwrap();
        while stopped_compiler(&layout) != Some(Halted::Suspended(compiler.id())) {
            std::thread::yield_now();
        }
        kill_process(pid, Signal::CONT).unwrap();
        while stopped_compiler(&layout).is_some() {
            std::thread::yield_now();
        }
        compiler.kill().unwrap();
        compiler.wait().unwrap();
    }

    #[test]
    fn a_supervisor_that_does_nothing_is_named_with_what_makes_it_go_on() {
        let suspended = Halted::Suspended(7).text();
        assert!(suspended.contains("`kill -CONT 7`"), "{suspended}");
        let frozen = Halted::Frozen(8).text();
        assert!(
            frozen.contains("(pid 8)") && frozen.contains("thaw"),
            "{frozen}"
        );
        let compiler = Halted::Frozen(9).said_of_compiler();
        let expected = "the control group of the process that compiles a plugin (pid 9) is frozen";
        assert_eq!(compiler, expected);
    }

    #[test]
    fn a_silent_supervisor_is_told_with_its_kind_and_its_pid() {
        for (kind, expected) in [
            (SilenceKind::Unreached, HaltKind::Unreached),
            (SilenceKind::Unanswered, HaltKind::Unanswered),
            (SilenceKind::Unended, HaltKind::Unended),
        ] {
            let told = silent_view(Silence {
                kind,
                pid: Some(7),
                said: "it is silent".to_owned(),
            });
            let view = HaltView {
                kind: expected,
                pid: Some(7),
                message: "it is silent".to_owned(),
            };
            assert_eq!(told, view);
        }
    }
}
