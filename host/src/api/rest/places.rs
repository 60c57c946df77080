//! Limits the number of connections, and the number of connections that stay open for long.
//!
//! A client that waits for a task must not keep another client from cancelling the task. So some
//! places are reserved for requests that neither wait nor follow, and if a new connection finds no
//! free place, the connection that has been idle longest is closed. A connection counts as idle
//! until its request has arrived completely, so an incomplete body keeps a place no longer than an
//! incomplete head.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body as Outgoing;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{
    app::{AppError, ErrorKind},
    clock,
    lock::lock,
};

/// Limit of connections at a time, since each costs some memory.
const MOST: usize = 8_192;
const FEWEST: usize = 64;
/// File descriptors reserved for everything else: the store, supervisors, git.
const OTHERS: u64 = 128;
/// File descriptors for each connection: its socket, the process at its other end, and the log that
/// its client may follow.
const DESCRIPTORS_EACH: u64 = 3;
/// Time limit of a waiting request that has no place for a long stay. The request ends earlier if
/// another client waits for a place.
const SHORT_STAY: Duration = Duration::from_secs(1);
/// Minimum idle time before a connection may be closed, because a new client sends its request a
/// moment after it connects.
const UNDISTURBED: Duration = Duration::from_millis(50);
/// Time for a closed connection to free its place before the next one is closed.
const LEAVES_WITHIN: Duration = Duration::from_millis(20);

/// Number of places for a process with this limit of file descriptors.
fn places(descriptors: Option<u64>) -> usize {
    let room = descriptors.map_or(u64::MAX, |all| all.saturating_sub(OTHERS));
    usize::try_from(room / DESCRIPTORS_EACH)
        .unwrap_or(MOST)
        .clamp(FEWEST, MOST)
}

/// Number of places reserved for short requests.
fn short(places: usize) -> usize {
    (places / 8).clamp(FEWEST / 4, 256)
}

#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    long: Arc<Semaphore>,
    /// Places for streams that found none for a long stay. Other short requests keep places too.
    brief: Arc<Semaphore>,
    idle: Arc<Idle>,
    /// Notified when a connection waits for a place.
    crowded: Arc<Notify>,
}

/// The right to stay open for long.
pub(super) type Stay = OwnedSemaphorePermit;

/// The place of a stream.
pub(super) struct Visit {
    _place: OwnedSemaphorePermit,
    /// Tells that another client needs the place. `None` for a stream that may go on.
    crowded: Option<Arc<Notify>>,
    /// The time at which the stream has to end, once it has its first piece. Otherwise a client
    /// whose first piece takes long would ask again and again, and never get it.
    ends_at: Option<Duration>,
}

impl Visit {
    /// Notes that the stream has a piece to send.
    pub(super) fn note_piece(&mut self) {
        if self.ends_at.is_none() {
            self.ends_at = Some(clock::monotonic() + SHORT_STAY);
        }
    }

    /// Resolves when the stream has to end.
    pub(super) async fn is_over(&self) {
        let (Some(crowded), Some(ends_at)) = (&self.crowded, self.ends_at) else {
            return std::future::pending().await;
        };
        let left = ends_at.saturating_sub(clock::monotonic());
        // Even the shortest sleep lasts a moment, in which a stream may have its next piece.
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = clock::sleep(left) => {}
            () = crowded.notified() => {}
        }
    }
}

/// The error of a stream for which there is no place, or which has to end early.
pub(super) fn no_place() -> AppError {
    let error = AppError::new(
        ErrorKind::Limit,
        "the host already serves as many waiting and following clients as its limit on open files allows",
    );
    error
        .passing()
        .hint("raise the limit on open files (`ulimit -Hn`) and start the host again")
}

impl Places {
    pub(super) fn of_this_process() -> Self {
        Self::new(places(getrlimit(Resource::Nofile).current))
    }

    fn new(places: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(places)),
            long: Arc::new(Semaphore::new(places.saturating_sub(short(places)))),
            brief: Arc::new(Semaphore::new(short(places) / 2)),
            idle: Arc::default(),
            crowded: Arc::default(),
        }
    }

    /// Waits for a place for a new connection. If none is free, the connection that has been idle
    /// longest is closed, and waiting requests without a place for a long stay have to end.
    pub(super) async fn enter(&self) -> Place {
        let free = self.free.clone();
        let entered = free.acquire_owned();
        tokio::pin!(entered);
        let permit = loop {
            tokio::select! {
                biased;
                permit = &mut entered => break permit.ok(),
                () = self.send_one_away() => {}
            }
        };
        let leave = Arc::new(Notify::new());
        Place {
            since: Mutex::new(Some(self.idle.add(leave.clone()))),
            idle: self.idle.clone(),
            leave,
            _permit: permit,
        }
    }

    /// Closes the connection that has been idle longest, if it has been idle for a moment. Returns
    /// true once that connection should have gone, or false at once if no connection is idle.
    pub(super) async fn make_room(&self) -> bool {
        let has_idle = !self.idle.lock().by_age.is_empty();
        if has_idle {
            self.idle.send_one_away().await;
        }
        has_idle
    }

    async fn send_one_away(&self) {
        self.crowded.notify_waiters();
        self.idle.send_one_away().await;
    }

    /// Returns the right to stay open for long, if a place for that is free.
    pub(super) fn stay(&self) -> Option<Stay> {
        self.long.clone().try_acquire_owned().ok()
    }

    /// Resolves when a request without a place for a long stay has to end.
    pub(super) async fn has_to_end(&self) {
        tokio::select! {
            () = clock::sleep(SHORT_STAY) => {}
            () = self.crowded.notified() => {}
        }
    }

    /// Returns a place for a stream. Without a place for a long stay, a stream that follows has to
    /// end soon, and its client asks again for the rest. Waits briefly if there is no place at all,
    /// and returns an error if none becomes free.
    pub(super) async fn visit(&self, follows: bool) -> Result<Visit, AppError> {
        if let Some(stay) = self.stay() {
            return Ok(Visit {
                _place: stay,
                crowded: None,
                ends_at: None,
            });
        }
        let entered = tokio::select! {
            biased;
            entered = self.brief.clone().acquire_owned() => entered.ok(),
            () = self.has_to_end() => None,
        };
        let place = entered.ok_or_else(no_place)?;
        Ok(Visit {
            _place: place,
            crowded: follows.then(|| self.crowded.clone()),
            ends_at: None,
        })
    }
}

/// Connections without a request in progress, the longest idle first.
#[derive(Default)]
struct Idle {
    list: Mutex<List>,
    /// Notified when another connection becomes idle.
    added: Notify,
}

#[derive(Default)]
struct List {
    last: u64,
    /// Each connection with the time since which it has been idle.
    by_age: BTreeMap<u64, (Duration, Arc<Notify>)>,
}

impl Idle {
    fn add(&self, leave: Arc<Notify>) -> u64 {
        let mut list = self.lock();
        list.last += 1;
        let since = list.last;
        list.by_age.insert(since, (clock::monotonic(), leave));
        drop(list);
        self.added.notify_one();
        since
    }

    fn send_away(&self) {
        let longest = self.lock().by_age.pop_first();
        if let Some((_, (_, leave))) = longest {
            leave.notify_one();
        }
    }

    /// Closes an idle connection. If none may be closed yet, waits briefly, because the caller has
    /// to check again for a free place.
    async fn send_one_away(&self) {
        let longest = self
            .lock()
            .by_age
            .first_key_value()
            .map(|(_, (since, _))| *since);
        let Some(since) = longest else {
            clock::within(LEAVES_WITHIN, self.added.notified()).await;
            return;
        };
        let undisturbed = (since + UNDISTURBED).saturating_sub(clock::monotonic());
        if !undisturbed.is_zero() {
            return clock::sleep(undisturbed).await;
        }
        self.send_away();
        // The place will be free in a moment. If another connection takes it, the next idle
        // connection has to close.
        clock::sleep(LEAVES_WITHIN).await;
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        lock(&self.list)
    }
}

/// The place of a connection, for as long as the connection lasts.
pub(super) struct Place {
    /// Position in the list of idle connections; `None` while a request is in progress.
    since: Mutex<Option<u64>>,
    idle: Arc<Idle>,
    leave: Arc<Notify>,
    /// `None` only if the semaphore is closed, which never happens.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Resolves when another connection needs this place and no request is in progress here.
    pub(super) async fn sent_away(&self) {
        loop {
            self.leave.notified().await;
            if self.is_idle() {
                return;
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.since().is_some()
    }

    /// Begins a request whose head has arrived.
    pub(super) fn begin(self: &Arc<Self>, body: Incoming) -> (Busy, Arriving<Incoming>) {
        (Busy(self.clone()), Arriving::new(body, self.clone()))
    }

    /// Marks that a request is in progress.
    fn occupy(&self) {
        if let Some(since) = self.since().take() {
            self.idle.lock().by_age.remove(&since);
        }
    }

    /// Marks that no request is in progress and restarts the idle time.
    fn rest(&self) {
        self.occupy();
        let since = self.idle.add(self.leave.clone());
        *self.since() = Some(since);
    }

    fn since(&self) -> MutexGuard<'_, Option<u64>> {
        lock(&self.since)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.occupy();
    }
}

/// A request in progress, until the end of its answer.
pub(super) struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// The body of a request while it arrives. Until the body is complete, the connection counts as
/// idle since the last piece, so that clients that send half of a request do not block others.
pub(super) struct Arriving<B> {
    body: B,
    place: Arc<Place>,
}

impl<B: Body> Arriving<B> {
    fn new(body: B, place: Arc<Place>) -> Self {
        if body.is_end_stream() {
            place.occupy();
        } else {
            place.rest();
        }
        Self { body, place }
    }
}

impl<B: Body + Unpin> Body for Arriving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => self.place.rest(),
            Poll::Ready(_) => self.place.occupy(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; dropping it ends the request.
pub(super) struct Answering {
    pub(super) body: Outgoing,
    pub(super) _busy: Busy,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{future::poll_fn, io};

    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn the_number_of_places_follows_from_the_limit_of_descriptors() {
        let check = |descriptors: Option<u64>, expected: (usize, usize)| {
            let places = places(descriptors);
            assert_eq!((places, short(places)), expected, "{descriptors:?}");
        };
        check(Some(64), (64, 16));
        check(Some(1_024), (298, 37));
        check(Some(4_096), (1_322, 165));
        check(Some(1 << 20), (8_192, 256));
        check(None, (8_192, 256));
    }

    /// A request without a body.
    fn whole(place: &Arc<Place>) -> Busy {
        let busy = Busy(place.clone());
        Arriving::new(Outgoing::empty(), place.clone());
        busy
    }

    #[tokio::test]
    async fn a_connection_is_idle_until_the_body_of_its_request_has_arrived() {
        let place = Arc::new(Places::new(1).enter().await);
        let (pieces, taken) = mpsc::channel::<Result<Bytes, io::Error>>(1);
        let taken = stream::unfold(taken, |mut taken| async move {
            let piece = taken.recv().await?;
            Some((piece, taken))
        });
        let busy = Busy(place.clone());
        let mut body = Arriving::new(Outgoing::from_stream(taken), place.clone());
        assert!(place.is_idle());
        pieces.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
        let mut next = async || poll_fn(|it| Pin::new(&mut body).poll_frame(it)).await;
        assert!(next().await.is_some());
        assert!(place.is_idle());
        drop(pieces);
        assert!(next().await.is_none());
        assert!(!place.is_idle());
        drop(busy);
        assert!(place.is_idle());
        assert_eq!(place.idle.lock().by_age.len(), 1);
    }

    #[tokio::test]
    async fn a_request_without_a_place_for_a_long_stay_ends_when_a_connection_waits() {
        let places = Places::new(1);
        let first = Arc::new(places.enter().await);
        let busy = whole(&first);
        let others = places.clone();
        let coming = tokio::spawn(async move { others.enter().await });
        let told = clock::within(SHORT_STAY / 2, places.has_to_end()).await;
        assert!(told.is_some());
        drop((busy, first));
        coming.await.unwrap();
    }

    #[tokio::test]
    async fn the_longest_idle_connection_is_closed_for_a_new_connection() {
        let places = Places::new(2);
        let first = Arc::new(places.enter().await);
        let second = Arc::new(places.enter().await);
        // The first connection has sent a request meanwhile, so the second has been idle longest.
        drop(whole(&first));
        let leaving = tokio::spawn(async move {
            second.sent_away().await;
            drop(second);
        });
        let third = places.enter().await;
        leaving.await.unwrap();

        // A connection with a request in progress stays open.
        let busy = whole(&first);
        drop(third);
        let _third = places.enter().await;
        let mut fourth = std::pin::pin!(places.enter());
        let mut poll = async || poll_fn(|it| Poll::Ready(fourth.as_mut().poll(it))).await;
        assert!(poll().await.is_pending());
        let mut sent_away = std::pin::pin!(first.sent_away());
        let is_sent_away = poll_fn(|it| Poll::Ready(sent_away.as_mut().poll(it).is_ready())).await;
        assert!(!is_sent_away);
        drop(busy);
    }

    #[tokio::test]
    async fn room_is_made_only_by_an_idle_connection() {
        let places = Places::new(2);
        assert!(!places.make_room().await);
        let first = Arc::new(places.enter().await);
        let busy = whole(&first);
        assert!(!places.make_room().await);
        drop(busy);
        let leaving = tokio::spawn(async move {
            first.sent_away().await;
            drop(first);
        });
        // The first look may come before the connection has been idle for a moment.
        while places.make_room().await {}
        leaving.await.unwrap();
    }

    #[tokio::test]
    async fn requests_that_stay_long_leave_places_for_short_requests() {
        let places = Places::new(64);
        let stays: Vec<_> = std::iter::from_fn(|| places.stay()).collect();
        assert_eq!(stays.len(), 48);
        // Half of the other places can be used by streams.
        let mut visits = Vec::new();
        for follows in [true, false].repeat(4) {
            visits.push(places.visit(follows).await.unwrap());
        }
        let refused = places.visit(false).await.err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Limit);
        assert!(refused.is_passing);
        drop(visits);
        assert!(places.visit(false).await.is_ok());
    }

    #[tokio::test]
    async fn a_stream_without_a_place_for_a_long_stay_ends_early_only_if_it_follows() {
        let places = Places::new(64);
        let stays: Vec<_> = std::iter::from_fn(|| places.stay()).collect();
        let mut reads = places.visit(false).await.unwrap();
        let mut follows = places.visit(true).await.unwrap();
        reads.note_piece();
        follows.note_piece();
        tokio::select! {
            () = reads.is_over() => panic!("a stream that does not follow ends by itself"),
            () = follows.is_over() => {}
        }
        drop(stays);
        let long = places.visit(true).await.unwrap();
        assert!(long.crowded.is_none());
    }

    #[tokio::test]
    async fn a_stream_has_to_end_only_after_its_first_piece_although_other_clients_wait() {
        let places = Places::new(64);
        let _stays: Vec<_> = std::iter::from_fn(|| places.stay()).collect();
        let mut visit = places.visit(true).await.unwrap();
        let is_over = async |visit: &Visit| {
            let mut over = std::pin::pin!(visit.is_over());
            let mut poll = async || poll_fn(|it| Poll::Ready(over.as_mut().poll(it))).await;
            assert!(poll().await.is_pending());
            places.crowded.notify_waiters();
            poll().await.is_ready()
        };
        assert!(!is_over(&visit).await);
        visit.note_piece();
        assert!(is_over(&visit).await);
    }
}
