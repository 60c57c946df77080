//! An executor that follows a script, for tests of the host.
//!
//! The steps of the script run in order. A checkpoint remembers the next step, and `resume`
//! continues there. The n-th child of the attempt always belongs to the n-th step that starts a
//! child. So a repeated step finds the child that it started before, as in a careful executor.

mod misbehave;
mod script;

use std::future::pending;
use std::ops::ControlFlow;
use std::time::Duration;

use claudine_plugin_sdk::clock::{Either, race, sleep};
use claudine_plugin_sdk::{
    Authority, Child, Class, Command, Ctx, Draft, Executor, ExitStatus, Failure, Issue, Outcome,
    Task, info, parse,
};
use script::{Checkpoint, Counts, Feed, Script, Step, Then};

#[derive(Default)]
struct Mock;

impl Executor for Mock {
    type Spec = Script;

    fn task_schema() -> &'static str {
        include_str!("schema.json")
    }

    fn validate(draft: &Draft<Script>) -> Vec<Issue> {
        draft.spec.issues()
    }

    fn authority(draft: &Draft<Script>) -> Authority {
        draft.spec.authority()
    }

    async fn run(&self, task: Task<Script>, ctx: Ctx) -> Result<Outcome, Failure> {
        Attempt::new(task, ctx, 0, false).run().await
    }

    async fn resume(
        &self,
        task: Task<Script>,
        state: Vec<u8>,
        ctx: Ctx,
    ) -> Result<Outcome, Failure> {
        let next = match std::str::from_utf8(&state) {
            Ok("") => 0,
            Ok(text) => parse::<Checkpoint>(text)?.next_step,
            Err(error) => {
                return Err(Failure::new(
                    Class::Plugin,
                    format!("the checkpoint is not text: {error}"),
                ));
            }
        };
        Attempt::new(task, ctx, next, true).run().await
    }
}

/// One run through the script.
struct Attempt {
    task: Task<Script>,
    ctx: Ctx,
    next_step: usize,
    resumed: bool,
    children: Vec<Child>,
    /// Number of children that the steps so far have used.
    used: usize,
    last_status: Option<ExitStatus>,
    counts: Counts,
}

impl Attempt {
    fn new(task: Task<Script>, ctx: Ctx, next_step: usize, resumed: bool) -> Self {
        let used = task.spec.children_before(next_step);
        Self {
            task,
            ctx,
            next_step,
            resumed,
            children: ctx.children(),
            used,
            last_status: None,
            counts: Counts::default(),
        }
    }

    async fn run(mut self) -> Result<Outcome, Failure> {
        while let Some(step) = self.task.spec.steps.get(self.next_step).cloned() {
            self.next_step += 1;
            if self.step(step).await?.is_break() {
                return Ok(Outcome::failed(Class::Signal, "stopped"));
            }
        }
        self.task
            .spec
            .end(&self.task, self.last_status, self.counts)
    }

    /// Runs a step. Returns `Break` if a stop was requested during a sleep.
    async fn step(&mut self, step: Step) -> Result<ControlFlow<()>, Failure> {
        match step {
            Step::SleepMs(duration) => {
                return Ok(self.sleep(Duration::from_millis(duration)).await);
            }
            Step::Stdout(text) => {
                let command = Command::new("cat").stdin_bytes(text);
                self.child(command, true).await?;
            }
            Step::Stderr(text) => {
                self.child(
                    Command::new("sh").args(["-c", "cat >&2"]).stdin_bytes(text),
                    true,
                )
                .await?;
            }
            Step::Spawn(spawn) => self.child(spawn.command(), spawn.wait).await?,
            Step::Feed(feed) => self.feed(&feed).await?,
            Step::Read(channel) => self.read(channel).await?,
            Step::Progress(progress) => self.ctx.emit(&progress.kind, &progress.data),
            Step::Alive(true) => self.ctx.alive(),
            Step::Checkpoint(note) => {
                let state = Checkpoint {
                    next_step: self.next_step,
                    note,
                }
                .to_text();
                self.ctx.checkpoint(state.as_bytes()).await?;
            }
            Step::Log(text) => info!("{text}"),
            Step::LogFlood(lines) => (0..lines).for_each(|line| info!("line {line} of {lines}")),
            Step::Trap(true) => misbehave::trap(),
            Step::TrapOnce(true) if !self.resumed => misbehave::trap(),
            Step::Panic(text) => misbehave::panic_with(&text),
            Step::Spin(true) => misbehave::spin(),
            Step::EatMemory(true) => misbehave::eat_memory(),
            Step::Hang(true) => pending().await,
            Step::Alive(_)
            | Step::Trap(_)
            | Step::TrapOnce(_)
            | Step::Spin(_)
            | Step::EatMemory(_)
            | Step::Hang(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn sleep(&self, duration: Duration) -> ControlFlow<()> {
        if self.task.spec.ignore_stop {
            sleep(duration).await;
            return ControlFlow::Continue(());
        }
        match race(sleep(duration), self.ctx.stopped()).await {
            Either::First(()) => ControlFlow::Continue(()),
            Either::Second(_) => ControlFlow::Break(()),
        }
    }

    /// Takes the next child: the child that an earlier run of this step started, or a new child.
    async fn child(&mut self, command: Command, wait: bool) -> Result<(), Failure> {
        let child = if let Some(child) = self.children.get(self.used) {
            child.clone()
        } else {
            let child = command.spawn().await?;
            self.children.push(child.clone());
            child
        };
        self.used += 1;
        if wait {
            self.last_status = Some(child.wait().await?);
        }
        Ok(())
    }

    /// Starts the next child and writes its input. If an earlier run of this step has already
    /// started the child, only waits for it.
    async fn feed(&mut self, feed: &Feed) -> Result<(), Failure> {
        if self.children.get(self.used).is_some() {
            return self.child(feed.command(), true).await;
        }
        let (child, mut input) = feed.command().spawn_with_input().await?;
        self.children.push(child.clone());
        self.used += 1;
        while self.counts.fed < feed.bytes {
            let length = feed.piece_bytes.clamp(1, feed.bytes - self.counts.fed);
            let piece: Vec<u8> = (self.counts.fed..self.counts.fed + length)
                .map(|at| u8::try_from(at % 251).unwrap_or_default())
                .collect();
            if input.write_all(piece).await.is_err() {
                info!("the child stopped reading after {} bytes", self.counts.fed);
                break;
            }
            self.counts.fed += length;
        }
        let kept = match feed.then {
            Then::Finish => {
                input.finish();
                None
            }
            Then::Drop => {
                drop(input);
                None
            }
            Then::Keep => Some(input),
            Then::Trap => misbehave::trap(),
        };
        self.last_status = Some(child.wait().await?);
        drop(kept);
        Ok(())
    }

    /// Reads the last child's output to its end.
    async fn read(&mut self, channel: script::Channel) -> Result<(), Failure> {
        let Some(child) = self
            .used
            .checked_sub(1)
            .and_then(|last| self.children.get(last))
        else {
            return Err(Failure::new(
                Class::Invalid,
                "there is no child to read from",
            ));
        };
        let mut output = match channel {
            script::Channel::Stdout => child.stdout(0),
            script::Channel::Stderr => child.stderr(0),
        };
        while let Some(bytes) = output.read().await? {
            self.counts.read += bytes.len() as u64;
        }
        self.counts.left_out += output.left_out();
        Ok(())
    }
}

claudine_plugin_sdk::export!(Mock);
