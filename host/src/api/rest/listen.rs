//! The listener: serves connections, and lets requests in progress finish at a shutdown.

use std::{
    convert::Infallible, future::ready, io, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::Either};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    net::{UnixListener, UnixStream},
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{
    GoingDown,
    answer::{self, Refusal},
    caller::Connected,
    pages::Cut,
    places::{Answering, Place, Places},
    progress::Watched,
};
use crate::{
    app::{AppError, ErrorKind, Host, Peer},
    clock,
    panics::said_of,
};

/// Time limit for the head of a request, and for an idle connection. Clients keep idle connections
/// for less time.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Time limit of connections at a shutdown: long enough to write pending answers, and short enough
/// that followers do not delay the shutdown.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time limit at a shutdown for a connection on which nothing is written, because its client does
/// not read or has sent only half of a request.
const WITHOUT_PROGRESS: Duration = Duration::from_millis(200);
/// Time limit at a shutdown for handlers to answer. The engine has ended by then, so any answer is
/// already on its way.
const LAST_ANSWER: Duration = Duration::from_millis(100);
/// Time limit for a client that reads nothing of its answer. The host keeps the answer meanwhile.
const READ_LIMIT: Duration = Duration::from_mins(1);
/// Time limit for writing an error on a connection that hyper serves no longer. The socket has room
/// for it, unless the client has read nothing of earlier answers.
const REFUSED_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 2_000 });
/// Limit of the bytes of an answer that are buffered for a slow client, and of a request's head.
const BUFFERED_BYTES: usize = 96 << 10;
/// Pause after a failed `accept`, such as for lack of descriptors, if no idle connection can be
/// closed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until the shutdown, and until the last answers are written. `listeners` provides a new
/// listener each time the socket is created anew; if `listeners` ends, the shutdown is near, and
/// the requests that have arrived are still answered. `answered` is told of each answer.
pub(crate) async fn serve(
    mut listeners: watch::Receiver<Arc<UnixListener>>,
    host: Arc<Host>,
    shutdown: watch::Receiver<bool>,
    answered: Arc<Notify>,
) {
    let going_down = GoingDown(shutdown);
    let places = Places::of_this_process();
    let router = super::router(host, going_down.clone(), places.clone());
    let mut connections = JoinSet::new();
    // An accepted connection that has no place yet.
    let mut arrived = None;
    loop {
        let listener = listeners.borrow_and_update().clone();
        tokio::select! {
            accepted = listener.accept(), if arrived.is_none() => match accepted {
                Ok((stream, _)) => arrived = Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    if !places.make_room().await {
                        clock::sleep(ACCEPT_AGAIN).await;
                    }
                }
            },
            place = places.enter(), if arrived.is_some() => {
                if let Some(stream) = arrived.take() {
                    let serving = Serving {
                        router: router.clone(),
                        going_down: going_down.clone(),
                        answered: answered.clone(),
                    };
                    connections.spawn(converse(stream, serving, place, HEAD_LIMIT));
                }
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
            changed = listeners.changed() => match changed {
                Ok(()) => {}
                Err(_) => break,
            },
            () = going_down.wait() => break,
        }
    }
    drop(listeners);
    let farewell = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if clock::within(FAREWELL, farewell).await.is_none() {
        connections.shutdown().await;
    }
}

/// Answers over a stream within this process until the other end is closed.
pub(crate) fn converse_here(stream: DuplexStream, host: Arc<Host>) {
    let (goes_down, shutdown) = watch::channel(false);
    let router = super::router(host, GoingDown(shutdown), Places::of_this_process());
    tokio::spawn(async move {
        let answers = TowerToHyperService::new(router);
        let service = service_fn(move |request: Request<Incoming>| {
            answer_of(&answers, request.map(Body::new))
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection within this process broke off");
        }
        // Kept until now, because dropping it would announce a shutdown.
        drop(goes_down);
    });
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request's handler panicked");
    }
}

fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let cred = stream.peer_cred()?;
    // The kernel reports pid 0 for a process in a pid namespace that is invisible from here.
    let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok());
    Ok(Peer::new(cred.uid(), pid.filter(|pid| *pid != 0)))
}

/// What all connections of the listener have in common.
struct Serving {
    router: Router,
    going_down: GoingDown,
    /// Is told of each answer.
    answered: Arc<Notify>,
}

/// Serves a connection. A head has to be complete within `head_limit`.
async fn converse(stream: UnixStream, serving: Serving, place: Place, head_limit: Duration) {
    let Serving {
        router,
        going_down,
        answered,
    } = serving;
    let connected = match peer_of(&stream) {
        Ok(peer) => Connected::new(peer),
        Err(error) => {
            tracing::warn!(%error, "the user at the other end of a connection is not known");
            return;
        }
    };
    let place = Arc::new(place);
    let answers = TowerToHyperService::new(router);
    let (stream, progress) = Watched::new(stream);
    let cut = Cut::default();
    let service = service_fn(|request: Request<Incoming>| {
        progress.note_asked();
        let (mut head, body) = request.into_parts();
        head.extensions.insert(connected.clone());
        head.extensions.insert(cut.clone());
        let (busy, body) = place.begin(body);
        let answer = answer_of(&answers, Request::from_parts(head, Body::new(body)));
        let answer = answer_to(answer, going_down.clone());
        let answered = answered.clone();
        async move {
            let answer = answer.await;
            answered.notify_one();
            Ok::<_, Infallible>(answer.map(|body| Answering { body, _busy: busy }))
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_limit)
        .max_buf_size(BUFFERED_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        // The futures are polled in this order, so that a request that has already arrived is read
        // before the connection is closed.
        biased;
        ended = &mut connection => ended,
        () = place.sent_away() => return tracing::debug!("an idle connection is closed"),
        () = progress.blocks(READ_LIMIT) => {
            return tracing::debug!("a client that reads nothing is cut off");
        }
        () = cut.told() => {
            return tracing::debug!("others need the room of an answer that is not read");
        }
        () = going_down.wait() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                biased;
                ended = &mut connection => ended,
                () = progress.stalls(WITHOUT_PROGRESS) => {
                    return tracing::debug!("a connection without progress is closed");
                }
            }
        }
    };
    let Err(error) = ended else { return };
    let parts = connection.into_parts();
    let (stream, unasked) = parts.io.into_inner().into_parts();
    // An idle connection ends with the same error, but without a part of a head. Some clients send
    // a line end after a body, which is none.
    let is_half = error.is_timeout() && !parts.read_buf.trim_ascii().is_empty();
    let ended = if error.is_parse() && !progress.was_asked() {
        not_understood(stream, &unasked, &error).await
    } else if is_half && !progress.is_blocked() {
        too_slow(stream, head_limit).await
    } else {
        Ok(())
    };
    // A client may disconnect in the middle of an answer.
    tracing::debug!(%error, ?ended, "a connection broke off");
}

/// Answers a first request that hyper did not understand. hyper's own answer is a status without a
/// reason (`unasked`), or empty.
async fn not_understood(
    stream: UnixStream,
    unasked: &[u8],
    error: &hyper::Error,
) -> io::Result<()> {
    let status = unasked.get("HTTP/1.1 ".len()..).unwrap_or_default();
    let status = status.first_chunk::<3>();
    let status = status.and_then(|digits| StatusCode::from_bytes(digits).ok());
    let status = status.unwrap_or(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    let message = format!("the request is not understood: {error}");
    let hint =
        "the host speaks HTTP/1.1, with at most 100 headers and an address of at most 65,534 bytes";
    refuse(
        stream,
        status,
        AppError::new(ErrorKind::Invalid, message).hint(hint),
    )
    .await
}

/// Answers a request whose head is not complete in time. hyper gives no answer of its own.
async fn too_slow(stream: UnixStream, limit: Duration) -> io::Result<()> {
    let limit = limit.as_secs();
    let message = format!("the request's head did not arrive within {limit} s");
    let hint = "send the head of a request at once; an idle connection is closed after this time \
                too";
    let refusal = AppError::new(ErrorKind::Invalid, message).hint(hint);
    refuse(stream, StatusCode::REQUEST_TIMEOUT, refusal).await
}

/// Writes an error on a connection that hyper serves no longer.
async fn refuse(mut stream: UnixStream, status: StatusCode, refusal: AppError) -> io::Result<()> {
    let answer = answer::with_version(Refusal(refusal).into_response());
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
    let length = body.len();
    let lines = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n");
    let mut bytes = lines.into_bytes();
    for (name, value) in &head.headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    let written = clock::within(REFUSED_WITHIN, stream.write_all(&bytes)).await;
    written.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// The answer of the router, with what all requests and answers have in common. A layer of the
/// router would do the same, but put each handler into a box that is cloned for each request.
fn answer_of(
    answers: &TowerToHyperService<Router>,
    request: extract::Request,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let answer = match answer::undecoded(request.headers()) {
        Ok(()) => Either::Left(answers.call(request)),
        Err(refused) => Either::Right(ready(Ok(refused.into_response()))),
    };
    answer.map(|answer| answer.map(answer::with_version))
}

/// The answer of a handler. A panic or a shutdown is answered with an error too, because a client
/// whose connection just ends does not know what happened to its request.
async fn answer_to(
    answer: impl Future<Output = Result<Response, Infallible>>,
    going_down: GoingDown,
) -> Response {
    let given_up = async {
        going_down.wait().await;
        clock::sleep(LAST_ANSWER).await;
    };
    let refusal = tokio::select! {
        biased;
        answer = AssertUnwindSafe(answer).catch_unwind() => match answer {
            Ok(Ok(answer)) => return answer,
            Err(panic) => {
                let said = said_of(panic.as_ref());
                tracing::error!(said, "a request's handler panicked");
                AppError::new(
                    ErrorKind::Internal,
                    format!("the host failed at this request: {said}"),
                )
                .hint(
                    "this is an error in Claudine; the request may have been carried out: look at \
                     `claudine list` before repeating it",
                )
            }
        },
        () = given_up => going_down_before(),
    };
    answer::with_version(Refusal(refusal).into_response())
}

fn going_down_before() -> AppError {
    AppError::new(
        ErrorKind::Unavailable,
        "the host went down before it had carried out the request",
    )
    .hint("repeat the request: the next command starts a host")
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking, and so does a handler"
    )]
    use std::future::pending;

    use axum::{extract, routing::get};
    use serde_json::Value;
    use tokio::{io::AsyncReadExt, sync::Notify};

    use super::*;

    /// What a connection needs, with the sender that shuts the host down.
    fn serving_of(router: Router) -> (Serving, watch::Sender<bool>) {
        let (shut, shutdown) = watch::channel(false);
        let serving = Serving {
            router,
            going_down: GoingDown(shutdown),
            answered: Arc::new(Notify::new()),
        };
        (serving, shut)
    }

    /// Sends a request, and returns everything that the host writes until the connection ends. With
    /// `under_way`, the host shuts down as soon as the handler has begun.
    async fn said(request: &str, router: Router, under_way: Option<Arc<Notify>>) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let (serving, shut) = serving_of(router);
        let place = Places::of_this_process().enter().await;
        let serving = tokio::spawn(converse(server, serving, place, HEAD_LIMIT));
        client.write_all(request.as_bytes()).await.unwrap();
        if let Some(under_way) = under_way {
            under_way.notified().await;
            shut.send_replace(true);
        }
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        serving.await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_panic_in_a_handler_is_answered_with_an_error() {
        async fn broken() -> &'static str {
            tokio::task::yield_now().await;
            panic!("a rule was broken");
        }
        let request = "GET / HTTP/1.1\r\nhost: claudine\r\nconnection: close\r\n\r\n";
        let router = Router::new().route("/", get(broken));
        let answer = said(request, router, None).await;
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(answer.contains("a rule was broken"), "{answer}");
        assert!(answer.contains(super::super::VERSION_HEADER), "{answer}");
    }

    /// The steps after the host's start wait for the first answer, whatever it is.
    #[tokio::test]
    async fn each_answer_is_told_even_one_that_no_handler_gives() {
        let check = async |header: &str, status: &str| {
            let (mut client, server) = UnixStream::pair().unwrap();
            let (serving, _shut) = serving_of(Router::new().fallback(|| async { "handled" }));
            let answered = serving.answered.clone();
            let place = Places::of_this_process().enter().await;
            let serving = tokio::spawn(converse(server, serving, place, HEAD_LIMIT));
            let head = "GET / HTTP/1.1\r\nhost: claudine\r\nconnection: close\r\n";
            let request = format!("{head}{header}\r\n");
            assert!(answered.notified().now_or_never().is_none(), "{header}");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            serving.await.unwrap();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains(super::super::VERSION_HEADER), "{answer}");
            assert!(answered.notified().now_or_never().is_some(), "{answer}");
        };
        check("", "200").await;
        check("content-encoding: gzip\r\n", "415").await;
    }

    #[tokio::test]
    async fn a_request_that_is_not_understood_is_answered_with_the_reason() {
        let check = async |request: &[u8], status: &str, reason: &str| {
            let (mut client, server) = UnixStream::pair().unwrap();
            let (serving, _shut) = serving_of(Router::new().fallback(|| async { "understood" }));
            let place = Places::of_this_process().enter().await;
            let serving = tokio::spawn(converse(server, serving, place, HEAD_LIMIT));
            client.write_all(request).await.unwrap();
            serving.await.unwrap();
            let mut answer = Vec::new();
            // The host did not read the whole request, so the connection ends with an error.
            client.read_to_end(&mut answer).await.ok();
            let answer = String::from_utf8(answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(head.contains(super::super::VERSION_HEADER), "{answer}");
            let error: Value = serde_json::from_str(body).unwrap();
            assert_eq!(error["kind"], "invalid", "{answer}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(reason), "{answer}");
        };
        check(b"\0\xff garbage\r\n\r\n", "400", "method").await;
        let address = [
            b"GET /",
            &vec![b'a'; 70_000][..],
            b" HTTP/1.1\r\nhost: x\r\n\r\n",
        ]
        .concat();
        check(&address, "414", "URI too long").await;
        let headers = [b"GET / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(3_000)].concat();
        check(&headers, "431", "too large").await;
        let length = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n";
        check(length, "400", "content-length").await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", "HTTP2").await;
    }

    #[tokio::test]
    async fn half_a_head_is_answered_with_the_reason_and_an_idle_connection_is_closed() {
        let check = async |sent: &str, statuses: &[&str]| {
            let (mut client, server) = UnixStream::pair().unwrap();
            client.write_all(sent.as_bytes()).await.unwrap();
            let (serving, _shut) = serving_of(Router::new().fallback(|| async { "understood" }));
            let place = Places::of_this_process().enter().await;
            converse(server, serving, place, Duration::from_millis(50)).await;
            let mut answers = String::new();
            client.read_to_string(&mut answers).await.unwrap();
            let heads = answers.split("HTTP/1.1 ").skip(1);
            let found: Vec<&str> = heads.map(|head| &head[..3]).collect();
            assert_eq!(found, statuses, "{answers}");
            if statuses.last() == Some(&"408") {
                assert!(answers.contains("head did not arrive within"), "{answers}");
                assert!(answers.contains("hint"), "{answers}");
            }
        };
        let whole = "GET / HTTP/1.1\r\nhost: claudine\r\n\r\n";
        let half = "GET / HTTP/1.1\r\nhost: cl";
        check("", &[]).await;
        check(half, &["408"]).await;
        check(whole, &["200"]).await;
        check(&format!("{whole}\r\n"), &["200"]).await;
        check(&format!("{whole}{half}"), &["200", "408"]).await;
    }

    /// Otherwise its connection would keep a place for ever.
    #[tokio::test]
    async fn a_refusal_that_its_client_does_not_read_is_given_up() {
        let (_client, server) = UnixStream::pair().unwrap();
        server.writable().await.unwrap();
        while server.try_write(&[0; 1 << 10]).is_ok() {}
        let refused = too_slow(server, HEAD_LIMIT).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn requests_in_progress_at_a_shutdown_get_an_error_at_once() {
        let check = async |request: &str| {
            let begun = Arc::new(Notify::new());
            let under_way = begun.clone();
            let router = Router::new().fallback(move |request: extract::Request| {
                let begun = begun.clone();
                async move {
                    begun.notify_one();
                    drop(to_bytes(request.into_body(), usize::MAX).await);
                    pending::<&'static str>().await
                }
            });
            let answer = said(request, router, Some(under_way)).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("went down before"), "{answer}");
        };
        check("GET / HTTP/1.1\r\nhost: claudine\r\n\r\n").await;
        check("POST / HTTP/1.1\r\nhost: claudine\r\ncontent-length: 9\r\n\r\nhalf").await;
    }
}
