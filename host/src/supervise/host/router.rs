//! The async task that owns all connections to supervisors.
//!
//! The router waits for four things at once: a command of the engine, a message of a supervisor,
//! room for a report, and the end of a slow job (a launch, a reconnection, the cleaning up after a
//! dead supervisor). So a slow job for one supervisor does not delay work for the others.

mod graves;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use self::graves::Grave;
use super::adopt::{self, Adopted, Notes};
use super::join::{self, Joined, NotJoined};
use super::link::{self, Change, Link};
use super::orphans::Orphans;
use super::recover::Recovered;
use super::silent::{Silence, Silent};
use super::{CLAIMS, COMMANDS, Opened, Order, REPORTS, Settings, Supervisors};
use crate::clock;
use crate::supervise::SuperviseError;
use crate::supervise::leader;
use crate::supervise::log::LogWatch;
use crate::supervise::process;
use crate::supervise::protocol::Command;
use crate::supervise::report::{Found, Report};
use crate::supervise::words::{AttemptKey, ChildId, NotStartedClass, StartChild, StopWhy};
use crate::text::chain;

/// How long sending the queued commands may take when the host ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Finds the existing supervisors, cleans up after dead ones and after `orphans`, and begins to
/// serve. Needs a tokio runtime.
pub(crate) async fn open(settings: Settings, orphans: Orphans) -> Result<Opened, SuperviseError> {
    let build = process::own_build().map_err(|source| SuperviseError::Directory {
        path: PathBuf::from("/proc/self/exe"),
        source,
    })?;
    let epoch = settings.epoch;
    let silent = Silent::default();
    let (to_router, orders) = mpsc::channel(COMMANDS);
    let (to_engine, reports) = mpsc::channel(REPORTS);
    let mut router = Router {
        settings,
        orders,
        to_engine,
        links: Vec::new(),
        current: None,
        last_number: 0,
        graves: HashMap::new(),
        stopped: HashSet::new(),
        jobs: JoinSet::new(),
        news: VecDeque::new(),
        to_flush: Vec::new(),
        silent: silent.clone(),
    };
    let directories = join::directories(&router.settings.dir)?;
    // Done before any supervisor is contacted: from here on, no start of an earlier host is carried
    // out.
    leader::note(&router.settings.dir, epoch).map_err(|source| SuperviseError::Directory {
        path: router.settings.dir.clone(),
        source,
    })?;
    router.last_number = directories.last_number;
    let adopting = directories.found.iter();
    let adopting = adopting.map(|(_, dir)| adopt::adopt(dir.clone(), epoch));
    // Neither needs the result of the other, and both mostly wait. The orphans have ended before
    // this host says of an attempt that no supervisor knows it.
    let (ended, adopted) = tokio::join!(orphans.end(), join_all(adopting));
    ended?;
    let mut found = Vec::new();
    for ((number, dir), adopted) in directories.found.into_iter().zip(adopted) {
        found.extend(router.take_up(number, dir, adopted?, &build));
    }
    let watch = LogWatch::open();
    let handle = tokio::spawn(drive(router, watch.clone()));
    Ok(Opened {
        supervisors: Supervisors {
            orders: to_router,
            watch,
            epoch,
            claims: Arc::new(Semaphore::new(CLAIMS)),
            silent,
        },
        found,
        reports,
        router: handle,
    })
}

async fn drive(mut router: Router, watch: LogWatch) {
    // This future also continues after an error of the watch. To begin it again would lose a report
    // that is on its way.
    let mut run = pin!(router.run());
    tokio::select! {
        () = &mut run => {}
        Err(error) = watch.drive() => {
            tracing::error!(%error, "output can no longer be followed");
            run.await;
        }
    }
}

struct Router {
    settings: Settings,
    orders: mpsc::Receiver<Order>,
    to_engine: mpsc::Sender<Report>,
    links: Vec<Link>,
    /// The number of the supervisor for new work.
    current: Option<u32>,
    last_number: u32,
    /// Directories of dead supervisors, with the attempts that are not acknowledged yet.
    graves: HashMap<u32, Grave>,
    /// Attempts that were stopped before any supervisor had them. No child of such an attempt is
    /// started until the attempt is acknowledged.
    stopped: HashSet<AttemptKey>,
    jobs: JoinSet<Done>,
    news: VecDeque<Report>,
    /// Callers to notify once the commands queued for all supervisors have been sent.
    to_flush: Vec<oneshot::Sender<()>>,
    silent: Silent,
}

/// The next event.
enum Next {
    Order(Option<Order>),
    /// The link at this index has something to read, or is broken.
    Heard(usize, io::Result<()>),
    Done(Done),
}

/// The result of a slow job.
enum Done {
    Joined(u32, Result<Joined, NotJoined>),
    Recovered(u32, Result<Recovered, SuperviseError>),
    /// The job panicked.
    Failed(String),
}

impl Router {
    async fn run(&mut self) {
        loop {
            while let Some(report) = self.news.pop_front() {
                if self.to_engine.send(report).await.is_err() {
                    return self.say_last_words().await;
                }
            }
            if !self.to_flush.is_empty() && !self.connects() {
                self.flush().await;
                for reply in self.to_flush.drain(..) {
                    // The caller may have stopped waiting.
                    reply.send(()).ok();
                }
            }
            match poll_fn(|context| self.poll(context)).await {
                Next::Order(Some(Order::Command(command))) => self.order(command),
                Next::Order(Some(Order::WhereIs(attempt, reply))) => {
                    let link = self.links.iter().find(|link| link.told.knows(&attempt));
                    if let Some(link) = link {
                        // The caller may have stopped waiting.
                        reply.send(link.dir.clone()).ok();
                    }
                }
                Next::Order(Some(Order::Flush(reply))) => self.to_flush.push(reply),
                Next::Order(None) => return self.say_last_words().await,
                Next::Heard(index, heard) => self.heard(index, heard),
                Next::Done(done) => self.done(done),
            }
        }
    }

    /// Whether commands wait for a connection that will soon be made. Connections to silent
    /// supervisors are left out, because nobody knows how long they take.
    fn connects(&self) -> bool {
        let is_silent = |link: &Link| self.silent.why(link.number).is_some();
        let mut links = self.links.iter();
        links.any(|link| !link.is_connected() && !is_silent(link))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(order) = self.orders.poll_recv(context) {
            return Poll::Ready(Next::Order(order));
        }
        for (index, link) in self.links.iter_mut().enumerate() {
            if let Poll::Ready(heard) = link.poll(context) {
                return Poll::Ready(Next::Heard(index, heard));
            }
        }
        match self.jobs.poll_join_next(context) {
            Poll::Ready(Some(Ok(done))) => Poll::Ready(Next::Done(done)),
            Poll::Ready(Some(Err(panic))) => {
                Poll::Ready(Next::Done(Done::Failed(panic.to_string())))
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Adopts the supervisor in a directory when the host starts.
    fn take_up(&mut self, number: u32, dir: PathBuf, adopted: Adopted, build: &str) -> Vec<Found> {
        match adopted {
            Adopted::Joined(joined) => {
                let mut link = Link::new(number, dir);
                if joined.welcome.identity.build == build {
                    self.current = Some(number);
                }
                let found = link.adopt(joined);
                self.links.push(link);
                self.retire_old();
                found
            }
            Adopted::Dead(recovered) => {
                let found = recovered.found;
                let attempts = found.iter().map(|found| found.attempt.clone()).collect();
                self.bury(number, dir, attempts);
                found
            }
            Adopted::Silent(notes) => self.wait_for_silent(number, dir, notes),
        }
    }

    /// Uses the notes of a silent supervisor until the supervisor answers or is dead.
    fn wait_for_silent(&mut self, number: u32, dir: PathBuf, notes: Notes) -> Vec<Found> {
        tracing::error!("{}", notes.why.said);
        let mut link = Link::silent(number, dir);
        let found = notes.states.into_iter().map(|mut state| {
            state.held = Some(notes.why.said.clone());
            link.told.found(state)
        });
        let found = found.collect();
        self.links.push(link);
        self.silent.note(number, notes.why);
        if !notes.is_foreign {
            self.rejoin(number);
        }
        found
    }

    /// Reports that a silent supervisor has answered, or that it is dead. `found` has the attempts
    /// that were missing in the supervisor's notes; the engine decides about them.
    fn heard_of(&mut self, number: u32, found: Vec<Found>) {
        let number = Some(number);
        self.news.push_back(Report::Reached { number, found });
    }

    /// Reports that a supervisor answers whose attempts are all known. It stops counting as silent
    /// here: when the engine handles the report, it could be silent again.
    fn answers_again(&mut self, number: u32) {
        self.silent.forget(number);
        let (number, found) = (None, Vec::new());
        self.news.push_back(Report::Reached { number, found });
    }

    /// Shows that the attempts of a supervisor wait for it, and gives new work to another one.
    /// Returns whether the reason is new.
    fn hold_back(&mut self, number: u32, why: &Silence) -> bool {
        self.current = self.current.filter(|current| *current != number);
        let before = self.silent.note(number, why.clone());
        if before.as_ref() == Some(&why.said) {
            return false;
        }
        if let Some(link) = self.links.iter_mut().find(|link| link.number == number) {
            let held = link.told.hold_back(before.as_deref(), &why.said);
            self.news.extend(held);
        }
        true
    }

    fn order(&mut self, command: Command) {
        match command {
            Command::Start(start) => self.start(*start),
            Command::Quit => {
                // A supervisor that was told to quit may end at any moment, so later starts need
                // another supervisor.
                self.current = None;
                for link in &mut self.links {
                    link.quitting = true;
                    link.give(Command::Quit);
                }
            }
            Command::Ack { attempt } => self.acknowledge(attempt),
            Command::Stop { .. } | Command::Finish { .. } | Command::Signal { .. } => {
                self.pass_on(command);
            }
        }
    }

    fn start(&mut self, start: StartChild) {
        let attempt = start.child.attempt();
        if self
            .graves
            .values()
            .any(|grave| grave.attempts.contains(attempt))
        {
            let message = "the attempt's supervisor is gone";
            return self.refuse(start.child, NotStartedClass::Supervisor, message);
        }
        if self.stopped.contains(attempt) {
            let message = "the attempt was stopped before this start";
            return self.refuse(start.child, NotStartedClass::Stopped, message);
        }
        let link = match self.links.iter().position(|link| link.told.knows(attempt)) {
            Some(index) => &mut self.links[index],
            None => self.current_link(),
        };
        let (number, attempt) = (link.number, attempt.clone());
        if let Err((child, message)) = link.start(start) {
            return self.refuse(child, NotStartedClass::Invalid, message);
        }
        if let Some(why) = self.silent.why(number)
            && let Some(link) = self.links.iter_mut().find(|link| link.number == number)
        {
            self.news.extend(link.told.hold(&attempt, &why));
        }
    }

    fn refuse(&mut self, child: ChildId, class: NotStartedClass, message: &str) {
        let message = message.to_owned();
        self.news.push_back(Report::NotStarted {
            child,
            class,
            message,
        });
    }

    /// The link for new work; its supervisor is started if there is none.
    fn current_link(&mut self) -> &mut Link {
        let present = self
            .links
            .iter()
            .position(|link| Some(link.number) == self.current && !link.is_ending);
        let index = present.unwrap_or_else(|| {
            self.last_number += 1;
            let number = self.last_number;
            let dir = self.settings.dir.join(number.to_string());
            self.current = Some(number);
            self.links.push(Link::new(number, dir.clone()));
            let settings = self.settings.clone();
            self.jobs
                .spawn(async move { Done::Joined(number, join::launch(settings, dir).await) });
            self.links.len() - 1
        });
        &mut self.links[index]
    }

    fn pass_on(&mut self, command: Command) {
        let (attempt, wants_end) = match &command {
            Command::Stop { attempt, .. } => (attempt.clone(), false),
            Command::Finish { attempt } => (attempt.clone(), true),
            Command::Signal { child, .. } => (child.attempt().clone(), false),
            Command::Start(_) | Command::Ack { .. } | Command::Quit => return,
        };
        let is_signal = matches!(command, Command::Signal { .. });
        match self.links.iter_mut().find(|link| link.told.knows(&attempt)) {
            Some(link) => {
                if wants_end {
                    link.told.asked_to_end(&attempt);
                }
                link.give(command);
            }
            None if is_signal => {}
            // No supervisor has the attempt, so none of the attempt's processes is alive.
            None => {
                if !wants_end {
                    self.stopped.insert(attempt.clone());
                }
                self.news.push_back(Report::Ended {
                    attempt,
                    swept: 0,
                    alive: 0,
                });
            }
        }
    }

    fn acknowledge(&mut self, attempt: AttemptKey) {
        self.stopped.remove(&attempt);
        if let Some(link) = self.links.iter_mut().find(|link| link.told.knows(&attempt)) {
            link.told.forget(&attempt);
            link.give(Command::Ack { attempt });
            return self.retire_old();
        }
        for grave in self.graves.values_mut() {
            grave.attempts.remove(&attempt);
        }
        self.remove_empty_graves();
    }

    /// Sends `quit` to each supervisor that is not the current one and has no attempts left.
    fn retire_old(&mut self) {
        for link in &mut self.links {
            if Some(link.number) != self.current && link.told.is_empty() && !link.quitting {
                link.quitting = true;
                link.give(Command::Quit);
            }
        }
    }

    fn heard(&mut self, index: usize, heard: io::Result<()>) {
        let link = &mut self.links[index];
        let broken = match heard.and_then(|()| link.hear(&mut self.news)) {
            Ok(fenced) => fenced,
            Err(error) => {
                tracing::debug!(%error, dir = %link.dir.display(), "the supervisor's connection broke");
                true
            }
        };
        if broken {
            link.cut();
        }
        let number = link.number;
        match link.change(&mut self.news) {
            Some(Change::Silent(why)) => {
                tracing::error!("{}", why.said);
                self.silent.note(number, why);
                self.current = self.current.filter(|current| *current != number);
            }
            Some(Change::Answers) => self.answers_again(number),
            None => {}
        }
        if broken {
            self.rejoin(number);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Joined(number, Ok(joined)) => self.joined(number, joined),
            Done::Joined(number, Err(NotJoined::Dead)) => self.died(number),
            Done::Joined(number, Err(NotJoined::Fault(error))) => self.not_joined(number, error),
            // The supervisor is alive and has only lost its lock. It ends its processes itself once
            // it notices the loss.
            Done::Recovered(number, Err(error @ SuperviseError::Copied { .. })) => {
                self.not_joined(number, error);
            }
            Done::Recovered(number, Ok(recovered)) => self.recovered(number, recovered),
            Done::Recovered(number, Err(error)) => self.not_recovered(number, &error),
            Done::Failed(message) => {
                tracing::error!(message, "a job of the router failed");
            }
        }
    }

    fn joined(&mut self, number: u32, mut joined: Joined) {
        let doubled = link::take_doubled(&self.links, number, &mut joined.states);
        let Some(link) = self.links.iter_mut().find(|link| link.number == number) else {
            return;
        };
        let was_silent = std::mem::take(&mut link.is_silent);
        let found = if was_silent {
            link.newly_found(&joined.states)
        } else {
            Vec::new()
        };
        let why = self.silent.why(number);
        if let Some(why) = &why {
            self.news.extend(link.told.let_go_on(why));
        }
        let news = link.joined(joined);
        for attempt in doubled {
            tracing::error!(%attempt, "two supervisors started this attempt; the processes of the silent supervisor are ended");
            link.give(Command::Stop {
                attempt: attempt.clone(),
                why: StopWhy::Cancelled,
                ladder: Vec::new(),
            });
            link.give(Command::Ack { attempt });
        }
        if was_silent {
            self.heard_of(number, found);
        } else if why.is_some() {
            self.answers_again(number);
        }
        self.news.extend(news);
        // A supervisor that was silent until now may be an old one without attempts.
        self.retire_old();
    }

    fn not_joined(&mut self, number: u32, error: SuperviseError) {
        let said = chain(&error);
        let link = self.links.iter().find(|link| link.number == number);
        let joined = link.filter(|link| link.was_joined);
        // The supervisor obeys a newer host, or speaks a protocol that this host does not know.
        let is_final = matches!(
            error,
            SuperviseError::Fenced { .. } | SuperviseError::Protocol { .. }
        );
        if let Some(link) = joined.filter(|_| !is_final) {
            let why = Silence::not_reached(&link.dir, &said);
            if self.hold_back(number, &why) {
                tracing::error!("{}", why.said);
            }
            return self.rejoin(number);
        }
        let was_joined = joined.is_some();
        tracing::error!(error = %said, "a supervisor cannot be reached");
        // A new supervisor speaks another protocol if the executable file was replaced. Nothing was
        // sent to it.
        if !was_joined {
            self.not_launched(number, &error);
        }
    }

    fn rejoin(&mut self, number: u32) {
        let Some(link) = self.links.iter().find(|link| link.number == number) else {
            return;
        };
        let (dir, epoch) = (link.dir.clone(), self.settings.epoch);
        self.jobs
            .spawn(async move { Done::Joined(number, join::rejoin(dir, epoch).await) });
    }

    /// Sends the queued commands after the engine has ended, unless supervisors are too slow.
    async fn say_last_words(&mut self) {
        self.flush().await;
        self.jobs.shutdown().await;
    }

    async fn flush(&mut self) {
        let send_all = async {
            for link in &mut self.links {
                link.flush_all().await;
            }
        };
        tokio::select! {
            () = send_all => {}
            () = clock::sleep(LAST_WORDS) => tracing::warn!("a supervisor did not accept the last commands"),
        }
    }
}
