//! Receives the bodies of requests, in bounded memory.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body as RawBody,
    extract::{FromRequest, Request},
    http::{HeaderMap, header::CONTENT_LENGTH},
};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    GRAPH_LIMIT_BYTES, Shared,
    answer::{Refusal, invalid},
    caller::is_restrained,
};
use crate::{
    app::{AppError, ErrorKind},
    clock,
};

/// Time limit for receiving a body. The wait until there is room for the body has the same limit.
/// The largest body takes a second over a local socket.
const LIMIT: Duration = Duration::from_mins(1);
/// Time limit for the next piece of a body.
const PIECE_LIMIT: Duration = Duration::from_secs(10);
/// Size up to which a body needs no room in [`Rooms`], because it takes no more memory than the
/// buffer of its connection.
const SMALL_BYTES: usize = 64 << 10;

/// Limits of the bytes of all large bodies that are received at the same time. The limits are in
/// semaphores with a permit for each byte. Restrained principals have a limit of their own, so that
/// they do not keep the owner's requests waiting.
#[derive(Clone)]
pub(super) struct Rooms {
    owner: Arc<Semaphore>,
    restrained: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        // The largest body has to fit.
        let room = || Arc::new(Semaphore::new(GRAPH_LIMIT_BYTES));
        Self {
            owner: room(),
            restrained: room(),
        }
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
        let room = if size.bytes <= SMALL_BYTES {
            None
        } else if is_restrained(&mut parts, shared).await? {
            Some(&*shared.rooms.restrained)
        } else {
            Some(&*shared.rooms.owner)
        };
        receive(body, size, room).await.map(Self)
    }
}

/// The declared size of a body, and the limit of its size.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// The declared size. If no size is declared: 0 for an empty body, the limit for any other.
    bytes: usize,
    /// The limit of the path.
    limit_bytes: usize,
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
            None => limit_bytes,
        };
        if bytes > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        Ok(Self { bytes, limit_bytes })
    }
}

/// Receives a body and parses it. A body that needs room is not read before there is room for its
/// whole size, so that no two bodies wait for each other.
async fn receive<T: DeserializeOwned>(
    body: RawBody,
    size: Size,
    room: Option<&Semaphore>,
) -> Result<T, Refusal> {
    // Kept until the body is parsed.
    let _room = match room {
        Some(room) => Some(enter(room, size.bytes).await?),
        None => None,
    };
    let collected = clock::within(LIMIT, collect(body, size, PIECE_LIMIT)).await;
    let bytes = collected.ok_or_else(|| too_slow("did not arrive", LIMIT))??;
    let json = if bytes.is_empty() {
        b"{}".as_slice()
    } else {
        bytes.as_slice()
    };
    serde_json::from_slice(json).map_err(|error| invalid(format!("the request's body: {error}")))
}

async fn enter(room: &Semaphore, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    let entered = clock::within(LIMIT, room.acquire_many(permits)).await;
    entered.and_then(Result::ok).ok_or_else(|| {
        let limit = LIMIT.as_secs();
        let message = format!(
            "the host has been receiving other large requests for {limit} s, and has no room for this one"
        );
        Refusal(AppError::new(ErrorKind::Limit, message).hint("ask again later"))
    })
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
            return Err(too_large(size.limit_bytes));
        }
        bytes.extend_from_slice(&piece);
    }
}

fn too_slow(what: &str, limit: Duration) -> Refusal {
    let limit = limit.as_secs();
    invalid(format!("the request's body {what} within {limit} s"))
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
    use std::{convert::Infallible, future::poll_fn, pin::pin, task::Poll};

    use futures_util::stream;
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
        let check = async |path: &str, limit: &str| {
            let size = size_of(path, None, &endless()).unwrap();
            assert_eq!(size.bytes, size.limit_bytes);
            let size = Size { bytes: 5, ..size };
            let read = receive::<Value>("[1, 2]".into(), size, None).await;
            let expected = format!("the request is larger than {limit}");
            assert_eq!(read.unwrap_err().0.message, expected);
        };
        check("/v1/tasks", "256 MiB").await;
        check("/v1/graph", "16 MiB").await;
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

    #[tokio::test]
    async fn a_large_body_is_read_once_there_is_room_for_it() {
        let room = Semaphore::new(10);
        let size = Size {
            bytes: 8,
            limit_bytes: 8,
        };
        let mut first = Box::pin(receive::<Value>(endless(), size, Some(&room)));
        let mut second = pin!(receive::<Value>("[1, 2]".into(), size, Some(&room)));
        let first_waits = poll_fn(|it| Poll::Ready(first.as_mut().poll(it).is_pending())).await;
        let second_waits = poll_fn(|it| Poll::Ready(second.as_mut().poll(it).is_pending())).await;
        assert!(first_waits && second_waits);
        // The first client disconnects.
        drop(first);
        assert_eq!(second.await.unwrap(), serde_json::json!([1, 2]));
        assert_eq!(room.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_body_that_does_not_continue_is_refused() {
        let size = size_of("/v1/tasks", None, &endless()).unwrap();
        let refused = collect(endless(), size, Duration::from_millis(1)).await;
        let told = refused.unwrap_err().0.message;
        assert!(told.contains("did not continue"), "{told}");
    }
}
