//! Starts a child, at most once for each id.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::pipe::PipeFlags;

use super::attempt::{At, Attempt, AttemptNo, Child, Input, Phase, Pipe, State};
use super::command::{self, Refusal};
use super::{Supervisor, Token, environment};
use crate::bounds::Bounds;
use crate::clock;
use crate::proc_stat::is_out_of_room;
use crate::supervise::log::{Channel, LogWriter};
use crate::supervise::protocol::Message;
use crate::supervise::sys::files;
use crate::supervise::sys::procfs;
use crate::supervise::sys::spawn::{CStrings, Defaults, Spawn};
use crate::supervise::sys::tag::{Tag, supervisor_number};
use crate::supervise::words::{NotStartedClass, StartChild, Stdin};

/// How long after the start of a child the start is reported. If the child has ended by then, only
/// its end is reported.
const TELL_START_AFTER: Duration = Duration::from_millis(2);

/// A child that has just been started.
struct Spawned {
    pid: u32,
    start_time: u64,
    pipes: [OwnedFd; 2],
    input: Input,
}

impl Supervisor {
    /// Starts the child, but not if a newer host leads: that host may already have concluded the
    /// attempt, because it got no answer from this supervisor.
    pub(super) fn start(&mut self, start: &StartChild) {
        let leads = self.host_leads();
        if matches!(leads, Ok(false)) {
            // No report is sent, because the newer host assumes that the start never arrived here.
            say!(
                "{} is not started: a newer host has replaced the host that ordered the start",
                start.child
            );
            return;
        }
        let now = clock::monotonic();
        let no = self.attempt_for(start, now);
        let index = start.child.index();
        let Some(attempt) = self.attempts.get(&no) else {
            return;
        };
        if attempt.children.contains_key(&index) {
            return self.tell_again(no, index);
        }
        let spawned = if attempt.finished {
            Err(Refusal::new(
                NotStartedClass::Stopped,
                "the attempt is already being ended",
            ))
        } else if self.terminated {
            // Nobody has stopped this attempt, and another supervisor can run it.
            Err(Refusal::new(
                NotStartedClass::Supervisor,
                "the supervisor was told to end",
            ))
        } else {
            leads
                .and_then(|_| self.refuse_second(no, start))
                .and_then(|()| self.note_ahead(start))
                .and_then(|()| self.spawn(no, start))
        };
        match spawned {
            Ok(spawned) => self.took_off(no, start, spawned, now),
            Err(refusal) => self.refused(no, start, refusal, now),
        }
    }

    /// Refuses an attempt that was started before, although neither the host nor this supervisor
    /// knows of it: for example, an earlier copy of the host's database was put back, and the
    /// attempt has ended since the copy was taken. Its log shows that it was started. The names of
    /// the host's own commands are never used twice.
    fn refuse_second(&self, no: AttemptNo, start: &StartChild) -> Result<(), Refusal> {
        let has_run = self.attempts.get(&no).is_some_and(|attempt| {
            let mut children = attempt.children.values();
            children.any(|child| !matches!(child.state, State::NotStarted { .. }))
        });
        if has_run || start.child.attempt().command().is_some() {
            return Ok(());
        }
        // If the log cannot be looked at, its output is kept: the log is opened only to append.
        if std::fs::symlink_metadata(&start.log).is_err() {
            return Ok(());
        }
        let message = format!(
            "the attempt was started before, as its log {} shows, and is not started again; the \
             database may be an earlier copy that was put back",
            start.log.display()
        );
        Err(Refusal::new(NotStartedClass::StartedBefore, message))
    }

    /// Notes that the child is about to be started. The later note of the start is written only at
    /// the end of a round: if host and supervisor were killed before that, the next host would take
    /// the child for one that was never started, and start it again.
    fn note_ahead(&mut self, start: &StartChild) -> Result<(), Refusal> {
        self.journal.note(&Message::Starting {
            child: start.child.clone(),
        });
        if self.journal.flush() {
            return Ok(());
        }
        let message = "the supervisor cannot note that it starts a child".to_owned();
        Err(Refusal::new(NotStartedClass::Resource, message))
    }

    /// Whether the host that this supervisor obeys still leads.
    fn host_leads(&self) -> Result<bool, Refusal> {
        let leading = self.limits.with_reserve(|| self.place.epoch());
        let leading = leading.map_err(|error| {
            let message = format!("cannot find out whether a newer host has taken over: {error}");
            Refusal::new(NotStartedClass::Resource, message)
        })?;
        Ok(leading <= Some(self.epoch))
    }

    fn attempt_for(&mut self, start: &StartChild, now: At) -> AttemptNo {
        let key = start.child.attempt();
        if let Some(no) = self.by_key.get(key) {
            return *no;
        }
        let no = AttemptNo(self.next_attempt);
        self.next_attempt = self.next_attempt.wrapping_add(1);
        let log = LogWriter::new(start.log.clone(), start.cap_bytes);
        let mut attempt = Attempt::new(key.clone(), log, now);
        attempt.finished = self.stopped_ahead.contains(key);
        self.attempts.insert(no, attempt);
        self.by_key.insert(key.clone(), no);
        no
    }

    /// Answers a repeated start with the child's current state.
    fn tell_again(&mut self, no: AttemptNo, index: u16) {
        let Some(attempt) = self.attempts.get(&no) else {
            return;
        };
        let Some(child) = attempt.children.get(&index) else {
            return;
        };
        let id = child.id.clone();
        let message = match &child.state {
            State::NotStarted { class, message } => Message::NotStarted {
                child: id,
                class: *class,
                message: message.clone(),
            },
            State::Running { pid, start_time } => Message::Started {
                child: id,
                pid: *pid,
                start_time: *start_time,
            },
            State::Exited { exit, .. } => Message::Exited {
                child: id,
                exit: exit.clone(),
                ended: attempt.is_quiet(),
            },
        };
        self.tell(&message);
    }

    fn spawn(&mut self, no: AttemptNo, start: &StartChild) -> Result<Spawned, Refusal> {
        let env = self.environments.build(start)?;
        let mut argv = CStrings::default();
        for argument in &start.argv {
            if !argv.push(argument.as_bytes()) {
                let message = format!("an argument holds a NUL byte: {argument:?}");
                return Err(Refusal::new(NotStartedClass::Invalid, message));
            }
        }
        let name = start.argv.first().map_or("", String::as_str);
        let path = command::find(name, environment::value(&env, "PATH"), &start.cwd)?;
        let cwd = CString::new(start.cwd.as_os_str().as_bytes()).map_err(|_| {
            Refusal::new(
                NotStartedClass::Invalid,
                "the working directory holds a NUL byte",
            )
        })?;
        let (stdin, input) = open_input(&start.stdin)?;
        let stdin = stdin.as_ref().map_or(self.null.as_fd(), AsFd::as_fd);
        let index = start.child.index();
        let [out_read, out_write] = self.output_pipe(Token::Pipe(no, index, Channel::Stdout))?;
        let [err_read, err_write] = self.output_pipe(Token::Pipe(no, index, Channel::Stderr))?;
        let spawn = Spawn {
            path: &path,
            argv: &argv,
            env: &env,
            cwd: &cwd,
            stdio: [stdin, out_write.as_fd(), err_write.as_fd()],
            defaults: Defaults::Ignored,
        };
        let before = procfs::ticks_since_boot();
        let explain = |error| {
            let bytes = argv.bytes() + env.bytes();
            command::explain(&error, &path, &start.cwd, bytes)
        };
        let tag = Tag::Attempt {
            supervisor: supervisor_number(self.identity.pid, self.identity.start_time),
            attempt: no.0,
        };
        // A child is also started if the tag cannot be set: it still has the marker in its
        // environment.
        if let Err(error) = tag.hand_on() {
            say!("{} is started without a tag: {error}", start.child);
        }
        let started = files::with_umask(start.umask, || self.run(&spawn, start.bounds.as_ref()));
        let pid = started.map_err(explain)?;
        let start_time = if before == procfs::ticks_since_boot() {
            before
        } else {
            // A child keeps its entry in `/proc` until it is reaped, even if it has ended.
            let stat = self.limits.with_reserve(|| procfs::try_stat(pid));
            let stat = stat.unwrap_or_else(|error| {
                say!("the start time of {} is unknown: {error}", start.child);
                None
            });
            stat.map_or(0, |stat| stat.start_time)
        };
        Ok(Spawned {
            pid,
            start_time,
            pipes: [out_read, err_read],
            input,
        })
    }

    /// Starts the process. If the bounds equal those that children inherit, nothing has to be set
    /// in the child, and the start is cheaper.
    fn run(&self, spawn: &Spawn<'_>, bounds: Option<&Bounds>) -> io::Result<u32> {
        let Some(bounds) = bounds.filter(|bounds| **bounds != self.childrens_bounds) else {
            return self.limits.for_child(|| spawn.run());
        };
        let (bounds, limits) = (bounds.clone(), self.limits);
        let before = move || -> io::Result<()> {
            limits.become_childs()?;
            bounds.take_on();
            Ok(())
        };
        self.limits.with_reserve(|| spawn.run_after(before))
    }

    fn took_off(&mut self, no: AttemptNo, start: &StartChild, spawned: Spawned, now: At) {
        let Spawned {
            pid,
            start_time,
            pipes,
            input,
        } = spawned;
        let index = start.child.index();
        self.leaders.insert(pid, (no, index));
        self.draining.remove(&no);
        self.journal.note(&Message::Started {
            child: start.child.clone(),
            pid,
            start_time,
        });
        self.sampler.begin(now);
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        let child = Child {
            id: start.child.clone(),
            state: State::Running { pid, start_time },
            started_at: now,
            tell_start_at: Some(now + TELL_START_AFTER),
            pipes: pipes.map(|descriptor| {
                Some(Pipe {
                    descriptor,
                    grown: false,
                })
            }),
            input,
            input_broke_off: false,
        };
        attempt.children.insert(index, child);
        attempt.phase = Phase::Open;
        attempt.ladder.clone_from(&start.ladder);
        attempt.deadline = start.timeout.map(|timeout| now + timeout);
        attempt.idle_timeout = start.idle_timeout;
        attempt.last_output = now;
        self.rearm(no);
    }

    /// Makes a pipe and listens to it. Its reading end does not block; the child's end does, as
    /// programs expect.
    fn output_pipe(&self, token: Token) -> Result<[OwnedFd; 2], Refusal> {
        let open = || {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&read, true)?;
            self.watch(&read, token, EventFlags::IN)?;
            Ok([read, write])
        };
        open().map_err(|error: io::Error| {
            let message = format!("no pipe for the child's output: {error}");
            Refusal::new(NotStartedClass::Resource, message)
        })
    }

    fn refused(&mut self, no: AttemptNo, start: &StartChild, refusal: Refusal, now: At) {
        let Refusal { class, message } = refusal;
        if let Some(attempt) = self.attempts.get_mut(&no) {
            let state = State::NotStarted {
                class,
                message: message.clone(),
            };
            let id = start.child.clone();
            let child = Child {
                id,
                state,
                started_at: now,
                tell_start_at: None,
                pipes: [None, None],
                input: Input::Settled,
                input_broke_off: false,
            };
            attempt.children.insert(start.child.index(), child);
        }
        self.report(&Message::NotStarted {
            child: start.child.clone(),
            class,
            message,
        });
    }

    pub(super) fn tell_late_starts(&mut self, no: AttemptNo, now: At) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        let mut started = Vec::new();
        for child in attempt
            .children
            .values_mut()
            .filter(|child| child.tell_start_at.is_some_and(|at| at <= now))
        {
            child.tell_start_at = None;
            if let State::Running { pid, start_time } = child.state {
                started.push(Message::Started {
                    child: child.id.clone(),
                    pid,
                    start_time,
                });
            }
        }
        for message in started {
            self.tell(&message);
        }
    }
}

/// Opens the child's standard input (`None` means `/dev/null`); also returns the state in which
/// this process keeps the input.
fn open_input(stdin: &Stdin) -> Result<(Option<OwnedFd>, Input), Refusal> {
    match stdin {
        Stdin::Empty => Ok((None, Input::Settled)),
        Stdin::File(file) => match File::open(file) {
            Ok(open) => Ok((Some(open.into()), Input::Settled)),
            Err(error) => {
                let message = format!("the input cannot be read from {}: {error}", file.display());
                let class = if is_out_of_room(&error) {
                    NotStartedClass::Resource
                } else {
                    NotStartedClass::Input
                };
                Err(Refusal::new(class, message))
            }
        },
        Stdin::Stream => match rustix::pipe::pipe_with(PipeFlags::CLOEXEC) {
            Ok((read, pipe)) => Ok((Some(read), Input::Open { pipe, feeder: None })),
            Err(error) => {
                let message = format!("no pipe for the child's input: {error}");
                Err(Refusal::new(NotStartedClass::Resource, message))
            }
        },
    }
}
