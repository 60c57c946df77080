//! How many connections there may be at once, and how many may stay long.
//!
//! A client that waits for a task is not to keep another one from cancelling it. So those that wait
//! or follow may not take all places, and a connection without a request gives its place up, the
//! longest idle first, when another one comes. A request counts from when it has come as a whole:
//! half of a body is no more than half of a head.

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

/// More are never served at once: each costs some memory.
const MOST: usize = 8_192;
const FEWEST: usize = 64;
/// Descriptors that are left to everything else: the store, supervisors, git.
const OTHERS: u64 = 128;
/// A connection of a follower has a log open as well.
const DESCRIPTORS_EACH: u64 = 2;
/// How long a request may last that finds no place to stay long, if nobody else comes.
const SHORT_STAY: Duration = Duration::from_secs(1);
/// How long a connection is idle before it may be sent away: a client writes its request in the
/// moment after it has connected.
const UNDISTURBED: Duration = Duration::from_millis(50);
/// How long a connection that was sent away may take to go before the next one is.
const LEAVES_WITHIN: Duration = Duration::from_millis(20);

/// How many places there are for a process that may open so many descriptors.
fn places(descriptors: Option<u64>) -> usize {
    let room = descriptors.map_or(u64::MAX, |all| all.saturating_sub(OTHERS));
    usize::try_from(room / DESCRIPTORS_EACH)
        .unwrap_or(MOST)
        .clamp(FEWEST, MOST)
}

/// How many of them are kept from those that stay long.
fn short(places: usize) -> usize {
    (places / 8).clamp(FEWEST / 4, 256)
}

#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    long: Arc<Semaphore>,
    idle: Arc<Idle>,
    /// A connection waits for a place.
    crowded: Arc<Notify>,
}

/// A place to stay long.
pub(super) type Stay = OwnedSemaphorePermit;

impl Places {
    pub(super) fn of_this_process() -> Self {
        Self::new(places(getrlimit(Resource::Nofile).current))
    }

    fn new(places: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(places)),
            long: Arc::new(Semaphore::new(places.saturating_sub(short(places)))),
            idle: Arc::default(),
            crowded: Arc::default(),
        }
    }

    /// A place for one more connection. If there is none, the one that has been idle for the
    /// longest time has to leave, and requests without a place to stay long are told to end.
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

    /// Sends away the connection that has been idle for the longest time, if one is.
    pub(super) fn make_room(&self) {
        self.idle.send_away();
    }

    async fn send_one_away(&self) {
        self.crowded.notify_waiters();
        self.idle.send_one_away().await;
    }

    /// Leave to stay long, if there is a place for it.
    pub(super) fn stay(&self) -> Option<Stay> {
        self.long.clone().try_acquire_owned().ok()
    }

    /// Resolves when a request without a place to stay long has to end.
    pub(super) async fn has_to_end(&self) {
        tokio::select! {
            () = clock::sleep(SHORT_STAY) => {}
            () = self.crowded.notified() => {}
        }
    }

    /// Leave to stay as long as it takes. A client that finds no place soon is to ask again.
    pub(super) async fn stay_or_refuse(&self) -> Result<Stay, AppError> {
        let entered = tokio::select! {
            biased;
            entered = self.long.clone().acquire_owned() => entered.ok(),
            () = self.has_to_end() => None,
        };
        entered.ok_or_else(|| {
            AppError::new(
                ErrorKind::Limit,
                "as many clients wait and follow already as the host has descriptors for",
            )
            .hint("raise the limit on open files (`ulimit -Hn`) and start the host again")
        })
    }
}

/// Connections without a request under way, the longest idle first.
#[derive(Default)]
struct Idle {
    list: Mutex<List>,
    /// One more is idle.
    added: Notify,
}

#[derive(Default)]
struct List {
    last: u64,
    /// Each with the time since when it is idle.
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

    /// Sends an idle connection away, or waits until one may be: for a moment, since who asks has
    /// to look around meanwhile.
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
        // It gives its place back in a moment. If another one takes that, the next has to leave.
        clock::sleep(LEAVES_WITHIN).await;
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        lock(&self.list)
    }
}

/// A connection's place, for as long as it lasts.
pub(super) struct Place {
    /// Since when it has been idle, in the order of the list; `None` while a request is under way.
    since: Mutex<Option<u64>>,
    idle: Arc<Idle>,
    leave: Arc<Notify>,
    /// There is none only once the listener is gone.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Resolves when another connection needs the place and nothing is asked on this one.
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

    /// A request has come, up to its body.
    pub(super) fn begin(self: &Arc<Self>, body: Incoming) -> (Busy, Arriving<Incoming>) {
        (Busy(self.clone()), Arriving::new(body, self.clone()))
    }

    /// From here on a request is under way.
    fn occupy(&self) {
        if let Some(since) = self.since().take() {
            self.idle.lock().by_age.remove(&since);
        }
    }

    /// From here on no request is under way, and the time that it has been idle begins anew.
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

/// A request, to the end of its answer.
pub(super) struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// A request's body as it comes in. As long as it is not there as a whole its connection counts as
/// idle since its last piece, so that a client that sends half of one keeps nobody out.
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

/// An answer's body, which says when it is over.
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
    fn the_limit_on_descriptors_decides_how_many_are_served() {
        let check = |descriptors: Option<u64>, expected: (usize, usize)| {
            let places = places(descriptors);
            assert_eq!((places, short(places)), expected, "{descriptors:?}");
        };
        check(Some(64), (64, 16));
        check(Some(1_024), (448, 56));
        check(Some(4_096), (1_984, 248));
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
    async fn a_request_counts_once_its_body_is_there() {
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
    async fn in_a_crowd_a_request_without_a_place_to_stay_ends_at_once() {
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
    async fn the_longest_idle_connection_leaves_for_a_new_one() {
        let places = Places::new(2);
        let first = Arc::new(places.enter().await);
        let second = Arc::new(places.enter().await);
        // The first has asked something since.
        drop(whole(&first));
        let leaving = tokio::spawn(async move {
            second.sent_away().await;
            drop(second);
        });
        let third = places.enter().await;
        leaving.await.unwrap();

        // A connection with a request under way stays.
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
    async fn requests_that_stay_long_leave_places_to_the_others() {
        let places = Places::new(64);
        let stays: Vec<_> = std::iter::from_fn(|| places.stay()).collect();
        assert_eq!(stays.len(), 48);
        let refused = places.stay_or_refuse().await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Limit);
        drop(stays);
        assert!(places.stay_or_refuse().await.is_ok());
    }
}
