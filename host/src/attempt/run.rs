//! Starting attempts, taking them up again, stopping them, and forgetting them once their end is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use claudine_domain::{
    attempt::StopWhy, batch::DocumentKey, id::AttemptId, step::Report, task::Task,
};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::{
    allowed::still_allowed,
    ending::ending,
    given::Handed,
    guest_host::GuestHost,
    live::{ChildState, Live, State},
    route::Known,
    standby::StandBy,
};
use crate::{
    checkpoint, clock,
    engine::{Attempts, Launch, ReportSender},
    environment::Environments,
    layout::Layout,
    lock::lock,
    plugin::{
        Catalog, GuestEnd, GuestOutcome, GuestTask, PreviousAttempt, Start, StopRequest, visible,
    },
    store::Store,
    supervise::{self, Supervisors},
    worktree::Worktrees,
};

/// Beyond the ladder's own waits: what an executor has to say its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What attempts need, and which are under way.
pub(crate) struct Runner {
    pub(super) plugins: Arc<Catalog>,
    pub(super) store: Arc<dyn Store>,
    pub(super) supervisors: Supervisors,
    pub(super) environments: Arc<Environments>,
    pub(super) worktrees: Arc<Worktrees>,
    pub(super) layout: Layout,
    pub(super) reports: ReportSender,
    pub(super) live: Mutex<BTreeMap<AttemptId, Arc<Live>>>,
    /// What will be started next, as far as it was made ready for it.
    pub(super) standing_by: Mutex<BTreeMap<AttemptId, StandBy>>,
    /// What supervisors had of attempts when this host connected; each is taken up once.
    pub(super) known: Mutex<BTreeMap<AttemptId, Known>>,
    /// Told after each release.
    released: tokio::sync::Notify,
    /// For the trait's methods, which have no `Arc` of their own.
    this: std::sync::Weak<Runner>,
    pub(super) tasks: TaskTracker,
}

/// What a runner is made of.
pub(crate) struct RunnerParts {
    pub(crate) plugins: Arc<Catalog>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) supervisors: Supervisors,
    pub(crate) environments: Arc<Environments>,
    pub(crate) worktrees: Arc<Worktrees>,
    pub(crate) layout: Layout,
    pub(crate) reports: ReportSender,
    pub(crate) known: BTreeMap<AttemptId, Known>,
}

/// An attempt ready to be run.
struct Prepared {
    task: GuestTask,
    checkpoint: Option<Vec<u8>>,
    /// What its children have in their environment beside what is the task's.
    variables: Vec<(String, String)>,
}

/// What is kept of a task beside its row.
struct Documents {
    spec: Arc<[u8]>,
    variables: Arc<BTreeMap<String, String>>,
    /// Of the attempt before this one.
    outputs: Option<Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
}

impl Runner {
    pub(crate) fn new(parts: RunnerParts) -> Arc<Self> {
        let RunnerParts {
            plugins,
            store,
            supervisors,
            environments,
            worktrees,
            layout,
            reports,
            known,
        } = parts;
        Arc::new_cyclic(|this| Self {
            plugins,
            store,
            supervisors,
            environments,
            worktrees,
            layout,
            reports,
            live: Mutex::default(),
            standing_by: Mutex::default(),
            known: Mutex::new(known),
            released: tokio::sync::Notify::new(),
            this: this.clone(),
            tasks: TaskTracker::new(),
        })
    }

    fn begin(&self, launch: Launch, resumed: Option<Known>) {
        let is_resumed = resumed.is_some();
        let (live, stopped) = Live::new(
            launch.attempt,
            ladder_of(&launch.task),
            resumed.map_or_else(State::default, State::from),
        );
        let live = Arc::new(live);
        lock(&self.live).insert(launch.attempt, live.clone());
        live.begin(launch.task.clone());
        self.set_to_work(launch, live, is_resumed, stopped);
    }

    /// Runs the executor, which is held up at its first child until the attempt is begun, and sees to the end.
    pub(super) fn set_to_work(
        &self,
        launch: Launch,
        live: Arc<Live>,
        resumed: bool,
        stopped: oneshot::Receiver<StopRequest>,
    ) -> Option<JoinHandle<()>> {
        let runner = self.this.upgrade()?;
        Some(self.tasks.spawn(async move {
            let result = runner.execute(launch, &live, resumed, stopped).await;
            let task = live.begun().await;
            runner.finish(task, &live, result).await;
        }))
    }

    /// Runs the executor to its answer.
    async fn execute(
        &self,
        launch: Launch,
        live: &Arc<Live>,
        resumed: bool,
        stopped: oneshot::Receiver<StopRequest>,
    ) -> Result<GuestOutcome, GuestEnd> {
        let executor = self
            .plugins
            .executor(&launch.task.request.executor)
            .map_err(GuestEnd::Unavailable)?
            .clone();
        let workspace = self.workspace(&launch).await?;
        let Prepared {
            task,
            checkpoint,
            variables,
        } = self
            .prepare(&launch, &executor, &workspace, resumed)
            .await?;
        live.change(|state| state.given = launch.task.reads_others());
        let start = if resumed {
            Start::Resume(checkpoint.unwrap_or_default())
        } else {
            Start::Fresh
        };
        let host = Arc::new(GuestHost::new(
            self,
            launch.task.request.clone(),
            live.clone(),
            executor.manifest(),
            variables,
            workspace,
        ));
        // What was asked is the guest's now, and the row as it stood then is nobody's.
        drop(launch);
        executor.run(task, start, host, stopped).await
    }

    /// The attempt as the guest is told of it.
    async fn prepare(
        &self,
        launch: &Launch,
        executor: &crate::plugin::Executor,
        workspace: &str,
        resumed: bool,
    ) -> Result<Prepared, GuestEnd> {
        let Launch {
            attempt,
            task,
            spec,
        } = launch;
        let previous = previous(task, *attempt);
        let request = &task.request;
        let variables = if executor.manifest().reads_env.is_empty() {
            Some(Arc::default())
        } else {
            self.environments.recent(&request.env_digest)
        };
        let at_hand = match (spec, variables) {
            (Some(spec), Some(variables)) if !resumed && previous.is_none() => Some(Documents {
                spec: spec.clone(),
                variables,
                outputs: None,
                checkpoint: None,
            }),
            _ => None,
        };
        let documents = if let Some(documents) = at_hand {
            documents
        } else {
            let previous = previous.as_ref().map(|(id, _)| *id);
            self.read_documents(*attempt, &request.env_digest, previous, resumed)
                .await
                .map_err(unavailable)?
        };
        let Documents {
            spec,
            variables,
            outputs,
            checkpoint,
        } = documents;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let number = previous.as_ref().map(|(id, _)| id.number);
        let handed = if task.reads_others() {
            let handed = self.hand_over(launch, text(&spec), number).await;
            handed.map_err(GuestEnd::Failed)?
        } else {
            Handed {
                spec: text(&spec),
                variables: Vec::new(),
                context: None,
            }
        };
        let guest = GuestTask {
            id: attempt.task.to_string(),
            attempt: attempt.number,
            spec: handed.spec,
            workspace: workspace.to_owned(),
            path: variables.get("PATH").cloned(),
            env: visible(executor.manifest(), &variables),
            labels: task
                .request
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            previous: previous.map(|(_, previous)| PreviousAttempt {
                outputs: outputs.map_or(previous.outputs, |bytes| text(&bytes)),
                resume: handed.context,
                ..previous
            }),
        };
        still_allowed(request, executor, &guest).await?;
        Ok(Prepared {
            task: guest,
            checkpoint,
            variables: handed.variables,
        })
    }

    /// Reads what is not at hand, on a thread that may block.
    async fn read_documents(
        &self,
        attempt: AttemptId,
        env_digest: &str,
        previous: Option<AttemptId>,
        resumed: bool,
    ) -> Result<Documents, String> {
        let (store, environments) = (self.store.clone(), self.environments.clone());
        let env_digest = env_digest.to_owned();
        let read = move || -> Result<_, String> {
            let document = |key| store.document(key).map_err(|error| error.to_string());
            let spec = document(DocumentKey::Spec(attempt.task))?
                .ok_or("its request is not in the store")?;
            let outputs = match previous {
                Some(previous) => document(DocumentKey::Outputs(previous))?,
                None => None,
            };
            let checkpoint = if resumed {
                document(DocumentKey::Checkpoint(attempt))?
            } else {
                None
            };
            let variables = environments
                .read(&env_digest)
                .map_err(|error| format!("its environment cannot be read: {error}"))?;
            Ok(Documents {
                spec: spec.into(),
                variables,
                outputs,
                checkpoint,
            })
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|panic| Err(panic.to_string()))
    }

    /// Waits until nothing of the attempt is alive, then tells its end.
    async fn finish(&self, task: &Task, live: &Live, result: Result<GuestOutcome, GuestEnd>) {
        let attempt = live.id;
        let (children, ended) = live.look(|state| (!state.children.is_empty(), state.is_over()));
        if children && !ended {
            self.reports.send(attempt, Report::Finishing).await;
            if let Err(error) = self.supervisors.finish(live.key.clone()) {
                tracing::warn!(%attempt, %error, "its supervisor cannot be told that it is finished");
            }
            live.until(|state| state.is_over().then_some(())).await;
        }
        let state = live.state();
        if state.untold {
            self.tell_facts(attempt, &state).await;
        }
        let started = task.last_attempt().and_then(|last| last.started_at);
        let wall = started.map_or(0, |started| clock::wall().0.saturating_sub(started.0));
        let mut ending = Box::new(ending(&task.request.executor, result, &state, wall));
        self.look_at_work(attempt, task, &mut ending).await;
        live.change(|state| state.ending = Some(ending.clone()));
        self.reports.send(attempt, Report::Ended(ending)).await;
    }

    /// Tells the engine again what it was told of an attempt before its board was loaded anew.
    fn tell_again(&self, live: Arc<Live>) {
        let Some(runner) = self.this.upgrade() else {
            return;
        };
        self.tasks.spawn(async move {
            let state = live.state();
            runner.tell_facts(live.id, &state).await;
            if let Some(checkpoint) = state.checkpoint {
                runner
                    .reports
                    .send(live.id, Report::Checkpoint(checkpoint))
                    .await;
            }
            if let Some(ending) = state.ending {
                runner.reports.send(live.id, Report::Ended(ending)).await;
            }
        });
    }

    async fn tell_facts(&self, attempt: AttemptId, state: &State) {
        let leader = state.leader();
        if leader.is_some() {
            self.reports.send(attempt, Report::Started { leader }).await;
        }
        if state.alive {
            self.reports.send(attempt, Report::Alive).await;
        }
        if let Some(micro_usd) = state.cost_micro_usd {
            self.reports.send(attempt, Report::Cost(micro_usd)).await;
        }
        if let Some(session) = &state.session {
            self.reports
                .send(attempt, Report::Session(session.clone()))
                .await;
        }
    }

    /// Waits until what was found to have ended before this host began is written down as ended: nobody is shown as running who is not.
    pub(crate) async fn written_off(&self) {
        let over: Vec<AttemptId> = {
            let known = lock(&self.known);
            let live = lock(&self.live);
            let resumed = live
                .iter()
                .filter(|(_, live)| live.look(State::has_ended))
                .map(|(id, _)| *id);
            let found = known
                .iter()
                .filter(|(_, known)| known.has_ended())
                .map(|(id, _)| *id);
            resumed.chain(found).collect()
        };
        loop {
            let released = self.released.notified();
            let waiting = {
                let (known, live) = (lock(&self.known), lock(&self.live));
                over.iter()
                    .any(|id| known.contains_key(id) || live.contains_key(id))
            };
            if !waiting {
                return;
            }
            released.await;
        }
    }
}

fn unavailable(message: String) -> GuestEnd {
    GuestEnd::Failed(crate::plugin::Failure::new("resource", message))
}

/// A signal that the supervisor does not know is left out: the manifest was checked when the plugin was loaded.
pub(super) fn ladder_of(task: &Task) -> Vec<supervise::Rung> {
    let rungs = task.request.ladder.iter();
    rungs
        .filter_map(|rung| {
            let signal = rung.signal.parse().ok()?;
            Some(supervise::Rung {
                signal,
                wait: Duration::from_millis(rung.wait_ms),
            })
        })
        .collect()
}

/// The attempt before this one that ended: whose session may be taken up.
fn previous(task: &Task, attempt: AttemptId) -> Option<(AttemptId, PreviousAttempt)> {
    let last = task.attempts.iter().rev().find(|one| {
        let ended = one.ended.as_ref();
        one.number < attempt.number && ended.is_some_and(|ended| !ended.never_began)
    })?;
    let ended = last.ended.as_ref()?;
    let id = AttemptId {
        task: task.id,
        number: last.number,
    };
    let previous = PreviousAttempt {
        number: last.number,
        outcome: ended.outcome.as_str().to_owned(),
        class: ended
            .reason
            .as_ref()
            .map_or(String::new(), |reason| reason.class.as_str().to_owned()),
        // Of one that was cut off its session is known all the same.
        outputs: match &last.session {
            Some(session) => serde_json::json!({ "session_id": session.id }).to_string(),
            None => "{}".to_owned(),
        },
        resume: None,
    };
    Some((id, previous))
}

impl Attempts for Runner {
    fn prepare(&self, launch: Launch) {
        self.stand_by(launch);
    }

    fn dismiss(&self, attempt: AttemptId) {
        self.stand_down(attempt);
    }

    fn start(&self, launch: Launch) {
        if let Err(launch) = self.begin_standing_by(launch) {
            self.begin(launch, None);
        }
    }

    fn resume(&self, launch: Launch) {
        let under_way = lock(&self.live).get(&launch.attempt).cloned();
        if let Some(live) = under_way {
            self.tell_again(live);
        } else {
            let known = lock(&self.known).remove(&launch.attempt);
            self.begin(launch, Some(known.unwrap_or_default()));
        }
    }

    fn stop(&self, attempt: AttemptId, why: StopWhy) {
        let Some(live) = lock(&self.live).get(&attempt).cloned() else {
            tracing::debug!(%attempt, "nothing to stop");
            return;
        };
        let ladder = live.ladder.clone();
        let grace: Duration = ladder
            .iter()
            .map(|rung: &supervise::Rung| rung.wait)
            .sum::<Duration>()
            + LAST_WORDS;
        let (reason, asked) = match &why {
            StopWhy::Cancelled { .. } | StopWhy::Budget { .. } => {
                ("cancelled", supervise::StopWhy::Cancelled)
            }
            StopWhy::IdleTimeout => ("timed_out", supervise::StopWhy::Idle),
            StopWhy::Timeout | StopWhy::StartTimeout => ("timed_out", supervise::StopWhy::TimedOut),
        };
        let children = live.change(|state| {
            state.stop = Some(why);
            state
                .children
                .iter()
                .any(|child| matches!(child, ChildState::Sent | ChildState::Running(_)))
        });
        live.ask_to_stop(StopRequest {
            reason: reason.to_owned(),
            grace,
        });
        if children && let Err(error) = self.supervisors.stop(live.key.clone(), asked, ladder) {
            tracing::warn!(%attempt, %error, "its supervisor cannot be told to stop it");
        }
    }

    fn release(&self, attempt: AttemptId) {
        let live = lock(&self.live).remove(&attempt);
        self.released.notify_waiters();
        let key = supervise::AttemptKey::new(attempt.to_string());
        let (children, input_files, given) = live.map_or((true, 1, true), |live| {
            live.look(|state| (!state.children.is_empty(), state.input_files, state.given))
        });
        if children && let Err(error) = self.supervisors.ack(key) {
            // It keeps the attempt until a host tells it again.
            tracing::debug!(%attempt, %error, "its supervisor cannot be told to forget it");
        }
        if given && let Err(error) = checkpoint::files::remove(&self.layout.inputs(attempt)) {
            tracing::warn!(%attempt, %error, "what it was given of other tasks stays behind");
        }
        for index in 0..input_files {
            let path = self.layout.stdin_file(attempt, index);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "an input file stays behind");
                }
                _ => {}
            }
        }
    }

    fn checkpoint_stored(&self, attempt: AttemptId) {
        if let Some(live) = lock(&self.live).get(&attempt) {
            live.change(|state| state.checkpoints_stored += 1);
        }
    }

    fn begun(&self, attempts: &BTreeSet<AttemptId>) {
        let over: Vec<AttemptId> = lock(&self.known)
            .keys()
            .filter(|id| !attempts.contains(id))
            .copied()
            .collect();
        for attempt in over {
            lock(&self.known).remove(&attempt);
            self.release(attempt);
        }
    }

    fn knows(&self, attempt: AttemptId) -> bool {
        lock(&self.live).contains_key(&attempt) || lock(&self.known).contains_key(&attempt)
    }
}
