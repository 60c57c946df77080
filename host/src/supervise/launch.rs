//! Starting a process that outlives its starter: the supervisor, and the host in the background.
//!
//! The process gets its own session, `/` as its directory, no descriptor but stdio, default signals
//! and an empty signal mask, and none of the variables by which it could be taken for a part of an
//! attempt or of an agent's session. It is marked `CLAUDINE_DETACHED`: if it is started from inside
//! an attempt, the attempt's supervisor leaves it alone.
//!
//! Its stdout is a new pipe, on which the process reports that it is ready. After that report, or
//! earlier if it fails, it closes the pipe. So the starter waits for the pipe and needs no polling.
//! Because the new process has its own stdout, a program that reads the starter's stdout is not
//! kept waiting for the end of the new process.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit};

use super::sys::files;
use super::sys::procfs::{ATTEMPT_VARIABLE, DETACHED_VARIABLE};
use super::sys::signals;
use super::sys::spawn::{CStrings, Defaults, Spawn};
use crate::fsx;

/// The highest soft limit on open files that a host sets for itself. A host needs no more, and
/// programs that the host runs itself (git) inherit the limit: some of them close every descriptor
/// number below it, one by one.
const MOST_DESCRIPTORS: u64 = 65_536;

/// An executable with its first arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
}

/// A process that was launched.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(super) pid: u32,
    ready: File,
}

impl Launched {
    /// The pid of the process, and the pipe on which it reports that it is ready, for a caller that
    /// waits in its own way.
    pub(crate) fn into_parts(self) -> (u32, File) {
        (self.pid, self.ready)
    }

    /// Waits for the text that the process gave to [`announce_ready`]; `None` if the process ended
    /// or closed its stdout first. Blocks.
    pub(super) fn wait_ready(&mut self) -> io::Result<Option<String>> {
        let mut text = String::new();
        self.ready.read_to_string(&mut text)?;
        Ok(text.strip_suffix('\n').map(str::to_owned))
    }
}

/// Starts `program` with further arguments; its stderr is appended to `log`. `environment` is the
/// environment of the caller, from which this function removes the variables that must not be
/// inherited.
pub(crate) fn launch(
    program: &Program,
    args: &[&OsStr],
    environment: impl Iterator<Item = (OsString, OsString)>,
    log: &Path,
) -> io::Result<Launched> {
    let stderr = fsx::append_private(log)?;
    fsx::unmask(&stderr)?;
    let null = File::open("/dev/null")?;
    let (ready, stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // If the executable file was removed meanwhile, this process can still start its own program.
    let path = if program.path.exists() {
        CString::new(program.path.as_os_str().as_bytes())?
    } else {
        c"/proc/self/exe".to_owned()
    };
    let mut argv = CStrings::default();
    let own_args = program.args.iter().map(OsString::as_os_str);
    for argument in [program.path.as_os_str()]
        .into_iter()
        .chain(own_args)
        .chain(args.iter().copied())
    {
        push(&mut argv, argument.as_bytes())?;
    }
    let mut env = CStrings::default();
    for (name, value) in environment.filter(|(name, _)| !belongs_to_session(name)) {
        push(
            &mut env,
            &[name.as_bytes(), b"=", value.as_bytes()].concat(),
        )?;
    }
    push(&mut env, format!("{DETACHED_VARIABLE}=1").as_bytes())?;
    let stdio = [null.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let pid = Spawn {
        path: &path,
        argv: &argv,
        env: &env,
        cwd: c"/",
        stdio,
        defaults: Defaults::All,
    }
    .run()?;
    Ok(Launched {
        pid,
        ready: File::from(ready),
    })
}

/// Resets the state that this process inherited from its starter: descriptors other than stdio are
/// closed or at least not passed on, and blocked signals are unblocked. From then on, this process
/// survives the limit on the size of files. To be called before this process opens a descriptor or
/// starts a thread.
pub(crate) fn seal_inherited(background: bool) -> io::Result<()> {
    signals::reset_inherited()?;
    signals::survive_file_limit()?;
    files::seal_inherited(if background {
        files::Inherited::Closed
    } else {
        files::Inherited::Kept
    })
}

/// Lets a write beyond the limit on the size of files fail with an error, instead of ending this
/// process.
pub(crate) fn survive_file_limit() -> io::Result<()> {
    signals::survive_file_limit()
}

/// Raises the soft limit on open files: a host can serve only as many clients as it has
/// descriptors. Returns the old limit, which is meant for the host's children.
pub(crate) fn raise_descriptors() -> io::Result<Option<u64>> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(MOST_DESCRIPTORS, |hard| hard.min(MOST_DESCRIPTORS));
    if limit.current.is_some_and(|soft| soft < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        rustix::process::setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit.current)
}

/// Raises the soft limits that would end a host or a supervisor during its work, whatever limits
/// the starting shell had: hosts and supervisors run for weeks. Tasks get their submitter's limits.
pub(crate) fn lift_limits() -> io::Result<()> {
    const LIFTED: [Resource; 5] = [
        Resource::As,
        Resource::Cpu,
        Resource::Data,
        Resource::Fsize,
        Resource::Nproc,
    ];
    for resource in LIFTED {
        let limit = rustix::process::getrlimit(resource);
        let lifted = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if lifted != limit {
            rustix::process::setrlimit(resource, lifted)?;
        }
    }
    Ok(())
}

/// Tells the starter that this process is ready, and closes the pipe.
pub(crate) fn announce_ready(text: &str) -> io::Result<()> {
    let mut line = text.to_owned();
    line.push('\n');
    match rustix::io::write(io::stdout(), line.as_bytes()) {
        // The starter did not wait.
        Ok(_) | Err(rustix::io::Errno::PIPE) => {}
        Err(error) => return Err(error.into()),
    }
    files::redirect_stdout(&OpenOptions::new().write(true).open("/dev/null")?)
}

/// Whether a variable marks a process as part of an attempt or of an agent's session.
pub(crate) fn belongs_to_session(name: &OsStr) -> bool {
    const MARKERS: [&str; 4] = [
        ATTEMPT_VARIABLE,
        DETACHED_VARIABLE,
        "CLAUDINE_TASK_ID",
        "CLAUDECODE",
    ];
    MARKERS.iter().any(|marker| name == *marker) || name.as_bytes().starts_with(b"CLAUDE_")
}

fn push(strings: &mut CStrings, text: &[u8]) -> io::Result<()> {
    if strings.push(text) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an argument or a variable contains a NUL byte",
        ))
    }
}
