//! Reads and writes messages, one per line. Every request gets an answer, even if it is unreadable,
//! because without an answer the client and its agent would wait for ever.
//!
//! The number and the size of the requests in memory are limited, and so is the number of answers:
//! if there are too many, no further line is read until an answer is written. So a client that
//! reads no answers is not read either.

use std::{collections::HashMap, io, sync::Arc};

use rmcp::{
    RoleServer,
    model::{
        ClientNotification, ClientRequest, GetMeta, JsonRpcMessage, NumberOrString, ProtocolVersion,
    },
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{
    output::{End, Lasting, Owed},
    request_id::RequestId,
    stdio::{Input, Output},
    wording::shown_name,
};
use crate::{clock, lock::lock};

/// Limit of the requests that are carried out at the same time. A request counts until its answer
/// is written.
const CALLS_AT_ONCE: usize = 64;
/// Size limit of these requests together: twice the longest line.
const REQUESTS_BYTES: usize = 2 * LINE_BYTES;
/// Size up to which a request counts as one. A larger request counts as several, so that one
/// counter limits both the number and the size.
const ONE_BYTES: usize = REQUESTS_BYTES / CALLS_AT_ONCE;

/// Length limit of a line, which limits memory. A line has room for the longest prompt that a host
/// accepts.
pub(super) const LINE_BYTES: usize = 16 << 20;

const PARSE_ERROR: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;
const METHOD_NOT_FOUND: i32 = -32_601;
const INVALID_PARAMS: i32 = -32_602;

const SAME_ID: &str = "an earlier request with this id has no answer yet, so this one was not \
                       carried out: give each request its own id";

const NOT_BEGUN: &str = "the session has not begun: send the request `initialize` first, and then \
                         the notification `notifications/initialized`";
const BEGUN: &str = "the session has begun already: `initialize` is its first request and comes \
                     once; go on with `tools/list` and `tools/call`, or start another server";
const INCOMPLETE: &str = "`initialize` needs `protocolVersion` (a string), `capabilities` (an \
                          object) and `clientInfo` (an object with `name` and `version`)";

const NO_PING: &str = "version 2026-07-28 of the protocol has no `ping`: the answer to any other \
                       request, such as `tools/list`, shows that the server is there";

const UNCALLED: &str = "a call needs the `name` of a tool (a string) and `arguments` (an object)";

/// The methods that the server offers.
const OFFERED: [&str; 5] = [
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "tools/call",
];

pub(super) struct Lines {
    input: BufReader<Input>,
    line: Vec<u8>,
    /// The id of a line that is too long, and the line's length so far; the remainder of the line
    /// is skipped.
    too_long: Option<(RequestId, usize)>,
    /// Whether the session has begun, so that any message may come. Notifications and answers that
    /// come before it are dropped, because they would end the server.
    in_session: bool,
    /// Whether `initialize` was received. It comes once in a session. The server would take the
    /// version that a second one asks for as the session's, and then refuse `ping`.
    is_initialized: bool,
    /// Ids of unanswered requests, with their shares of `room`. If a second request with the same
    /// id were executed, its answer would be taken for the answer to the first request.
    unanswered: Arc<std::sync::Mutex<HashMap<NumberOrString, Option<OwnedSemaphorePermit>>>>,
    /// Room for requests. Closed once an answer cannot be written.
    room: Arc<Semaphore>,
    /// A request that was read and waits for room, and the number of requests that it counts as.
    next: Option<(RxJsonRpcMessage<RoleServer>, u32)>,
    output: Arc<Mutex<Lasting>>,
    /// An answer that `receive` has yet to write. Kept here because `receive` may be cancelled at
    /// any await.
    owed: Option<Vec<u8>>,
    is_flushed: bool,
    /// The requests that have no answer yet, including those that are refused here.
    owing: Arc<Owed>,
    end: End,
    /// Cancelled if an answer cannot be written.
    broken: CancellationToken,
}

/// Result of reading a line.
enum Read {
    Line,
    /// The line is too long. Its id, if it has one, and its length.
    TooLong(Option<Value>, usize),
    End,
}

impl Lines {
    pub(super) fn new(input: Input, output: Output) -> Self {
        let owing = Arc::new(Owed::default());
        Self {
            input: BufReader::new(input),
            line: Vec::new(),
            too_long: None,
            in_session: false,
            is_initialized: false,
            unanswered: Arc::default(),
            room: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            next: None,
            output: Arc::new(Mutex::new(Lasting::new(output, owing.clone()))),
            owed: None,
            is_flushed: true,
            owing,
            end: End::new(),
            broken: CancellationToken::new(),
        }
    }

    /// Uses this function to notice the end of an input of which some is not read yet.
    pub(super) fn looking_for_its_end(mut self, has_hung_up: fn() -> bool) -> Self {
        self.end.has_hung_up = has_hung_up;
        self
    }

    /// Its token is cancelled once there is nobody for whom a call could wait.
    pub(super) fn end(&self) -> End {
        self.end.clone()
    }

    pub(super) fn owing(&self) -> Arc<Owed> {
        self.owing.clone()
    }

    /// Reads up to the end of a line. Cancelling this call loses nothing.
    async fn read_line(&mut self) -> io::Result<Read> {
        loop {
            let bytes = self.input.fill_buf().await?;
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let ends = newline.is_some() || bytes.is_empty();
            if bytes.is_empty() && self.line.is_empty() && self.too_long.is_none() {
                return Ok(Read::End);
            }
            let taken = newline.map_or(bytes.len(), |at| at + 1);
            let piece = &bytes[..newline.unwrap_or(bytes.len())];
            if self.too_long.is_none() && self.line.len() + piece.len() > LINE_BYTES {
                let mut id = RequestId::default();
                id.feed(&self.line);
                self.too_long = Some((id, self.line.len()));
                self.line = Vec::new();
            }
            match &mut self.too_long {
                Some((id, length)) => {
                    id.feed(piece);
                    *length += piece.len();
                }
                None => self.line.extend_from_slice(piece),
            }
            self.input.consume(taken);
            if ends {
                return Ok(match self.too_long.take() {
                    Some((id, length)) => Read::TooLong(id.found(), length),
                    None => Read::Line,
                });
            }
        }
    }

    /// The message of the line, if the server has to handle it. For an unreadable message, stores
    /// the answer in `owed`.
    fn message(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        match read(&self.line) {
            Ok(JsonRpcMessage::Request(request)) => {
                let is_first = matches!(request.request, ClientRequest::InitializeRequest(_));
                let is_again = is_first && self.is_initialized;
                let again = || is_again.then(|| (INVALID_REQUEST, BEGUN.to_owned()));
                let refused = refused(&request.request).or_else(again);
                let begins = refused.map_or(Ok(()), Err).and_then(|()| {
                    if self.in_session {
                        Ok(true)
                    } else {
                        begins_session(&request.request)
                    }
                });
                let begins = match begins {
                    Ok(begins) => begins,
                    Err((code, why)) => {
                        let id = serde_json::to_value(&request.id).ok();
                        self.owe(id, code, &why);
                        return None;
                    }
                };
                let former = lock(&self.unanswered).insert(request.id.clone(), None);
                if let Some(room) = former {
                    lock(&self.unanswered).insert(request.id.clone(), room);
                    let id = serde_json::to_value(&request.id).ok();
                    self.owe(id, INVALID_REQUEST, SAME_ID);
                    return None;
                }
                self.owing.add();
                // Not before, because a request that the server does not get begins nothing.
                self.in_session = begins;
                self.is_initialized |= is_first;
                Some(JsonRpcMessage::Request(request))
            }
            // The server does not learn of these, so a cancelled request is still answered.
            Ok(_) if !self.in_session => None,
            Ok(other) => {
                // A cancelled request gets no answer, so its id may be used again.
                if let Some(id) = called_off(&other)
                    && lock(&self.unanswered).remove(id).is_some()
                {
                    self.owing.settle(1);
                }
                Some(other)
            }
            Err(Unreadable::Ignored) => None,
            Err(Unreadable::Refused { id, code, why }) => {
                self.owe(id, code, &why);
                None
            }
        }
    }

    /// Waits until there is room for a request. `None` if the conversation is over.
    async fn room_for(&mut self, requests: u32) -> Option<OwnedSemaphorePermit> {
        if let Ok(room) = self.room.clone().try_acquire_many_owned(requests) {
            return Some(room);
        }
        let mut room = std::pin::pin!(self.room.clone().acquire_many_owned(requests));
        // The client may have ended meanwhile.
        let mut has_ended = false;
        if self.input.buffer().is_empty() {
            tokio::select! {
                biased;
                room = &mut room => return room.ok(),
                read = self.input.fill_buf() => {
                    has_ended = !matches!(read, Ok(bytes) if !bytes.is_empty());
                }
            }
        }
        while !has_ended && !self.end.is_here() {
            if let Some(room) = clock::within(self.end.look_after, room.as_mut()).await {
                return room.ok();
            }
        }
        // This ends the waits, which makes room, as the answers to earlier requests do.
        self.end.token.cancel();
        clock::within(self.end.time_left(), room).await?.ok()
    }

    /// Stores the answer to a request that is not carried out. If an earlier request with the same
    /// id has no answer yet, the answer has no id, but names it: otherwise it would be taken for
    /// the answer to the earlier request.
    fn owe(&mut self, id: Option<Value>, code: i32, why: &str) {
        let is_unanswered = |id: &Value| {
            let id = NumberOrString::deserialize(id);
            id.is_ok_and(|id| lock(&self.unanswered).contains_key(&id))
        };
        let (id, why) = match id {
            Some(id) if is_unanswered(&id) => (None, format!("request {id}: {why}")),
            id => (id, why.to_owned()),
        };
        let error = json!({"code": code, "message": why});
        let answer = json!({"jsonrpc": "2.0", "id": id, "error": error});
        self.owed = Some(answer.to_string().into_bytes());
        self.owing.add();
    }

    async fn pay(&mut self) -> io::Result<()> {
        if self.owed.is_none() && self.is_flushed {
            return Ok(());
        }
        let mut output = self.output.lock().await;
        if let Some(answer) = self.owed.take() {
            output.add(&answer, true);
            self.is_flushed = false;
        }
        output.flush(&self.end).await?;
        self.is_flushed = true;
        Ok(())
    }

    /// The next message for the server. `None` if the conversation is over. Cancelling this call
    /// loses nothing.
    async fn next_message(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            // An output without a reader ends the conversation, and so does an input error.
            self.pay().await.ok()?;
            if let Some((_, requests)) = &self.next {
                let requests = *requests;
                let room = self.room_for(requests).await?;
                let (message, _) = self.next.take()?;
                if let JsonRpcMessage::Request(request) = &message {
                    lock(&self.unanswered).insert(request.id.clone(), Some(room));
                }
                return Some(message);
            }
            match self.read_line().await.ok()? {
                Read::End => return None,
                Read::TooLong(id, length) => {
                    let why = format!(
                        "the request has {length} bytes, and {LINE_BYTES} is the limit; put large content into a file and name the file"
                    );
                    self.owe(id, INVALID_REQUEST, &why);
                }
                Read::Line => {
                    let message = self.message();
                    let requests = 1 + self.line.len() / ONE_BYTES;
                    self.line.clear();
                    // The memory of a long line is returned.
                    self.line.shrink_to(ONE_BYTES);
                    match message {
                        Some(request @ JsonRpcMessage::Request(_)) => {
                            let requests = u32::try_from(requests).unwrap_or(u32::MAX);
                            self.next = Some((request, requests));
                        }
                        Some(other) => return Some(other),
                        None => {}
                    }
                }
            }
        }
    }
}

impl Transport<RoleServer> for Lines {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (output, all_room) = (self.output.clone(), self.room.clone());
        let (end, broken) = (self.end.clone(), self.broken.clone());
        // Removes the id before sending, because a client that has the answer may reuse the id.
        let former = answered(&message).and_then(|id| lock(&self.unanswered).remove(id));
        let is_answer = former.is_some();
        let room = former.flatten();
        async move {
            let message = serde_json::to_vec(&message)?;
            let mut output = output.lock().await;
            output.add(&message, is_answer);
            let flushed = output.flush(&end).await;
            drop(room);
            if flushed.is_err() {
                // Nobody reads the answers, so nothing more is to be carried out.
                all_room.close();
                broken.cancel();
                end.token.cancel();
            }
            flushed
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let broken = self.broken.clone();
        let message = tokio::select! {
            biased;
            () = broken.cancelled() => None,
            message = self.next_message() => message,
        };
        if message.is_none() {
            self.end.token.cancel();
        }
        message
    }

    async fn close(&mut self) -> io::Result<()> {
        self.end.token.cancel();
        self.output.lock().await.close(&self.end).await
    }
}

/// Whether this request, which was received outside of a session, begins one. An error code and a
/// reason if the request may only come within a session.
fn begins_session(request: &ClientRequest) -> Result<bool, (i32, String)> {
    // Clients of later versions describe themselves with each request.
    let is_described = || {
        let missing = request
            .get_meta()
            .missing_required_keys(&ProtocolVersion::V_2026_07_28);
        missing.is_empty()
    };
    // A request of an unknown version is answered with the known ones, and begins nothing.
    let is_known = || {
        let version = request.get_meta().protocol_version();
        version.is_some_and(|version| ProtocolVersion::KNOWN_VERSIONS.contains(&version))
    };
    match request {
        ClientRequest::InitializeRequest(_) => Ok(true),
        ClientRequest::PingRequest(_) => Ok(false),
        ClientRequest::DiscoverRequest(_) if is_described() => Ok(false),
        _ if is_described() => Ok(is_known()),
        _ => Err((INVALID_REQUEST, NOT_BEGUN.to_owned())),
    }
}

/// An error code and a reason if the server does not offer the method of the request, or if the
/// request was parsed as an unknown one because its parameters are invalid.
fn refused(request: &ClientRequest) -> Option<(i32, String)> {
    let method = request.method();
    if !OFFERED.contains(&method) {
        let method = shown_name(method);
        let why = format!(
            "unknown method `{method}`: this server offers tools only, by `tools/list` and `tools/call`"
        );
        return Some((METHOD_NOT_FOUND, why));
    }
    // The library refuses it too, but gives no reason.
    let version = request.get_meta().protocol_version();
    if method == "ping" && version == Some(ProtocolVersion::V_2026_07_28) {
        return Some((METHOD_NOT_FOUND, NO_PING.to_owned()));
    }
    let is_malformed = matches!(request, ClientRequest::CustomRequest(_));
    is_malformed.then(|| {
        let why = match method {
            "initialize" => INCOMPLETE.to_owned(),
            "tools/call" => UNCALLED.to_owned(),
            other => format!(
                "the parameters of `{other}` cannot be read: leave them out, or give them the types of the protocol"
            ),
        };
        (INVALID_PARAMS, why)
    })
}

/// Id of the request that a message answers.
fn answered(message: &TxJsonRpcMessage<RoleServer>) -> Option<&NumberOrString> {
    match message {
        JsonRpcMessage::Response(response) => Some(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref(),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
    }
}

/// Id of the request that a message cancels.
fn called_off(message: &RxJsonRpcMessage<RoleServer>) -> Option<&NumberOrString> {
    let JsonRpcMessage::Notification(notification) = message else {
        return None;
    };
    let ClientNotification::CancelledNotification(cancelled) = &notification.notification else {
        return None;
    };
    cancelled.params.request_id.as_ref()
}

/// Reason why a line is not a message.
enum Unreadable {
    /// A notification, an answer or an empty line, none of which gets an answer.
    Ignored,
    Refused {
        id: Option<Value>,
        code: i32,
        why: String,
    },
}

fn read(line: &[u8]) -> Result<RxJsonRpcMessage<RoleServer>, Unreadable> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let line = line.trim_ascii();
    if line.is_empty() {
        return Err(Unreadable::Ignored);
    }
    let error = match serde_json::from_slice(line) {
        Ok(message) => return Ok(message),
        Err(error) => error,
    };
    let (code, why) = match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(fields))
            if !fields.contains_key("id") && fields.contains_key("method") =>
        {
            return Err(Unreadable::Ignored);
        }
        Ok(Value::Object(fields)) if !fields.contains_key("method") && is_answer(&fields) => {
            return Err(Unreadable::Ignored);
        }
        Ok(Value::Array(_)) => (
            INVALID_REQUEST,
            "batches are not supported; send each request on its own line".to_owned(),
        ),
        Ok(Value::Object(fields)) => {
            let why = wrong_fields(&fields);
            let why = why.unwrap_or_else(|| format!("{error}; perhaps a field is given twice"));
            (INVALID_REQUEST, why)
        }
        Ok(_) => (
            INVALID_REQUEST,
            "a request is a JSON object, and this is none".to_owned(),
        ),
        Err(error) if error.to_string().contains("surrogate") => {
            let why = "an unpaired surrogate, such as `\\ud83d` alone";
            (PARSE_ERROR, format!("{why}: {error}"))
        }
        Err(error) => (PARSE_ERROR, error.to_string()),
    };
    Err(Unreadable::Refused {
        id: RequestId::of(line),
        code,
        why: format!("the request cannot be read: {why}"),
    })
}

/// Whether an object has a field of an answer, whatever its content.
fn is_answer(fields: &Map<String, Value>) -> bool {
    fields.contains_key("result") || fields.contains_key("error")
}

/// Says which fields of an object are wrong, so that it is no request.
fn wrong_fields(fields: &Map<String, Value>) -> Option<String> {
    let version = fields.get("jsonrpc").and_then(Value::as_str);
    let has_method = fields.get("method").is_some_and(Value::is_string);
    let is_id = |id: &Value| NumberOrString::deserialize(id).is_ok();
    let is_absent_or_object = |value: &Value| value.is_null() || value.is_object();
    let params = fields.get("params");
    let meta = params.and_then(|params| params.get("_meta"));
    let rules = [
        (version == Some("2.0"), "`jsonrpc` has to be \"2.0\""),
        (has_method, "`method` has to be a string"),
        (
            fields.get("id").is_none_or(is_id),
            "`id` has to be a string or a signed integer of 64 bits",
        ),
        (
            params.is_none_or(is_absent_or_object),
            "`params` has to be an object",
        ),
        (
            meta.is_none_or(is_absent_or_object),
            "`_meta` in `params` has to be an object",
        ),
        (
            !is_answer(fields),
            "a request has no `result` and no `error`",
        ),
    ];
    let broken = rules.into_iter().filter(|(is_kept, _)| !is_kept);
    let broken: Vec<&str> = broken.map(|(_, rule)| rule).collect();
    (!broken.is_empty()).then(|| broken.join(", and "))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// The methods of the messages that `receive` returns for this input, and the answers that it
    /// writes itself.
    async fn said(input: Vec<u8>) -> (Vec<String>, Vec<Value>) {
        let (output, mut reader) = tokio::io::duplex(1 << 20);
        let mut lines = Lines::new(Box::pin(io::Cursor::new(input)), Box::pin(output));
        let mut methods = Vec::new();
        while let Some(message) = lines.receive().await {
            let message = serde_json::to_value(message).unwrap();
            methods.push(message["method"].as_str().unwrap_or("answer").to_owned());
        }
        lines.close().await.unwrap();
        drop(lines);
        let mut answers = String::new();
        reader.read_to_string(&mut answers).await.unwrap();
        let answers = answers
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (methods, answers.collect())
    }

    /// The request that begins a session.
    fn hello() -> String {
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string()
    }

    #[tokio::test]
    async fn an_unreadable_request_is_answered_with_its_id() {
        let check = async |line: &[u8], id: Value, code: i32| {
            let after = br#"{"jsonrpc":"2.0","id":99,"method":"ping"}"#;
            let (methods, answers) = said([line, b"\n", after].concat()).await;
            let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
            assert_eq!(methods, ["ping"], "{shown}");
            let [answer] = answers.as_slice() else {
                panic!("{shown}: {answers:?}");
            };
            assert_eq!(
                (&answer["id"], &answer["error"]["code"]),
                (&id, &code.into()),
                "{shown}"
            );
        };
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud83d"}}"#;
        check(call.as_bytes(), json!(1), PARSE_ERROR).await;
        check(
            b"{\"id\":\"a\",\"method\":\"\xff\"}",
            json!("a"),
            PARSE_ERROR,
        )
        .await;
        check(br#"{"id":5,"method":"tools/li"#, json!(5), PARSE_ERROR).await;
        check(b"hello", Value::Null, PARSE_ERROR).await;
        check(
            br#"{"id":1.5,"method":"ping"}"#,
            Value::Null,
            INVALID_REQUEST,
        )
        .await;
        check(
            br#"{"jsonrpc":"2.0","id":6,"method":7}"#,
            json!(6),
            INVALID_REQUEST,
        )
        .await;
        check(
            br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            Value::Null,
            INVALID_REQUEST,
        )
        .await;
        check(b"{}", Value::Null, INVALID_REQUEST).await;
        // Some clients write integers like this.
        for id in ["7", "7.0"] {
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":5}}}}"#
            );
            check(call.as_bytes(), json!(7), INVALID_PARAMS).await;
        }
    }

    #[tokio::test]
    async fn the_answer_to_an_invalid_request_names_each_wrong_field() {
        let check = async |line: &str, id: Value, why: &str| {
            let (methods, answers) = said(line.as_bytes().to_vec()).await;
            assert!(methods.is_empty(), "{line}: {methods:?}");
            let error = json!({
                "code": INVALID_REQUEST,
                "message": format!("the request cannot be read: {why}"),
            });
            let answer = json!({"jsonrpc": "2.0", "id": id, "error": error});
            assert_eq!(answers, [answer], "{line}");
        };
        let version = "`jsonrpc` has to be \"2.0\"";
        check(r#"{"id":1,"method":"ping"}"#, json!(1), version).await;
        check(
            r#"{"jsonrpc":"1.0","id":"a","method":"ping"}"#,
            json!("a"),
            version,
        )
        .await;
        check(
            r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
            json!(1),
            version,
        )
        .await;
        let method = "`method` has to be a string";
        check(r#"{"jsonrpc":"2.0","id":1}"#, json!(1), method).await;
        check(
            r#"{"jsonrpc":"2.0","id":1,"method":null}"#,
            json!(1),
            method,
        )
        .await;
        let id = "`id` has to be a string or a signed integer of 64 bits";
        for wrong in ["null", "1.5", "true", "[1]", r#"{"id":1}"#] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{wrong},"method":"ping"}}"#);
            check(&line, Value::Null, id).await;
        }
        check(r#"{"id":2.0,"method":"ping"}"#, json!(2), version).await;
        // Some clients write all fields that a message may have.
        let answers = "a request has no `result` and no `error`";
        for more in [
            r#""result":null"#,
            r#""error":null"#,
            r#""result":1,"error":{}"#,
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping",{more}}}"#);
            check(&line, json!(1), answers).await;
        }
        let params = "`params` has to be an object";
        for wrong in ["[1]", "7", r#""x""#] {
            for method in ["ping", "tools/call", "any"] {
                let line =
                    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{wrong}}}"#);
                check(&line, json!(1), params).await;
            }
        }
        let meta = "`_meta` in `params` has to be an object";
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"any","params":{"_meta":5}}"#;
        check(line, json!(1), meta).await;
        let twice = "unrecognized JSON-RPC message; perhaps a field is given twice";
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}"#;
        check(line, json!(1), twice).await;
        let large = r#"{"jsonrpc":"2.0","id":9223372036854775808,"method":"ping"}"#;
        check(large, json!(9_223_372_036_854_775_808_u64), id).await;
        let all = format!("{version}, and {method}, and {id}");
        check(r#"{"id":[]}"#, Value::Null, &all).await;
        let none = "a request is a JSON object, and this is none";
        check("5", Value::Null, none).await;
    }

    #[tokio::test]
    async fn a_call_before_the_session_is_answered_with_the_way_to_begin_one() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let (methods, answers) = said(format!("{call}\n").into_bytes()).await;
        assert!(methods.is_empty(), "{methods:?}");
        assert_eq!(answers[0]["id"], 1);
        let why = answers[0]["error"]["message"].to_string();
        assert!(why.contains("send the request `initialize` first"), "{why}");
        let hello = |params: Value| json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": params});
        let incomplete = hello(json!({"protocolVersion": 5}));
        let (methods, answers) = said(format!("{incomplete}\n").into_bytes()).await;
        assert!(methods.is_empty(), "{methods:?}");
        let why = answers[0]["error"]["message"].to_string();
        assert!(
            why.contains("`initialize` needs `protocolVersion`"),
            "{why}"
        );
        let complete = hello(json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }));
        let input = format!("{complete}\n{call}\n").into_bytes();
        let (methods, answers) = said(input).await;
        assert_eq!(methods, ["initialize", "tools/list"]);
        assert_eq!(answers, [Value::Null; 0]);
    }

    #[tokio::test]
    async fn a_second_initialization_is_refused_and_the_session_goes_on() {
        let again = json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {
            "protocolVersion": "9999", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }});
        let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
        let input = [&*hello(), &again.to_string(), ping].join("\n");
        let (methods, answers) = said(input.into_bytes()).await;
        assert_eq!(methods, ["initialize", "ping"]);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["id"], 2);
        assert_eq!(answers[0]["error"]["code"], INVALID_REQUEST);
        assert_eq!(answers[0]["error"]["message"], BEGUN);
        // An initialization that was not carried out is not the first one, and begins no session:
        // the notification after it would end the server.
        let hello_with = |id: u64| {
            let mut hello = again.clone();
            hello["id"] = id.into();
            hello.to_string()
        };
        let early = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let input = [ping, &hello_with(3), early, &hello_with(4)].join("\n");
        let (methods, answers) = said(input.into_bytes()).await;
        assert_eq!(methods, ["ping", "initialize"]);
        assert_eq!(answers.len(), 1, "{answers:?}");
        let message = format!("request 3: {SAME_ID}");
        assert_eq!(answers[0]["error"]["message"], message);
    }

    /// The server would end if it got one of them.
    #[tokio::test]
    async fn notifications_and_answers_before_the_session_are_dropped() {
        let hello = hello();
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        let described = |version: &str, method: &str| {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            let params = json!({ "_meta": meta });
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
        };
        let check = async |first: &str, expected: &[&str]| {
            let lines = [first, notification, answer, &hello, notification];
            let (methods, answers) = said(lines.join("\n").into_bytes()).await;
            assert_eq!(methods, expected, "{first}");
            assert_eq!(answers, [Value::Null; 0], "{first}");
        };
        let after = "notifications/initialized";
        check(notification, &["initialize", after]).await;
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        check(ping, &["ping", "initialize", after]).await;
        let discover = described("2026-07-28", "server/discover");
        check(&discover, &["server/discover", "initialize", after]).await;
        let unknown = described("2999-01-01", "tools/list");
        check(&unknown, &["tools/list", "initialize", after]).await;
        let known = described("2026-07-28", "tools/list");
        let all = ["tools/list", after, "answer", "initialize", after];
        check(&known, &all).await;
    }

    #[tokio::test]
    async fn a_request_that_the_server_does_not_offer_is_refused_with_the_reason() {
        let request = |id: usize, method: &str, params: Value| {
            let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            format!("{request}\n")
        };
        let hello = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let unknown = [
            "resources/list",
            "resources/templates/list",
            "prompts/list",
            "logging/setLevel",
            "completion/complete",
            "tasks/get",
            "nonsense",
        ];
        let mut input = request(0, "initialize", hello);
        for (id, method) in (1..).zip(unknown) {
            input += &request(id, method, json!({}));
        }
        let malformed = [
            ("initialize", json!({})),
            ("tools/call", json!({"name": 5})),
        ];
        for (id, (method, params)) in (unknown.len() + 1..).zip(malformed) {
            input += &request(id, method, params);
        }
        input += &request(99, "tools/list", json!({}));
        let (methods, answers) = said(input.into_bytes()).await;
        assert_eq!(methods, ["initialize", "tools/list"]);
        assert_eq!(answers.len(), unknown.len() + 2);
        for (answer, method) in answers.iter().zip(unknown) {
            assert_eq!(answer["error"]["code"], METHOD_NOT_FOUND, "{answer}");
            let why = answer["error"]["message"].as_str().unwrap();
            assert!(why.contains(method) && why.contains("tools only"), "{why}");
        }
        for (answer, says) in answers[unknown.len()..].iter().zip([INCOMPLETE, UNCALLED]) {
            assert_eq!(answer["error"]["code"], INVALID_PARAMS, "{answer}");
            assert_eq!(answer["error"]["message"], says, "{answer}");
        }
        let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
        let input = request(0, "ping", meta) + &request(1, "ping", json!({}));
        let (methods, answers) = said(input.into_bytes()).await;
        assert_eq!(methods, ["ping"]);
        assert_eq!(answers[0]["error"]["code"], METHOD_NOT_FOUND);
        assert_eq!(answers[0]["error"]["message"], NO_PING);
        // A refused request is none of the session, so a notification after it is still too early.
        let early = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let input = request(1, "tools/list", json!({})) + early;
        let (methods, answers) = said(input.into_bytes()).await;
        assert_eq!((methods.len(), answers.len()), (0, 1));
    }

    #[tokio::test]
    async fn a_request_with_the_id_of_an_unanswered_request_is_refused() {
        let ping = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;
        let call_off = json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 5},
        });
        let (methods, answers) = said(format!("{ping}\n{ping}\n").into_bytes()).await;
        assert_eq!(methods, ["ping"]);
        assert_eq!(answers[0]["error"]["code"], INVALID_REQUEST);

        // A cancelled request no longer counts as unanswered.
        let input = format!("{}\n{ping}\n{call_off}\n{ping}\n", hello());
        let (methods, answers) = said(input.into_bytes()).await;
        let expected = ["initialize", "ping", "notifications/cancelled", "ping"];
        assert_eq!(methods, expected);
        assert_eq!(answers, [Value::Null; 0]);

        // Before the session, the cancellation is dropped, so both requests would be answered.
        let input = format!("{ping}\n{call_off}\n{ping}\n");
        let (methods, answers) = said(input.into_bytes()).await;
        assert_eq!(methods, ["ping"]);
        let message = format!("request 5: {SAME_ID}");
        assert_eq!(answers[0]["error"]["message"], message);

        // An answered request no longer counts as unanswered either.
        let (output, _reader) = tokio::io::duplex(1 << 20);
        let input = format!("{ping}\n{ping}\n").into_bytes();
        let mut lines = Lines::new(Box::pin(io::Cursor::new(input)), Box::pin(output));
        assert!(lines.receive().await.is_some());
        let answer = json!({"jsonrpc": "2.0", "id": 5, "result": {}});
        let answer = serde_json::from_value(answer).unwrap();
        lines.send(answer).await.unwrap();
        assert!(lines.receive().await.is_some());
    }

    fn ping(id: usize) -> String {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\n")
    }

    fn answer_to(id: usize) -> TxJsonRpcMessage<RoleServer> {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {}});
        serde_json::from_value(answer).unwrap()
    }

    /// The lines of a session that has read as many requests as there is room for, and has more.
    async fn full(more: &str, output: tokio::io::DuplexStream) -> Lines {
        let input: String = (0..CALLS_AT_ONCE).map(ping).collect();
        let input = io::Cursor::new((input + more).into_bytes());
        let mut lines = Lines::new(Box::pin(input), Box::pin(output));
        lines.in_session = true;
        for _ in 0..CALLS_AT_ONCE {
            assert!(lines.receive().await.is_some());
        }
        lines
    }

    #[tokio::test]
    async fn no_more_requests_are_carried_out_until_one_is_answered() {
        let (output, _reader) = tokio::io::duplex(1 << 20);
        let mut lines = full(&ping(CALLS_AT_ONCE), output).await;
        assert!(lines.receive().now_or_never().is_none());
        lines.send(answer_to(7)).await.unwrap();
        assert!(lines.receive().await.is_some());
        assert!(lines.receive().await.is_none(), "the input has ended");
    }

    #[tokio::test]
    async fn a_cancellation_is_read_although_there_is_no_room_for_a_request() {
        let (output, _reader) = tokio::io::duplex(1 << 20);
        let call_off = json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 5},
        });
        let more = format!("{call_off}\n{}", ping(CALLS_AT_ONCE));
        let mut lines = full(&more, output).await;
        let message = lines.receive().now_or_never().unwrap().unwrap();
        assert!(matches!(message, JsonRpcMessage::Notification(_)));
        // The cancelled request makes room for the next one.
        assert!(lines.receive().now_or_never().unwrap().is_some());
    }

    #[tokio::test]
    async fn the_end_of_the_input_is_noticed_although_requests_before_it_wait_for_room() {
        let more = ping(CALLS_AT_ONCE) + &ping(CALLS_AT_ONCE + 1);
        let (output, _reader) = tokio::io::duplex(1 << 20);
        let mut lines = full(&more, output).await;
        assert!(lines.receive().now_or_never().is_none());
        assert!(!lines.end.token.is_cancelled(), "more may come");
        lines.end.has_hung_up = || true;
        assert!(lines.receive().now_or_never().is_none());
        assert!(lines.end.token.is_cancelled());
        // Both requests are still carried out, once there is room.
        for id in 0..2 {
            lines.send(answer_to(id)).await.unwrap();
            assert!(lines.receive().await.is_some());
        }
        assert!(lines.receive().await.is_none());
    }

    #[tokio::test]
    async fn a_session_whose_answers_cannot_be_written_ends_although_its_input_is_open() {
        let (_writer, input) = tokio::io::duplex(16);
        let (output, reader) = tokio::io::duplex(16);
        let mut lines = Lines::new(Box::pin(input), Box::pin(output));
        drop(reader);
        assert!(lines.send(answer_to(1)).await.is_err());
        assert!(lines.end.token.is_cancelled());
        let received = lines.receive().now_or_never();
        assert!(matches!(received, Some(None)), "the session goes on");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_takes_room() {
        let (output, mut reader) = tokio::io::duplex(16);
        let mut lines = full(&ping(CALLS_AT_ONCE), output).await;
        let mut sending = Box::pin(lines.send(answer_to(7)));
        assert!((&mut sending).now_or_never().is_none());
        assert!(lines.receive().now_or_never().is_none());
        tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        sending.await.unwrap();
        assert!(lines.receive().await.is_some());
    }

    #[tokio::test]
    async fn nothing_more_is_carried_out_for_a_client_that_cannot_read_the_answers() {
        let (output, reader) = tokio::io::duplex(16);
        let mut lines = full(&ping(CALLS_AT_ONCE), output).await;
        drop(reader);
        assert!(lines.send(answer_to(7)).await.is_err());
        assert!(lines.receive().await.is_none());
    }

    #[tokio::test]
    async fn a_refusal_that_nobody_reads_ends_the_session_once_its_input_has_ended() {
        let (output, _reader) = tokio::io::duplex(16);
        let input = io::Cursor::new(b"no JSON\n".repeat(3));
        let mut lines = Lines::new(Box::pin(input), Box::pin(output));
        lines.end.look_after = Duration::from_millis(1);
        lines.end.has_hung_up = || true;
        assert!(lines.receive().await.is_none());
        assert!(lines.owing.check(&lines.end).is_err());
    }

    #[tokio::test]
    async fn answered_and_cancelled_requests_are_owed_nothing() {
        let (output, _reader) = tokio::io::duplex(1 << 20);
        let call_off = json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 2},
        });
        let input = [
            &*hello(),
            &ping(1),
            "no JSON",
            &ping(2),
            &call_off.to_string(),
        ]
        .join("\n");
        let input = io::Cursor::new(input.into_bytes());
        let mut lines = Lines::new(Box::pin(input), Box::pin(output));
        while lines.receive().await.is_some() {}
        assert!(lines.owing.check(&lines.end).is_err());
        for id in [0, 1] {
            lines.send(answer_to(id)).await.unwrap();
        }
        assert_eq!(lines.owing.check(&lines.end), Ok(()));
        // An answer that nobody waits for is not counted.
        lines.send(answer_to(2)).await.unwrap();
        assert_eq!(lines.owing.check(&lines.end), Ok(()));
    }

    #[tokio::test]
    async fn large_requests_leave_room_for_fewer_others() {
        let text = "x".repeat(LINE_BYTES - 100);
        let large = |id: usize| {
            let call = json!({"name": "any", "arguments": {"x": text}});
            let request =
                json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": call});
            format!("{request}\n")
        };
        let input: String = (1..=3).map(large).collect();
        let input = format!("{}\n{input}", hello());
        let (output, _reader) = tokio::io::duplex(1 << 20);
        let input = io::Cursor::new(input.into_bytes());
        let mut lines = Lines::new(Box::pin(input), Box::pin(output));
        assert!(lines.receive().await.is_some());
        lines.send(answer_to(0)).await.unwrap();
        for _ in 0..2 {
            assert!(lines.receive().await.is_some());
        }
        assert!(lines.receive().now_or_never().is_none());
        assert!(lines.next.is_some(), "the third request was read");
        lines.send(answer_to(1)).await.unwrap();
        assert!(lines.receive().await.is_some());
    }

    /// An answer with this id would be taken for the answer to the first request.
    #[tokio::test]
    async fn no_refusal_of_a_request_has_the_id_of_an_unanswered_request() {
        let ping = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;
        let text = "x".repeat(LINE_BYTES);
        for (again, why) in [
            (ping.to_owned(), SAME_ID),
            (format!(r#"{{"id":5,"params":"{text}"}}"#), "is the limit"),
            (r#"{"id":5,"method":"ping"}"#.to_owned(), "`jsonrpc`"),
            (ping.replace("ping", "other"), "unknown method"),
        ] {
            let input = format!("{ping}\n{again}\n");
            let (methods, answers) = said(input.into_bytes()).await;
            assert_eq!(methods, ["ping"], "{why}");
            assert_eq!(answers.len(), 1, "{why}: {answers:?}");
            assert_eq!(answers[0]["id"], Value::Null, "{why}");
            let said = answers[0]["error"]["message"].as_str().unwrap();
            assert!(
                said.starts_with("request 5: ") && said.contains(why),
                "{said}"
            );
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_answered_with_its_id() {
        let text = "x".repeat(LINE_BYTES);
        for line in [
            format!(r#"{{"id":3,"params":"{text}"}}"#),
            format!(r#"{{"params":"{text}","id":3}}"#),
        ] {
            let (methods, answers) = said(line.into_bytes()).await;
            assert!(methods.is_empty());
            assert_eq!(answers[0]["id"], 3);
            assert_eq!(answers[0]["error"]["code"], INVALID_REQUEST);
        }
    }

    #[tokio::test]
    async fn notifications_answers_and_empty_lines_get_no_answer() {
        let early = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let request = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let broken = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":7}"#;
        let answer = r#"{"jsonrpc":"2.0","id":9,"result":7}"#;
        let hello = hello();
        // The last line has no newline.
        let input = format!("{early}\n\n{request}\r\n{hello}\n{broken}\n{answer}\n{early}");
        let (methods, answers) = said(input.into_bytes()).await;
        assert_eq!(answers, [Value::Null; 0]);
        assert_eq!(methods[..2], ["ping", "initialize"]);
        assert_eq!(methods.last().unwrap(), "notifications/initialized");
    }
}
