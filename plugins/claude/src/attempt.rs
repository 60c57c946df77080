//! A running attempt: starts `claude`, follows its output, and makes sure that it ends.
//!
//! A process that has printed its result may continue as long as a background command of the agent
//! runs, so this module ends the process after a grace period. If a stop is requested, this module
//! sends no signal: the host sends INT, TERM and KILL, as the manifest says, and a second INT would
//! only cut short the agent's clean-up.

use std::time::Duration;

use claudine_plugin_sdk::process::Lines;
use claudine_plugin_sdk::{
    Child, Class, Command, Ctx, ExitStatus, Failure, Outcome, Signal, Task, clock, facts,
    process::Line, warn,
};

use crate::Config;
use crate::authority::{self, allows_network};
use crate::checkpoint::Checkpoint;
use crate::outcome::{Ending, outcome};
use crate::spec::{Machine, Spec, root_bypass};
use crate::start::{Directory, ELSEWHERE, Earlier, Limits, Means, Start, without_private};
use crate::transcript::{LONGEST_LINE_BYTES, Note, Transcript};

/// Variable that the host sets if the submitter of the task is limited by the settings `mcp.*`. Its
/// value lists the extras that the task may have.
const RESTRAINED: &str = "CLAUDINE_RESTRAINED";

/// Variable in which the host tells such an executor which files belong to the host.
const PRIVATE: &str = "CLAUDINE_PRIVATE";

/// Time that a process may live on after its result.
const AFTER_RESULT: Duration = Duration::from_secs(15);

/// Time between the signals that end a process after its grace period.
const BETWEEN_SIGNALS: Duration = Duration::from_secs(5);

/// Time between checkpoints. Each checkpoint is written to disk. A new instance that continues the
/// attempt reads up to this much of the output twice.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(10);

/// Maximum number of unexpected lines to report, because a program that prints only such lines
/// would flood the host's log.
const MOST_ODD_LINES_TOLD: u32 = 5;

/// Keeps Python from looking for modules in the directory in which it runs. Claude Code runs the
/// user's `apiKeyHelper` in the agent's directory, which a client has named, and the helper may be
/// `python3 -m MODULE`. Agents that may run commands do without the variable, because scripts of
/// the directory may need its modules.
const SAFE_PYTHON: (&str, &str) = ("PYTHONSAFEPATH", "1");

/// The smallest budget of a run: a millionth of a dollar, the unit in which the host counts.
const LEAST_BUDGET_USD: f64 = 0.000_001;

/// Length limit of a line of standard error. Only one such line is shown, to a person.
const LONGEST_COMPLAINT_BYTES: usize = 400;

pub(crate) struct Attempt {
    pub(crate) task: Task<Spec>,
    pub(crate) config: Config,
    pub(crate) ctx: Ctx,
}

impl Attempt {
    pub(crate) async fn run(&self) -> Result<Outcome, Failure> {
        let start = Start::of(&self.task)?;
        let child = self.spawn(&start).await?;
        self.follow(start, child, Checkpoint::default(), None).await
    }

    /// Continues with the last child in a new instance. Runs the attempt if no child was started
    /// yet.
    pub(crate) async fn resume(&self, state: &[u8]) -> Result<Outcome, Failure> {
        let mut children = self.ctx.children();
        let count = children.len();
        let Some(child) = children.pop() else {
            return self.run().await;
        };
        // A second child exists only if the first child found no session to resume.
        let checkpoint = Checkpoint::read(state, count - 1);
        match children.pop() {
            None => {
                self.follow(Start::of(&self.task)?, child, checkpoint, None)
                    .await
            }
            Some(first) => {
                let why = self.read_again(&first).await?.no_session();
                self.follow(Start::fresh(&self.task), child, checkpoint, why)
                    .await
            }
        }
    }

    async fn spawn(&self, start: &Start) -> Result<Child, Failure> {
        let spec = &self.task.spec;
        let mode = spec.mode(&self.config);
        let machine = Machine::of(&facts(), &self.task.env);
        if let Some(refusal) = root_bypass(mode, machine) {
            return Err(Failure::new(
                Class::Invalid,
                format!("the permission mode {refusal}"),
            ));
        }
        let budget_usd = self.budget_usd();
        if budget_usd.is_some_and(|left| left <= 0.0) {
            let message = "the budget of the attempt is spent";
            return Err(Failure::new(Class::Budget, message));
        }
        let restraint = self.task.env.get(RESTRAINED);
        let mut elsewhere = [None; ELSEWHERE.len()];
        let private = restraint.and_then(|_| self.task.env.get(PRIVATE));
        let private = private
            .map(without_private)
            .transpose()?
            .unwrap_or_default();
        if restraint.is_some() {
            for (variable, directory) in ELSEWHERE.into_iter().zip(&mut elsewhere) {
                *directory = Directory::of(variable, self.task.env.get(variable))?;
            }
        }
        let means = Means {
            model: spec.model.as_deref().or(self.config.model.as_deref()),
            mode,
            budget_usd,
            limits: restraint.map(|extras| Limits {
                step: authority::of(spec, &self.config).step(),
                elsewhere,
                private: &private,
                has_network: allows_network(extras),
            }),
        };
        let mut command = Command::new("claude")
            .args(start.arguments(spec, &means))
            .stdin_bytes(start.input(spec));
        if means.limits.is_some_and(Limits::forbids_commands) {
            command = command.env(SAFE_PYTHON.0, SAFE_PYTHON.1);
        }
        let child = command.spawn().await;
        child.map_err(|mut failure| {
            if failure.class == Class::Spawn {
                failure.message = format!("{}; {}", failure.message, crate::INSTALL_ADVICE);
            }
            failure
        })
    }

    /// Budget of the run: the smaller of the attempt's budget and the limit in the task's document.
    /// Claude Code compares it with the cost of this process, even in a resumed session.
    fn budget_usd(&self) -> Option<f64> {
        let asked = self.task.spec.max_budget_usd;
        // A smaller amount would count as nothing if the attempt ended without a known cost.
        let asked = asked.map(|usd| usd.max(LEAST_BUDGET_USD));
        asked
            .into_iter()
            .chain(self.task.budget_usd)
            .reduce(f64::min)
    }

    /// Reads a child to its end. If the child found no session to resume, starts another child with
    /// a fresh session.
    async fn follow(
        &self,
        start: Start,
        child: Child,
        checkpoint: Checkpoint,
        fresh_session_reason: Option<String>,
    ) -> Result<Outcome, Failure> {
        let number = checkpoint.child;
        let (transcript, status) = self.read(&child, checkpoint).await?;
        match (transcript.no_session(), &start) {
            (Some(why), Start::Again { .. }) if self.ctx.stop_requested().is_none() => {
                let fresh = Start::fresh(&self.task);
                let child = self.spawn(&fresh).await?;
                let (transcript, status) =
                    self.read(&child, Checkpoint::of_child(number + 1)).await?;
                Ok(self
                    .end(&fresh, &child, &transcript, status, Some(why))
                    .await)
            }
            (Some(why), Start::Named { session_id }) => Ok(Outcome::failed(
                Class::Invalid,
                format!("the session {session_id} cannot be resumed: {why}"),
            )
            .output("cost_usd", 0)
            .exit(&status)),
            _ => Ok(self
                .end(&start, &child, &transcript, status, fresh_session_reason)
                .await),
        }
    }

    /// Outputs of the previous attempt, if this one continues its session.
    fn earlier(&self, start: &Start) -> Option<Earlier> {
        let is_resumed = !matches!(start, Start::Fresh { .. });
        let previous = self.task.previous.as_ref().filter(|_| is_resumed);
        previous.map(Earlier::of)
    }

    async fn end(
        &self,
        start: &Start,
        child: &Child,
        transcript: &Transcript,
        status: ExitStatus,
        fresh_session_reason: Option<String>,
    ) -> Outcome {
        let is_resumed = !matches!(start, Start::Fresh { .. });
        let earlier = self.earlier(start);
        let ending = Ending {
            status,
            complaint: match transcript.results.last {
                Some(_) => None,
                None => complaint(child).await,
            },
            now: clock::now(),
            fail_on_denied: self.task.spec.fail_on_denied,
            budget_usd: self.budget_usd(),
            earlier,
            is_resumed,
            fresh_session_reason,
        };
        outcome(transcript, &ending)
    }

    /// Follows the child's output from the checkpoint until the child has ended: by itself, or by
    /// force some time after its result.
    async fn read(
        &self,
        child: &Child,
        mut checkpoint: Checkpoint,
    ) -> Result<(Transcript, ExitStatus), Failure> {
        let mut lines = child.stdout(checkpoint.offset).lines(LONGEST_LINE_BYTES);
        let mut checkpointed_at = clock::monotonic();
        let mut rest_since = None;
        let mut odd_lines = 0;
        loop {
            let line = match next_line(&mut lines, rest_since).await? {
                Next::Line(line) => line,
                Next::End => return Ok((checkpoint.transcript, child.wait().await?)),
                Next::GraceOver => return Ok((checkpoint.transcript, end_by_force(child).await?)),
            };
            let answered_before = checkpoint.transcript.answered;
            let note = checkpoint.transcript.take(&line);
            if checkpoint.transcript.answered && !answered_before {
                self.ctx.account_works();
            }
            let begins = note == Note::Began;
            self.tell(note, &checkpoint.transcript, &mut odd_lines);
            let results = &checkpoint.transcript.results;
            // The agent was woken again and will spend more, so the cost up to here is reported
            // now. The total is reported with the outcome.
            if !results.is_at_rest
                && rest_since.is_some()
                && let Some(usd) = results.cost_usd()
            {
                self.ctx.cost(usd);
            }
            rest_since = match (results.is_at_rest, rest_since) {
                (false, _) => None,
                (true, None) => Some(clock::monotonic()),
                (true, since) => since,
            };
            if checkpoint.transcript.has_result() {
                // A checkpoint contains no results. So no checkpoint is stored after a result, and
                // the next instance reads the results again.
                continue;
            }
            checkpoint.offset = line.end_offset;
            let now = clock::monotonic();
            if begins || now.saturating_sub(checkpointed_at) >= BETWEEN_CHECKPOINTS {
                checkpointed_at = now;
                self.save(&checkpoint).await;
            }
        }
    }

    /// Stores a checkpoint. The attempt continues if this fails.
    async fn save(&self, checkpoint: &Checkpoint) {
        let saved = match checkpoint.to_bytes() {
            Ok(bytes) => self
                .ctx
                .checkpoint(&bytes)
                .await
                .map_err(|failure| failure.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = saved {
            warn!("the checkpoint was not stored: {error}");
        }
    }

    fn tell_session(&self, transcript: &Transcript) {
        if let Some(session_id) = transcript.session() {
            self.ctx.session(session_id, transcript.model.as_deref());
        }
    }

    fn tell(&self, note: Note, transcript: &Transcript, odd_lines: &mut u32) {
        match note {
            Note::Nothing => {}
            Note::Began => {
                self.ctx.alive();
                self.tell_session(transcript);
            }
            Note::Phase(text) => self.ctx.phase(&text),
            Note::Ended => {
                // The host passes only a reported session to the next attempt.
                if !transcript.is_in_session() && transcript.no_session().is_none() {
                    self.tell_session(transcript);
                }
                self.ctx.phase("ending");
            }
            Note::Odd(what) => {
                *odd_lines += 1;
                if *odd_lines <= MOST_ODD_LINES_TOLD {
                    warn!("{}: {what}", self.task.attempt_id());
                }
            }
        }
    }

    /// Transcript of a child that has ended.
    async fn read_again(&self, child: &Child) -> Result<Transcript, Failure> {
        let mut transcript = Transcript::default();
        let mut lines = child.stdout(0).lines(LONGEST_LINE_BYTES);
        while let Some(line) = lines.next().await? {
            transcript.take(&line);
        }
        Ok(transcript)
    }
}

enum Next {
    Line(Line),
    End,
    /// The grace period after a result is over.
    GraceOver,
}

async fn next_line(lines: &mut Lines, rest_since: Option<Duration>) -> Result<Next, Failure> {
    let next = match rest_since {
        None => Some(lines.next().await?),
        Some(since) => {
            let left = (since + AFTER_RESULT).saturating_sub(clock::monotonic());
            clock::timeout(left, lines.next()).await.transpose()?
        }
    };
    Ok(match next {
        Some(Some(line)) => Next::Line(line),
        Some(None) => Next::End,
        None => Next::GraceOver,
    })
}

/// Sends INT, TERM and KILL, with time between them, until the child has ended. The host ends
/// leftovers of the agent's commands.
async fn end_by_force(child: &Child) -> Result<ExitStatus, Failure> {
    for signal in [Signal::Int, Signal::Term] {
        child.signal(signal)?;
        if let Some(status) = clock::timeout(BETWEEN_SIGNALS, child.wait()).await {
            return status;
        }
    }
    child.signal(Signal::Kill)?;
    child.wait().await
}

/// The last line of standard error that has text. If reading fails, the last such line before the
/// failure.
async fn complaint(child: &Child) -> Option<String> {
    let mut lines = child.stderr(0).lines(LONGEST_COMPLAINT_BYTES);
    let mut last = None;
    while let Ok(Some(line)) = lines.next().await {
        let text = line.text().trim().trim_end_matches('.').to_owned();
        if !text.is_empty() {
            last = Some(text);
        }
    }
    last
}
