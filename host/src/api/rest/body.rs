//! Receives the bodies of requests, in bounded memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use axum::{
    body::Body as RawBody,
    extract::{FromRequest, Request},
    http::{HeaderMap, header::CONTENT_LENGTH},
};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{
    GRAPH_LIMIT_BYTES, Shared,
    answer::{Refusal, invalid},
    caller::{Client, client_of},
};
use crate::{
    app::{AppError, ErrorKind},
    clock,
    lock::lock,
};

/// Time limit for receiving a small body. The wait until there is room for a large body has the
/// same limit.
const LIMIT: Duration = Duration::from_mins(1);
/// Time limit for the next piece of a body.
const PIECE_LIMIT: Duration = Duration::from_secs(10);
/// Size up to which a body needs no room in [`Rooms`], because it takes no more memory than the
/// buffer of its connection.
const SMALL_BYTES: usize = 64 << 10;
/// Size limit of a body whose length is not declared, because there has to be room for this size
/// before the body is read.
const UNDECLARED_BYTES: usize = 16 << 20;
/// The rate in a second at which a large body must arrive at least, after [`PIECE_LIMIT`]. The
/// largest body takes a second over a local socket.
const LEAST_RATE_BYTES: usize = 16 << 20;

/// Limits of the bytes of all large bodies that are received at the same time. The limits are in
/// semaphores with a permit for each byte. Restrained principals have a limit of their own, so that
/// they do not keep the owner's requests waiting.
#[derive(Clone)]
pub(super) struct Rooms {
    owner: Arc<Semaphore>,
    restrained: Arc<Semaphore>,
    /// Time limit of the wait for room.
    within: Duration,
    /// For each client that is sending large bodies, a semaphore with one permit.
    turns: Arc<Mutex<HashMap<Client, Weak<Semaphore>>>>,
}

/// The permits for the bytes of one body, and the permit of its client.
type Entered = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Default for Rooms {
    fn default() -> Self {
        // The largest body has to fit.
        let room = || Arc::new(Semaphore::new(GRAPH_LIMIT_BYTES));
        Self {
            owner: room(),
            restrained: room(),
            within: LIMIT,
            turns: Arc::default(),
        }
    }
}

impl Rooms {
    /// Waits for room for a body. Only one body of each client waits for room or is received; the
    /// others wait for their turn. So a client with many large bodies delays those of other clients
    /// by one body only.
    async fn enter(&self, client: Client, bytes: usize) -> Result<Entered, Refusal> {
        let room = if client.is_restrained {
            self.restrained.clone()
        } else {
            self.owner.clone()
        };
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let turn = self.turn(client);
        let entering = async {
            let turn = turn.acquire_owned().await?;
            Ok::<_, AcquireError>((room.acquire_many_owned(permits).await?, turn))
        };
        let entered = clock::within(self.within, entering).await;
        entered.and_then(Result::ok).ok_or_else(|| {
            let limit = self.within.as_secs();
            let message = format!(
                "the host has been receiving other large requests for {limit} s, and has no room for this one"
            );
            let refused = AppError::new(ErrorKind::Limit, message).passing();
            Refusal(refused.hint("ask again later"))
        })
    }

    fn turn(&self, client: Client) -> Arc<Semaphore> {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let known = turns.get(&client).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turn = Arc::new(Semaphore::new(1));
            turns.insert(client, Arc::downgrade(&turn));
            turn
        })
    }
}

/// A JSON body. An empty body is read as `{}`, so that a request whose fields all have defaults
/// needs no body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let size = Size::of(parts.uri.path(), &parts.headers, &body)?;
        let place = if size.bytes <= SMALL_BYTES {
            None
        } else {
            Some((&shared.rooms, client_of(&mut parts, shared).await?))
        };
        receive(body, size, place).await.map(Self)
    }
}

/// The size of a body, and its limits.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// The declared size. If no size is declared: 0 for an empty body, and for any other body the
    /// largest size that it may have.
    bytes: usize,
    /// The limit of the path.
    limit_bytes: usize,
    /// Time limit for receiving the body.
    limit: Duration,
}

impl Size {
    /// Refuses a body with a declared size above the limit before it is read.
    fn of(path: &str, headers: &HeaderMap, body: &RawBody) -> Result<Self, Refusal> {
        let limit_bytes = super::limit_of(path);
        let bytes = match headers.get(CONTENT_LENGTH) {
            Some(length) => {
                let length = length.to_str().ok().and_then(|length| length.parse().ok());
                length.unwrap_or(limit_bytes)
            }
            None if body.is_end_stream() => 0,
            None => limit_bytes.min(UNDECLARED_BYTES),
        };
        if bytes > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        let limit = if bytes <= SMALL_BYTES {
            LIMIT
        } else {
            PIECE_LIMIT + Duration::from_secs((bytes / LEAST_RATE_BYTES) as u64)
        };
        Ok(Self {
            bytes,
            limit_bytes,
            limit,
        })
    }

    /// The refusal of a body that is larger than this size.
    fn exceeded(self) -> Refusal {
        if self.bytes == self.limit_bytes {
            return too_large(self.limit_bytes);
        }
        let mib = self.bytes >> 20;
        let message = format!("a request without a declared length is larger than {mib} MiB");
        let hint = "declare the length of the request in the header `content-length`";
        Refusal(AppError::new(ErrorKind::Invalid, message).hint(hint))
    }
}

/// Receives a body and parses it. A body that needs room is not read before there is room for its
/// whole size, so that no two bodies wait for each other.
async fn receive<T: DeserializeOwned>(
    body: RawBody,
    size: Size,
    place: Option<(&Rooms, Client)>,
) -> Result<T, Refusal> {
    // Kept until the body is parsed.
    let _entered = match place {
        Some((rooms, client)) => Some(rooms.enter(client, size.bytes).await?),
        None => None,
    };
    let collected = clock::within(size.limit, collect(body, size, PIECE_LIMIT)).await;
    let bytes = collected.ok_or_else(|| too_slow("did not arrive", size.limit))??;
    let json = if bytes.is_empty() {
        b"{}".as_slice()
    } else {
        bytes.as_slice()
    };
    serde_json::from_slice(json).map_err(|error| invalid(format!("the request's body: {error}")))
}

async fn collect(mut body: RawBody, size: Size, piece_limit: Duration) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    loop {
        let piece = clock::within(piece_limit, body.frame()).await;
        let Some(piece) = piece.ok_or_else(|| too_slow("did not continue", piece_limit))? else {
            return Ok(bytes);
        };
        let unread =
            |error: axum::Error| invalid(format!("the request's body cannot be read: {error}"));
        // Trailers are ignored.
        let Ok(piece) = piece.map_err(unread)?.into_data() else {
            continue;
        };
        if bytes.len() + piece.len() > size.bytes {
            return Err(size.exceeded());
        }
        bytes.extend_from_slice(&piece);
    }
}

fn too_slow(what: &str, limit: Duration) -> Refusal {
    let limit = limit.as_secs();
    let message = format!("the request's body {what} within {limit} s");
    let hint = "send the whole body at once, as many bytes as the request's head declares";
    Refusal(AppError::new(ErrorKind::Invalid, message).hint(hint))
}

fn too_large(limit_bytes: usize) -> Refusal {
    let mib = limit_bytes >> 20;
    Refusal(
        AppError::new(
            ErrorKind::Invalid,
            format!("the request is larger than {mib} MiB"),
        )
        .hint("put large content into a file and name the file in the prompt"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::convert::Infallible;

    use claudine_domain::principal::Kind;
    use futures_util::{FutureExt, stream};
    use hyper::body::Bytes;
    use serde_json::Value;

    use super::*;

    /// A body that never ends.
    fn endless() -> RawBody {
        RawBody::from_stream(stream::pending::<Result<Bytes, Infallible>>())
    }

    fn size_of(path: &str, declared: Option<&str>, body: &RawBody) -> Result<Size, String> {
        let mut headers = HeaderMap::new();
        if let Some(declared) = declared {
            headers.insert(CONTENT_LENGTH, declared.parse().unwrap());
        }
        Size::of(path, &headers, body).map_err(|refusal| refusal.0.message)
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_is_refused_with_the_limit_of_its_path() {
        let check = async |path: &str, expected: &str| {
            let body = RawBody::from(vec![b' '; UNDECLARED_BYTES + 1]);
            let size = size_of(path, None, &body).unwrap();
            let read = receive::<Value>(body, size, None).await;
            assert_eq!(read.unwrap_err().0.message, expected);
        };
        let undeclared = "a request without a declared length is larger than 16 MiB";
        check("/v1/tasks", undeclared).await;
        check("/v1/graph", "the request is larger than 16 MiB").await;
    }

    #[test]
    fn a_request_declared_too_large_is_refused_before_it_is_read() {
        let check = |path: &str, declared: &str, limit: &str| {
            let refused = size_of(path, Some(declared), &endless()).unwrap_err();
            assert_eq!(refused, format!("the request is larger than {limit}"));
        };
        check("/v1/graph", "16777217", "16 MiB");
        check("/v1/tasks", "268435457", "256 MiB");
    }

    fn client(pid: u32) -> Client {
        Client {
            kind: Kind::Owner,
            pid: Some(pid),
            is_restrained: true,
        }
    }

    #[tokio::test]
    async fn a_large_body_is_read_once_there_is_room_for_it() {
        let rooms = Rooms::default();
        let size = size_of("/v1/tasks", Some("268435456"), &endless()).unwrap();
        let read = |pid, body| Box::pin(receive::<Value>(body, size, Some((&rooms, client(pid)))));
        let mut first = read(1, endless());
        let mut second = read(2, "[1, 2]".into());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        // The first client disconnects.
        drop(first);
        assert_eq!(second.await.unwrap(), serde_json::json!([1, 2]));
        assert_eq!(rooms.restrained.available_permits(), GRAPH_LIMIT_BYTES);
    }

    #[tokio::test]
    async fn a_client_with_many_large_bodies_delays_another_client_by_one_body() {
        let rooms = Rooms::default();
        let size = size_of("/v1/tasks", Some("268435456"), &endless()).unwrap();
        let read = |pid, body| Box::pin(receive::<Value>(body, size, Some((&rooms, client(pid)))));
        let mut many = [(); 3].map(|()| read(1, endless()));
        for body in &mut many {
            assert!(body.as_mut().now_or_never().is_none());
        }
        let mut other = read(2, "[1, 2]".into());
        assert!(other.as_mut().now_or_never().is_none());
        let [first, mut second, _third] = many;
        drop(first);
        assert!(second.as_mut().now_or_never().is_none());
        let received = other.now_or_never().unwrap();
        assert_eq!(received.unwrap(), serde_json::json!([1, 2]));
    }

    #[tokio::test]
    async fn a_body_for_which_there_is_no_room_in_time_may_be_sent_again() {
        let rooms = Rooms {
            within: Duration::from_millis(1),
            ..Rooms::default()
        };
        let size = size_of("/v1/tasks", Some("268435456"), &endless()).unwrap();
        let read = |pid, body| Box::pin(receive::<Value>(body, size, Some((&rooms, client(pid)))));
        let mut first = read(1, endless());
        assert!(first.as_mut().now_or_never().is_none());
        let refused = read(2, "[1, 2]".into()).await.unwrap_err().0;
        assert_eq!(refused.kind, ErrorKind::Limit);
        assert!(refused.is_passing, "{refused}");
    }

    #[test]
    fn the_time_for_a_large_body_depends_on_its_size() {
        let check = |declared: Option<&str>, seconds: u64| {
            let size = size_of("/v1/tasks", declared, &endless()).unwrap();
            assert_eq!(size.limit, Duration::from_secs(seconds), "{declared:?}");
        };
        check(Some("65536"), 60);
        check(Some("65537"), 10);
        check(Some("268435456"), 26);
        // A body without a declared length may have 16 MiB.
        check(None, 11);
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_in_its_time_is_refused() {
        let size = size_of("/v1/tasks", None, &endless()).unwrap();
        let limit = Duration::from_millis(1);
        let refused = receive::<Value>(endless(), Size { limit, ..size }, None).await;
        let told = refused.unwrap_err().0.message;
        assert!(told.contains("did not arrive"), "{told}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_continue_is_refused() {
        let size = size_of("/v1/tasks", None, &endless()).unwrap();
        let refused = collect(endless(), size, Duration::from_millis(1)).await;
        let told = refused.unwrap_err().0;
        assert!(told.message.contains("did not continue"), "{told}");
        assert!(told.hint.is_some(), "{told}");
    }
}
