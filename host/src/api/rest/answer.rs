//! What handlers take and give: bodies and queries that are refused with the field's name, and errors as JSON.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::BytesRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::body::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::status,
    app::{AppError, ErrorKind},
    clock,
};

/// How long a client may take to send a request. The largest one takes a second over a socket of
/// this machine.
const BODY_LIMIT: Duration = Duration::from_mins(1);

/// An answer as JSON, with the status 200 unless it is told another.
pub(super) struct Answer<T>(pub(super) StatusCode, pub(super) T);

/// What a handler gives.
pub(super) type Answered<T> = Result<Answer<T>, Refusal>;

/// A 200 with this body.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands at the end of handlers that can fail"
)]
pub(super) fn ok<T>(body: T) -> Answered<T> {
    Ok(Answer(StatusCode::OK, body))
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(body) => (self.0, [(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => Refusal(AppError::new(
                ErrorKind::Internal,
                format!("the answer cannot be written as JSON: {error}"),
            ))
            .into_response(),
        }
    }
}

/// An error as an answer.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) AppError);

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(status::of(self.0.kind).http)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0)
            .unwrap_or_else(|_| br#"{"kind":"internal","message":""}"#.to_vec());
        (status, [(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal(AppError::new(ErrorKind::Invalid, message))
}

/// A JSON body. Nothing at all stands for `{}`, so that a request whose fields all have defaults needs no body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let limit_bytes = super::limit_of(request.uri().path());
        let read = clock::within(BODY_LIMIT, Bytes::from_request(request, state)).await;
        let Some(read) = read else {
            let limit = BODY_LIMIT.as_secs();
            return Err(invalid(format!(
                "the request's body was not there within {limit} s"
            )));
        };
        let bytes = read.map_err(|rejection| unread(rejection, limit_bytes))?;
        let bytes = if bytes.is_empty() {
            b"{}"
        } else {
            bytes.as_ref()
        };
        serde_json::from_slice(bytes)
            .map(Body)
            .map_err(|error| invalid(format!("the request's body: {error}")))
    }
}

fn unread(rejection: BytesRejection, limit_bytes: usize) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let mib = limit_bytes >> 20;
        return Refusal(
            AppError::new(
                ErrorKind::Invalid,
                format!("the request is larger than {mib} MiB"),
            )
            .hint("put large content into a file and name the file in the prompt"),
        );
    }
    invalid(format!("the request's body cannot be read: {rejection}"))
}

/// A query string.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(asked)| Asked(asked))
            .map_err(|error| invalid(format!("the request's query: {}", error.body_text())))
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    Refusal(AppError::new(
        ErrorKind::NotFound,
        format!("there is nothing at {}", uri.path()),
    ))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let refusal = invalid(format!("{} does not take {method}", uri.path()));
    let mut response = refusal.into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// On every answer: a client of another version says so.
pub(super) async fn with_version(mut response: Response) -> Response {
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    response
        .headers_mut()
        .insert(super::VERSION_HEADER, version);
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Without a router the limit is two megabytes; what is told is that of the path.
    #[tokio::test]
    async fn a_request_that_is_too_large_is_told_the_limit_of_its_path() {
        let check = async |path: &str, limit: &str| {
            let large = axum::body::Body::from(vec![b' '; 3 << 20]);
            let request = Request::post(path).body(large).unwrap();
            let read = Body::<serde_json::Value>::from_request(request, &()).await;
            let told = read.err().unwrap().0.message;
            assert_eq!(told, format!("the request is larger than {limit}"));
        };
        check("/v1/tasks", "256 MiB").await;
        check("/v1/graph", "16 MiB").await;
    }
}
