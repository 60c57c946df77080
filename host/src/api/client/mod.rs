//! The client of a host: one method per request, over the socket. The command line and MCP send
//! requests to a host only through this client.
//!
//! The client starts a host if none runs, keeps connections for later requests, and repeats a
//! request after a restart of the host if repeating it does no harm.

mod address;
mod connection;
mod error;
mod events;
mod follow;
mod frames;
mod start;
mod verbs;
mod waiting;

pub(super) use error::ClientError;
pub(super) use events::Heard;
pub(super) use follow::{Followed, Follower};
#[cfg(test)]
pub(super) use start::tests::host_start;
pub(super) use start::{Announcement, HostStart, Policy, layout};
pub(super) use waiting::{Seen, is_of_its_end};

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, body::Bytes, header::RETRY_AFTER, http::response};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::DuplexStream, net::UnixStream};

use self::connection::{Broken, Connection, Stream};
use super::rest::{NEXT_HOST_HEADER, VERSION_HEADER, converse_here};
use crate::{
    app::{AppError, ErrorKind, Host, stopped_compiler},
    clock,
    identity::HostProcess,
    lock::lock,
    proc_stat,
};

/// Time limit of ordinary answers, which take milliseconds. A host that takes this long is stuck,
/// and an error is better than waiting for it for ever.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// Time without an answer after which the client checks whether the host is stopped by a signal.
const LOOK_AFTER: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2_000 });
/// Limit of idle connections that are kept: as many as an agent usually has calls in flight. With
/// fewer, most of these calls would open a connection, and close it after the answer. A host that
/// needs the places of idle connections closes them.
const KEPT_CONNECTIONS: usize = 16;
/// Time for which an idle connection is kept. The host keeps idle connections longer.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Limit of how often a repeatable request is sent if hosts end before they answer.
const TRIES: u32 = 3;
/// Buffer size of a connection within this process.
const HERE_BYTES: usize = 64 << 10;

/// A request.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: String,
    body: Bytes,
    /// Whether sending the request twice has the same effect as sending it once.
    repeatable: bool,
    limit: Option<Duration>,
    /// Whether the request only reads stored data, so that no host is started for it.
    reads: bool,
    /// Whether the request gives a host work. A host within this process can check such a request,
    /// and changes nothing.
    works: bool,
    /// The command that shows whether the request was carried out.
    shown_by: &'static str,
}

impl Ask {
    fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            body: Bytes::new(),
            repeatable: true,
            limit: Some(ANSWER_LIMIT),
            reads: true,
            works: false,
            shown_by: error::SHOWN_BY,
        }
    }

    fn post(path: String, body: &impl Serialize) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Unwritable)?;
        Ok(Self {
            method: Method::POST,
            path,
            body: body.into(),
            repeatable: false,
            limit: Some(ANSWER_LIMIT),
            reads: false,
            works: false,
            shown_by: error::SHOWN_BY,
        })
    }

    /// Marks a request that only a running host can answer.
    fn of_host(mut self) -> Self {
        self.reads = false;
        self
    }

    /// Marks a request that only reads, although it has a body.
    fn reading(mut self) -> Self {
        (self.reads, self.repeatable) = (true, true);
        self
    }

    /// Marks a request that gives a host work.
    fn of_work(mut self) -> Self {
        self.works = true;
        self
    }

    /// Marks a request without a time limit.
    fn patient(mut self) -> Self {
        self.limit = None;
        self
    }

    fn repeatable_if(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    /// Names the command that shows whether the request was carried out.
    fn shown_by(mut self, command: &'static str) -> Self {
        self.shown_by = command;
        self
    }

    /// The error of a request for whose answer the client waits no longer. If the request changes
    /// something, the host may still carry it out: it drops a request whose client is gone, unless
    /// it has begun to carry it out when it notices that.
    fn given_up(&self, error: ClientError) -> ClientError {
        let shown_by = self.shown_by;
        match error {
            _ if self.reads || self.method == Method::GET => error,
            ClientError::Stopped(pid) => ClientError::StoppedMeanwhile { pid, shown_by },
            ClientError::Silent(limit) => ClientError::SilentMeanwhile { limit, shown_by },
            error => error,
        }
    }

    /// The error if the host was lost before it had answered.
    fn cut(&self, source: hyper::Error) -> ClientError {
        ClientError::Cut {
            source: Some(source),
            shown_by: self.shown_by,
        }
    }
}

/// The pid of the process that listens at a socket. Does not wait if too many clients already do.
/// Must be called within a runtime.
fn listener(socket: &Path) -> io::Result<u32> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&client, &SocketAddrUnix::new(socket)?)?;
    let peer = UnixStream::from_std(client.into())?.peer_cred()?;
    // The pid is 0 if the process is in another PID namespace, which `rustix` does not allow for.
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    pid.filter(|pid| *pid > 0)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Client of the host of one data directory.
pub(super) struct Client {
    start: HostStart,
    /// Idle connections, each with the monotonic time since which it has been idle.
    idle: Mutex<Vec<(Duration, Connection)>>,
    /// The host's version if it differs from this program's, until the difference is reported.
    other_version: Mutex<Option<String>>,
    /// A host within this process. If no other host runs, it answers the requests that only read.
    offline: Mutex<Option<Arc<Host>>>,
    /// Locked while a request is checked within this process. A check needs much memory, so
    /// requests are checked one at a time.
    check: tokio::sync::Mutex<()>,
}

/// Reason why a try failed.
enum Fault {
    Broken(Broken),
    Client(ClientError),
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl Client {
    pub(super) fn new(start: HostStart) -> Self {
        Self {
            start,
            idle: Mutex::default(),
            other_version: Mutex::default(),
            offline: Mutex::default(),
            check: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn start(&self) -> &HostStart {
        &self.start
    }

    /// The version of the host if it differs from this program's; returned once.
    pub(super) fn take_other_version(&self) -> Option<String> {
        lock(&self.other_version).take()
    }

    /// Sends a request and parses the answer as JSON.
    async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, ClientError> {
        let mut tries = 1;
        let give_up = clock::monotonic() + start::OTHER_HOST_LIMIT;
        let bytes = loop {
            let answered = self.answered(ask.limit, self.try_once(&ask)).await;
            match answered.map_err(|error| ask.given_up(error))? {
                Ok(bytes) => break bytes,
                Err(Fault::Broken(broken)) if tries < TRIES && (ask.repeatable || !broken.sent) => {
                    tries += 1;
                }
                Err(Fault::Broken(broken)) => return Err(ask.cut(broken.source)),
                // The host is shutting down, and has left the request to the next one.
                Err(Fault::Client(ClientError::Refused(error)))
                    if error.is_for_next_host && clock::monotonic() < give_up =>
                {
                    clock::sleep(waiting::LOOK_AGAIN).await;
                }
                // The host is shutting down. A later try can read stored data without the host.
                Err(Fault::Client(error))
                    if ask.reads
                        && self.start.policy != Policy::Never
                        && tries < TRIES
                        && waiting::is_of_its_end(&error) =>
                {
                    tries += 1;
                    clock::sleep(waiting::LOOK_AGAIN).await;
                }
                Err(Fault::Client(error)) => return Err(error),
            }
        };
        serde_json::from_slice(&bytes).map_err(ClientError::Unreadable)
    }

    /// Waits for an answer up to the limit. Fails early if the host is stopped by a signal, because
    /// then no answer comes. The time in which the host compiles plugins does not count, because
    /// the compiler has a time limit of its own.
    async fn answered<F: Future>(
        &self,
        limit: Option<Duration>,
        answer: F,
    ) -> Result<F::Output, ClientError> {
        tokio::pin!(answer);
        let begun = clock::monotonic();
        let mut counted_from = begun;
        let mut told = start::Told::default();
        loop {
            if let Some(answer) = clock::within(LOOK_AFTER, answer.as_mut()).await {
                return Ok(answer);
            }
            if let Some(pid) = self.stopped_host() {
                return Err(ClientError::Stopped(pid));
            }
            let Some(limit) = limit else { continue };
            let now = clock::monotonic();
            if self.start.is_compiling() {
                counted_from = now;
                if now >= begun + start::TELL_AFTER {
                    self.start.tell_of_compiling(&mut told);
                }
            }
            if now >= counted_from + limit {
                return Err(ClientError::Silent(limit));
            }
        }
    }

    /// Waits for an answer about plugins. Fails early if the process that compiles one of them does
    /// nothing, because the host waits for that process for minutes.
    async fn unless_compiler_is_stopped<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let stopped = async {
            loop {
                clock::sleep(LOOK_AFTER).await;
                if self.start.is_compiling()
                    && let Some(compiler) = stopped_compiler(&self.start.layout)
                {
                    return compiler;
                }
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            compiler = stopped => Err(ClientError::CompilerStopped(compiler)),
        }
    }

    /// The pid of the host, if it is stopped by a signal. If its lock file was removed, the host is
    /// known by its socket.
    fn stopped_host(&self) -> Option<u32> {
        let layout = &self.start.layout;
        if let Some(host) = HostProcess::of(layout) {
            return host.is_stopped().then_some(host.pid);
        }
        let pid = listener(&layout.socket()).ok()?;
        // A process that cannot be looked at is not known to be stopped.
        let stat = proc_stat::try_stat(pid).ok().flatten()?;
        stat.is_stopped().then_some(pid)
    }

    async fn try_once(&self, ask: &Ask) -> Result<Bytes, Fault> {
        let mut connection = self.connection(ask).await?;
        let (head, body) = connection.send(ask).await?.into_parts();
        let bytes = connection
            .drive(body.collect())
            .await
            .map_err(Broken::unfinished)?
            .to_bytes();
        self.note_version(&head.headers);
        if !connection.is_here {
            self.keep(connection);
        }
        if head.status.is_success() {
            Ok(bytes)
        } else {
            Err(refusal(&head, &bytes).into())
        }
    }

    /// An idle connection, or a new one to the host, which is started if needed. A request that
    /// only reads is answered within this process if no host runs.
    async fn connection(&self, ask: &Ask) -> Result<Connection, ClientError> {
        loop {
            // The lock must be released before awaiting.
            let idle = lock(&self.idle).pop();
            let Some((since, mut connection)) = idle else {
                break;
            };
            let is_fresh = clock::monotonic() < since + KEPT_FOR;
            if is_fresh && connection.is_usable().await {
                return Ok(connection);
            }
        }
        let host = match self.start.policy {
            Policy::IfNeeded if ask.reads => self.start.reach().await?,
            Policy::IfNeeded | Policy::Never => Some(self.start.connect().await?.0),
            Policy::ForWork => self.reach_for(ask).await?,
        };
        let is_here = host.is_none();
        let stream: Box<dyn Stream> = match host {
            Some(stream) => Box::new(stream),
            None => Box::new(self.read_here()?),
        };
        let connection = Connection::open(stream, self.start.via).await;
        let mut connection = connection.map_err(|error| ClientError::cut(Some(error)))?;
        connection.is_here = is_here;
        Ok(connection)
    }

    /// Connects to a host, which is started only if the request needs it and is not certain to be
    /// refused. `None` if this process can answer the request.
    async fn reach_for(&self, ask: &Ask) -> Result<Option<UnixStream>, ClientError> {
        let running = self.start.reach().await?;
        if running.is_some() || ask.reads {
            return Ok(running);
        }
        // Nobody wanted the end of a host that has crashed.
        if self.start.is_lost() {
            match self.start.connect_if_lost().await {
                Err(ClientError::NotRunning { .. }) => {}
                started => return started.map(Some),
            }
        }
        if !ask.works {
            return Err(self.start.not_running());
        }
        self.check_here(ask).await?;
        Ok(Some(self.start.connect().await?.0))
    }

    /// Lets a host within this process check a request that gives a host work. Returns its refusal.
    /// If it cannot decide, for example because the store has to be migrated first, the host that
    /// is to be started decides.
    async fn check_here(&self, ask: &Ask) -> Result<(), ClientError> {
        let _turn = self.check.lock().await;
        // Another request may have started a host meanwhile.
        if self.start.reach().await?.is_some() {
            return Ok(());
        }
        // The settings may have changed since the last check, so they are read again. If they
        // cannot be used, the start of a host fails and says so.
        let Ok((host, None)) = (self.start.offline)(&self.start.overrides) else {
            return Ok(());
        };
        let (ours, theirs) = tokio::io::duplex(HERE_BYTES);
        converse_here(theirs, host);
        let checked = async {
            let stream: Box<dyn Stream> = Box::new(ours);
            let mut connection = Connection::open(stream, self.start.via).await.ok()?;
            let (head, body) = connection.send(ask).await.ok()?.into_parts();
            let bytes = connection.drive(body.collect()).await.ok()?.to_bytes();
            (!head.status.is_success()).then(|| refusal(&head, &bytes))
        };
        match clock::within(ANSWER_LIMIT, checked).await.flatten() {
            Some(ClientError::Refused(error)) if is_refusal(error.kind) => {
                Err(ClientError::Refused(error))
            }
            _ => Ok(()),
        }
    }

    /// Opens a connection to a host within this process.
    fn read_here(&self) -> Result<DuplexStream, ClientError> {
        let mut offline = lock(&self.offline);
        if offline.is_none() {
            let made = (self.start.offline)(&self.start.overrides);
            let (host, warning) = made.map_err(ClientError::Refused)?;
            if let Some(warning) = warning {
                (self.start.say)(&warning);
            }
            *offline = Some(host);
        }
        let (ours, theirs) = tokio::io::duplex(HERE_BYTES);
        if let Some(host) = &*offline {
            converse_here(theirs, host.clone());
        }
        Ok(ours)
    }

    /// Keeps a connection for later requests, and closes those that have been idle for too long.
    fn keep(&self, connection: Connection) {
        let now = clock::monotonic();
        let mut idle = lock(&self.idle);
        idle.retain(|(since, _)| now < *since + KEPT_FOR);
        if idle.len() < KEPT_CONNECTIONS {
            idle.push((now, connection));
        }
    }

    fn note_version(&self, headers: &HeaderMap) {
        let version = headers
            .get(VERSION_HEADER)
            .and_then(|version| version.to_str().ok());
        if let Some(version) = version.filter(|version| *version != env!("CARGO_PKG_VERSION")) {
            *lock(&self.other_version) = Some(version.to_owned());
        }
    }
}

/// Whether an error of this kind is about the request itself, so that every host would refuse the
/// request.
fn is_refusal(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Ambiguous
        | ErrorKind::Conflict
        | ErrorKind::Forbidden
        | ErrorKind::Limit => true,
        ErrorKind::StoreFull | ErrorKind::Unavailable | ErrorKind::Internal => false,
    }
}

/// Turns an unsuccessful answer into an error.
fn refusal(head: &response::Parts, body: &[u8]) -> ClientError {
    let error = serde_json::from_slice::<AppError>(body).unwrap_or_else(|_| {
        let status = head.status;
        let body = String::from_utf8_lossy(body)
            .chars()
            .take(200)
            .collect::<String>();
        AppError::new(
            ErrorKind::Internal,
            format!("the host answered {status}: {body}"),
        )
    });
    ClientError::Refused(AppError {
        is_for_next_host: head.headers.contains_key(NEXT_HOST_HEADER),
        is_passing: head.headers.contains_key(RETRY_AFTER),
        ..error
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::join_all;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
        sync::Barrier,
    };

    use super::*;
    use crate::{identity::Purpose, layout::Layout};

    /// Number of calls that an agent has in flight.
    const AT_ONCE: usize = 16;

    /// Answers the requests of a connection, each only when all requests of its round have arrived.
    async fn answer(mut stream: UnixStream, round: Arc<Barrier>, used: Arc<AtomicUsize>) {
        let mut request = Vec::new();
        // A client that looks for the pid of a slow host opens a connection without a request.
        let mut is_used = false;
        loop {
            while !request.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap() == 0 {
                    return;
                }
            }
            request.clear();
            if !std::mem::replace(&mut is_used, true) {
                used.fetch_add(1, Ordering::Relaxed);
            }
            round.wait().await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull";
            stream.write_all(answer).await.unwrap();
        }
    }

    /// The next connection with a request, once the request has arrived. A client that looks for
    /// the pid of a slow host opens a connection without a request.
    pub(super) async fn asked(listener: &UnixListener) -> UnixStream {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.unwrap() > 0 {
                if request.ends_with(b"\r\n\r\n") {
                    return stream;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_a_host_refused_because_it_goes_down_is_sent_to_the_next_host() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let listener = UnixListener::bind(layout.socket()).unwrap();
        let body = r#"{"kind":"unavailable","message":"the host is going down"}"#;
        let length = body.len();
        let refused = format!(
            "HTTP/1.1 503 Service Unavailable\r\n{NEXT_HOST_HEADER}: yes\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let done = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull".to_owned();
        tokio::spawn(async move {
            for answer in [refused, done] {
                // Each host closes its connection.
                let mut stream = asked(&listener).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let asked = Ask::get("/v1".to_owned()).of_host();
        let client = Client::new(host_start(layout));
        client.ask::<()>(asked).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_is_not_late_as_long_as_the_host_compiles_plugins() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let mut lock = std::fs::File::create(layout.lock()).unwrap();
        HostProcess::note(&mut lock, Purpose::Host).unwrap();
        let source = layout.cache().join("shell");
        let source = source.with_extension(Layout::compiled_by(std::process::id()));
        std::fs::write(&source, "").unwrap();
        let client = Client::new(host_start(layout));
        let limit = Duration::from_millis(1);
        let answered = client.answered(Some(limit), pending::<()>());
        tokio::pin!(answered);
        let early = clock::within(LOOK_AFTER * 10, answered.as_mut()).await;
        assert!(early.is_none());
        std::fs::remove_file(source).unwrap();
        assert!(matches!(answered.await, Err(ClientError::Silent(_))));
    }

    #[test]
    fn a_changing_request_that_was_given_up_is_not_said_to_be_carried_out() {
        let hint = |ask: &Ask, error| AppError::from(ask.given_up(error)).hint.unwrap();
        let change = Ask::post("/v1/tasks/t/cancel".to_owned(), &()).unwrap();
        let read = Ask::get("/v1/tasks".to_owned());
        let errors: [fn() -> ClientError; 2] = [
            || ClientError::Stopped(7),
            || ClientError::Silent(Duration::from_secs(1)),
        ];
        for error in errors {
            let changed = hint(&change, error());
            assert!(changed.contains("`claudine list` before"), "{changed}");
            let asked = hint(&read, error());
            assert!(!asked.contains("claudine list"), "{asked}");
        }
        let stopped = hint(&change, ClientError::Stopped(7));
        assert!(stopped.contains("`kill -CONT 7`"), "{stopped}");
    }

    #[tokio::test]
    async fn requests_in_flight_together_use_the_connections_of_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let listener = UnixListener::bind(layout.socket()).unwrap();
        let used = Arc::new(AtomicUsize::new(0));
        let counted = used.clone();
        tokio::spawn(async move {
            let round = Arc::new(Barrier::new(AT_ONCE));
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, round.clone(), counted.clone()));
            }
        });
        let client = Client::new(host_start(layout));
        for _ in 0..3 {
            let requests = (0..AT_ONCE).map(|_| client.ask::<()>(Ask::get("/v1".to_owned())));
            for answer in join_all(requests).await {
                answer.unwrap();
            }
        }
        assert_eq!(used.load(Ordering::Relaxed), AT_ONCE);
    }
}
