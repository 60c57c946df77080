//! Commands that an earlier host had begun: waits for them, ends them, and forgets them.
//!
//! A command that ends by itself leaves nothing half done, so each of them may go on for a moment.
//! After that it is ended, because nothing shows whether it still makes progress: a filter of the
//! repository may hang for ever, and meanwhile no other work on worktrees would go on. The work for
//! which the command ran is then done again, or put back.
//!
//! The compiler of a plugin changes nothing on which others work. So nobody waits for it, nobody is
//! told of it, and it is ended at once.

use std::{fs, io, mem, path::Path, sync::Arc, time::Duration};

use claudine_domain::{attempt::Leader, id::AttemptId};
use tokio::sync::watch;

use super::{Commands, over, stopped_for};
use crate::{
    aside,
    attempt::live::{ChildState, Live, Owner, State, command_of},
    clock,
    command::GRACE,
    fsx, proc_stat,
    supervise::AttemptKey,
};

/// How long a command of an earlier host may go on, from the moment at which this host knows it.
const GOES_ON_FOR: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 3_000 });
/// How long commands that are ended are awaited: the time after which they are killed, and a moment
/// for the processes that they leave behind.
const ENDS_WITHIN: Duration = GRACE.saturating_add(Duration::from_secs(5));

/// How long a command that changes something waits for the commands of an earlier host. A
/// supervisor that does not answer enforces no time limits and reports no ends.
const EARLIER_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 30_000 });

impl Commands {
    /// The commands that an earlier host had begun for an owner.
    fn earlier(&self, owner: Owner) -> Vec<(AttemptKey, Arc<watch::Sender<State>>)> {
        let mut earlier = self.all_earlier();
        earlier.retain(|(key, _)| command_of(key).is_some_and(|(of, _)| of == owner));
        earlier
    }

    /// All commands that an earlier host had begun.
    fn all_earlier(&self) -> Vec<(AttemptKey, Arc<watch::Sender<State>>)> {
        let own = self.own_names();
        let is_earlier = |(_, name): (Owner, &str)| !name.starts_with(&own);
        let mut all = self.registry.all_commands();
        all.retain(|(key, _)| command_of(key).is_some_and(is_earlier));
        all
    }

    /// Stops the commands with which an earlier host was preparing the attempt, and waits for their
    /// ends.
    pub(in crate::attempt) async fn end_earlier(&self, attempt: AttemptId) {
        for (key, state) in self.earlier(Owner::Attempt(attempt)) {
            self.stop(&key).await;
            over(&state).await;
            self.registry.no_command(&key);
        }
    }

    /// Waits until the commands with which an earlier host was settling the attempt's work are
    /// over.
    pub(in crate::attempt) async fn wait_for_earlier(&self, live: &Live) {
        for (key, state) in self.earlier(Owner::Attempt(live.id)) {
            let stopped = stopped_for(live, self.patience);
            // What an earlier host has settled must not be lost.
            self.see_to_end(&key, &state, true, stopped).await;
            self.registry.no_command(&key);
        }
    }

    /// Waits until all commands that an earlier host had begun are over, whoever they were for.
    /// Such a command may still change the attempt's worktree, or the checkout into which work is
    /// merged. Does not wait any longer once `patience` has passed since a stop of the attempt.
    pub(in crate::attempt) async fn wait_for_all_earlier(&self, live: &Live, patience: Duration) {
        tokio::select! {
            biased;
            () = self.all_earlier_over() => {}
            () = stopped_for(live, patience) => {}
        }
    }

    /// Waits until all commands that an earlier host had begun, and that may change something, are
    /// over.
    pub(in crate::attempt) async fn all_earlier_over(&self) {
        for (_, state) in self.all_earlier() {
            if !state.borrow().compiles {
                over(&state).await;
            }
        }
    }

    /// Ends all commands that an earlier host had begun, without letting them go on for a moment,
    /// and lets supervisors forget them. Waits until this is done, but not for ever.
    pub(in crate::attempt) async fn end_all_earlier(&self) {
        let all = self.all_earlier();
        let forgotten = async {
            // All are stopped first, so that they end at the same time.
            for (key, state) in &all {
                let is_over = state.borrow().is_over();
                if !is_over {
                    self.stop(key).await;
                }
            }
            for (key, state) in &all {
                over(state).await;
                if let Some((owner, name)) = command_of(key) {
                    self.forget(key, &self.log(owner, name)).await;
                }
            }
        };
        if clock::within(ENDS_WITHIN, forgotten).await.is_none() {
            tracing::warn!("a command of an earlier host has not ended");
        }
    }

    /// Says for which commands of an earlier host others wait, one sentence for each of them.
    /// Commands of which nothing more is known share a sentence.
    pub(in crate::attempt) fn earlier_in_words(&self) -> Vec<String> {
        let all = self.all_earlier().into_iter();
        let is_open = |state: &State| !state.compiles && !state.is_over();
        let open = all.filter(|(_, state)| is_open(&state.borrow()));
        let mut told = Vec::new();
        for (_, state) in open {
            let leader = state.borrow().children.iter().find_map(running);
            let words = in_words(leader);
            if !told.contains(&words) {
                told.push(words);
            }
        }
        told
    }

    /// Waits until all commands that an earlier host had begun are over, but not for ever.
    pub(in crate::attempt) async fn earlier_over(&self) -> io::Result<()> {
        let over = clock::within(EARLIER_WITHIN, self.all_earlier_over()).await;
        over.ok_or_else(|| {
            let mut open = self.earlier_in_words().into_iter();
            let open = open.next().unwrap_or_else(|| in_words(None));
            io::Error::other(format!(
                "{open}; `claudine doctor` shows whether a supervisor does not answer"
            ))
        })
    }

    /// Ends the commands that an earlier host had begun and that do not end by themselves within a
    /// moment, and lets supervisors forget them.
    pub(in crate::attempt) fn see_to_earlier(self: &Arc<Self>) {
        for (key, state) in self.all_earlier() {
            let Some((owner, name)) = command_of(&key) else {
                continue;
            };
            // The board may have been loaded again since.
            if !state.send_if_modified(|state| !mem::replace(&mut state.is_seen_to, true)) {
                continue;
            }
            let (commands, log) = (self.clone(), self.log(owner, name));
            self.tasks.spawn(async move {
                let compiles = state.borrow().compiles;
                if compiles {
                    commands.stop(&key).await;
                } else if clock::within(GOES_ON_FOR, over(&state)).await.is_none() {
                    tracing::warn!(%key, "a command of an earlier host goes on, and is ended");
                    commands.stop(&key).await;
                }
                over(&state).await;
                commands.forget(&key, &log).await;
            });
        }
        let (dir, own) = (self.layout.commands(), self.own_names());
        let removed = aside::run({
            let dir = dir.clone();
            move || remove_others(&dir, &own)
        });
        self.tasks.spawn(async move {
            let removed = removed.await;
            if let Err(error) = removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
                tracing::warn!(
                    %error, dir = %dir.display(),
                    "the output of earlier commands cannot be removed"
                );
            }
        });
    }
}

fn running(child: &ChildState) -> Option<Leader> {
    match child {
        ChildState::Running(leader) => Some(*leader),
        _ => None,
    }
}

/// Says that a command of an earlier host is not over. `leader` is its first process.
fn in_words(leader: Option<Leader>) -> String {
    let found = leader.and_then(|Leader { pid, start_time }| {
        let name = fsx::read_virtual_text(format!("/proc/{pid}/comm")).ok()?;
        let dir = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        let (name, dir) = (name.trim_end(), dir.display());
        let words = format!("`{name}` (pid {pid}) of an earlier host in {dir}");
        // Another process may have got the pid.
        let is_it = proc_stat::is_alive(pid, start_time).unwrap_or(false);
        is_it.then_some(words)
    });
    let what = found.unwrap_or_else(|| "a git command of an earlier host".to_owned());
    format!("{what} has not ended yet; it is being ended, and work on worktrees waits for that")
}

/// Removes the output of earlier hosts' commands, which nobody reads any more.
fn remove_others(dir: &Path, own: &str) -> io::Result<()> {
    for path in fsx::entries(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy());
        if !name.is_some_and(|name| name.starts_with(own)) {
            fsx::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        io::Read,
        os::unix::process::CommandExt,
        process::{Command, Stdio},
    };

    use super::{
        super::tests::{route, without_supervisors},
        *,
    };
    use crate::{
        attempt::{found::Known, live::command_key},
        supervise::{self, ChildId, FoundChild, FoundState},
    };

    /// A command of an earlier host, with this process as its first process.
    fn known() -> Known {
        known_with(std::process::id())
    }

    /// A command of an earlier host with this first process.
    fn known_with(pid: u32) -> Known {
        Known::of(vec![found("0.1", pid)])
    }

    fn found(name: &str, pid: u32) -> supervise::Found {
        let attempt = command_key(Owner::Host, name);
        let start_time = proc_stat::stat(pid).unwrap().start_time;
        supervise::Found {
            children: vec![FoundChild {
                child: ChildId::new(attempt.clone(), 0),
                state: FoundState::Running { pid, start_time },
            }],
            attempt,
            stopping: None,
            ended: false,
            held: None,
            output_cut: false,
        }
    }

    /// No supervisor has the command, so the answer to the stop is that no process is left.
    #[tokio::test]
    async fn a_command_of_an_earlier_host_is_stopped_after_a_moment_or_at_once_if_all_must_end() {
        for at_once in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (commands, reports) = without_supervisors(dir.path(), known()).await;
            route(&commands, reports);
            let (_, state) = commands.all_earlier().pop().unwrap();
            let begun = clock::monotonic();
            let ending = commands.clone();
            let ending = tokio::spawn(async move {
                if at_once {
                    ending.end_all_earlier().await;
                } else {
                    ending.see_to_earlier();
                    ending.tasks.close();
                    ending.tasks.wait().await;
                }
            });
            let mut changes = state.subscribe();
            assert!(changes.wait_for(|state| state.ended).await.is_ok());
            assert!(at_once || clock::monotonic() >= begun + GOES_ON_FOR);
            // Its first process is this one, whose end no supervisor reports.
            state.send_modify(State::lose);
            ending.await.unwrap();
            assert!(commands.all_earlier().is_empty(), "it is not forgotten");
        }
    }

    #[tokio::test]
    async fn commands_of_an_earlier_host_with_the_same_description_are_named_once() {
        let dir = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let known = Known::of(vec![found("0.1", pid), found("0.2", pid)]);
        let (commands, _reports) = without_supervisors(dir.path(), known).await;
        assert_eq!(commands.all_earlier().len(), 2);
        assert_eq!(commands.earlier_in_words().len(), 1);
    }

    #[tokio::test]
    async fn a_command_of_an_earlier_host_is_named_as_long_as_it_is_not_over() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, _reports) = without_supervisors(dir.path(), known()).await;
        let pid = format!("(pid {})", std::process::id());
        let named = commands.earlier_in_words();
        assert!(named.len() == 1 && named[0].contains(&pid), "{named:?}");
        let refused = commands.earlier_over().await.unwrap_err().to_string();
        assert!(refused.contains(&pid), "{refused}");
        let (_, state) = commands.all_earlier().pop().unwrap();
        state.send_modify(State::lose);
        assert!(commands.earlier_in_words().is_empty());
        assert!(commands.earlier_over().await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_the_compiler_of_an_earlier_host_and_it_is_ended() {
        let [data, work] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        // A shell with the command line of a compiler.
        fs::write(work.path().join("__compile"), "echo; read line").unwrap();
        let mut compiler = Command::new("/bin/sh");
        compiler.arg0("/proc/1/exe").arg("__compile");
        compiler.current_dir(work.path());
        compiler.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut compiler = compiler.spawn().unwrap();
        // The kernel shows the command line only a moment after the program was started.
        let mut line = [0];
        compiler
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        let known = known_with(compiler.id());
        let (commands, reports) = without_supervisors(data.path(), known).await;
        route(&commands, reports);
        let (_, state) = commands.all_earlier().pop().unwrap();
        assert!(!state.borrow().is_over());
        assert_eq!(commands.earlier_in_words(), [""; 0]);
        assert!(commands.earlier_over().await.is_ok());
        commands.see_to_earlier();
        let mut changes = state.subscribe();
        assert!(changes.wait_for(|state| state.ended).await.is_ok());
        // No supervisor reports the end of the process.
        state.send_modify(State::lose);
        commands.tasks.close();
        commands.tasks.wait().await;
        assert!(commands.all_earlier().is_empty(), "it is not forgotten");
        compiler.kill().unwrap();
        compiler.wait().unwrap();
    }
}
