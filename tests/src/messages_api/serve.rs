//! The HTTP server: records each request, selects an answer from the script, and sends the answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::points::Points;
use super::script::{Answer, Asked, Script, Step};
use super::wire::{self, Events};

/// Limit on the number of events of one answer that wait for the socket. If a client does not read,
/// its answer waits at this limit instead of filling memory.
const EVENTS_AHEAD: usize = 16;

/// Largest accepted request: a 10 MB prompt and the system prompt as JSON, with a margin.
const LARGEST_REQUEST_BYTES: usize = 64 << 20;

/// A request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

impl Recorded {
    pub fn asks_for_message(&self) -> bool {
        self.method == "POST" && self.path == "/v1/messages"
    }

    /// The request's messages as JSON text, for searching.
    pub fn messages(&self) -> String {
        self.body["messages"].to_string()
    }
}

pub(super) struct Shared {
    script: Mutex<Script>,
    recorded: Mutex<Vec<Recorded>>,
    pub(super) points: Points,
    /// The answers that are being sent, which are aborted when the server ends.
    answers: Mutex<JoinSet<()>>,
}

impl Shared {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script: Mutex::new(script),
            recorded: Mutex::default(),
            points: Points::default(),
            answers: Mutex::default(),
        }
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        lock(&self.recorded).clone()
    }

    pub(super) fn set_script(&self, script: Script) {
        *lock(&self.script) = script;
    }

    /// Records the request and returns its number.
    fn record(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> (usize, Value) {
        let body = serde_json::from_slice(body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()));
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let mut recorded = lock(&self.recorded);
        recorded.push(Recorded {
            method: method.to_string(),
            path: uri.path().to_owned(),
            headers,
            body: body.clone(),
        });
        (recorded.len(), body)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/control/requests", get(control_requests))
        .route("/control/script", post(control_script))
        .route("/control/release/{point}", post(control_release))
        .route("/control/reached/{point}", get(control_reached))
        .fallback(anything_else)
        .layer(axum::extract::DefaultBodyLimit::max(LARGEST_REQUEST_BYTES))
        .with_state(Arc::clone(&shared));
    // A graceful shutdown would wait for ever for an answer that is held.
    let served = tokio::select! {
        served = async { axum::serve(listener, router).await } => served,
        _ = stopped => Ok(()),
    };
    lock(&shared.answers).abort_all();
    served
}

async fn messages(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (number, body) = shared.record(&method, &uri, &headers, &body);
    let asked = Asked::read(&body);
    let Some(answer) = lock(&shared.script).take(&asked) else {
        return error_body(
            StatusCode::NOT_IMPLEMENTED,
            "api_error",
            "the test's script has no rule for this request",
        );
    };
    if let Some(point) = &answer.hold {
        shared.points.hold(point).await;
    }
    let mut response = play(&shared, number, asked, &answer).await;
    if let Ok(status) = StatusCode::from_u16(answer.status) {
        *response.status_mut() = status;
    }
    for (name, value) in &answer.headers {
        match (name.parse::<axum::http::HeaderName>(), value.parse()) {
            (Ok(name), Ok(value)) => {
                response.headers_mut().insert(name, value);
            }
            _ => {
                return error_body(
                    StatusCode::NOT_IMPLEMENTED,
                    "api_error",
                    "the test's script has a bad header",
                );
            }
        }
    }
    response
}

/// Makes the response to a request; a streamed body is sent by a separate task.
async fn play(shared: &Arc<Shared>, number: usize, asked: Asked, answer: &Answer) -> Response {
    if let Some(error) = &answer.error {
        return error_body(StatusCode::OK, &error.kind, &error.message);
    }
    let (sender, body) = Channel::<Bytes, io::Error>::new(EVENTS_AHEAD);
    let content_type = if asked.streaming {
        "text/event-stream"
    } else {
        "application/json"
    };
    if asked.streaming {
        let (shared_, steps) = (Arc::clone(shared), answer.steps.clone());
        lock(&shared.answers)
            .spawn(async move { stream(shared_, number, asked, steps, sender).await });
    } else {
        whole(shared, number, &asked, &answer.steps, sender).await;
    }
    (
        [
            ("content-type", content_type),
            ("request-id", "req_scripted"),
        ],
        Body::new(body),
    )
        .into_response()
}

/// Sends the steps as events, until the client disconnects.
async fn stream(
    shared: Arc<Shared>,
    number: usize,
    asked: Asked,
    steps: Vec<Step>,
    mut sender: Sender<Bytes, io::Error>,
) {
    let mut events = Events::new(number);
    if sender
        .send_data(Bytes::from(events.start(&asked.model)))
        .await
        .is_err()
    {
        return;
    }
    for step in &steps {
        let bytes = match step {
            Step::Text(text) => events.text(text),
            Step::Tool { name, input } => events.tool(name, input),
            Step::Pause(point) => {
                shared.points.hold(point).await;
                continue;
            }
            Step::Cut => return sender.abort(cut()),
        };
        if sender.send_data(Bytes::from(bytes)).await.is_err() {
            return;
        }
    }
    // Sends the last piece. An error means that the client has disconnected, which does not matter.
    drop(sender.send_data(Bytes::from(events.end())).await);
}

/// Waits at all pauses among the steps, then sends one document. If the steps contain a cut, sends
/// only half of the document.
async fn whole(
    shared: &Shared,
    number: usize,
    asked: &Asked,
    steps: &[Step],
    mut sender: Sender<Bytes, io::Error>,
) {
    for step in steps {
        if let Step::Pause(point) = step {
            shared.points.hold(point).await;
        }
    }
    let mut document = wire::document(number, &asked.model, steps).to_string();
    let is_cut = steps.iter().any(|step| matches!(step, Step::Cut));
    if is_cut {
        document.truncate(document.len() / 2);
    }
    // The channel has room for this one piece, so sending it does not wait. An error means that the
    // client has disconnected, which does not matter.
    drop(sender.send_data(Bytes::from(document)).await);
    if is_cut {
        sender.abort(cut());
    }
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the script cuts the connection here",
    )
}

async fn count_tokens(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Json<Value> {
    shared.record(&method, &uri, &headers, &body);
    Json(json!({ "input_tokens": 100 }))
}

async fn anything_else(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.record(&method, &uri, &headers, &body);
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    error_body(
        StatusCode::NOT_FOUND,
        "not_found_error",
        "not part of the scripted service",
    )
}

async fn control_requests(State(shared): State<Arc<Shared>>) -> Json<Vec<Recorded>> {
    Json(shared.requests())
}

async fn control_script(
    State(shared): State<Arc<Shared>>,
    Json(script): Json<Script>,
) -> Result<(), Infallible> {
    shared.set_script(script);
    Ok(())
}

async fn control_release(
    State(shared): State<Arc<Shared>>,
    Path(point): Path<String>,
) -> Result<(), Infallible> {
    shared.points.release(&point);
    Ok(())
}

async fn control_reached(
    State(shared): State<Arc<Shared>>,
    Path(point): Path<String>,
) -> Json<bool> {
    Json(shared.points.is_reached(&point))
}

fn error_body(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_scripted" });
    (status, Json(body)).into_response()
}
