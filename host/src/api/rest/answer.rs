//! Queries and answers of handlers. Invalid requests are refused with the name of the field, and
//! errors are JSON.

use axum::{
    extract::{self, FromRequestParts, Query},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, map::Entry};

use crate::{
    api::{lenient, status},
    app::{AppError, ErrorKind},
    text::shortened,
};

/// Length limit of an encoding in a message.
const ENCODING_CHARS: usize = 40;

/// Header with the host's version, sent with every answer; a client of another version reports the
/// difference.
pub(crate) const VERSION_HEADER: &str = "claudine-version";

/// Header of a refusal by a host that is going down, if the request can be sent to the next host
/// unchanged.
pub(crate) const NEXT_HOST_HEADER: &str = "claudine-next-host";

/// Header that says why wanted events may be missing in the answer.
pub(crate) const NOTE_HEADER: &str = "claudine-note";

/// A JSON answer with its status.
pub(super) struct Answer<T>(pub(super) StatusCode, pub(super) T);

/// Result of a handler.
pub(super) type Answered<T> = Result<Answer<T>, Refusal>;

/// An answer with status 200.
#[expect(
    clippy::unnecessary_wraps,
    reason = "handlers that can fail return its result"
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
        let mut answer = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
        if self.0.is_for_next_host {
            let yes = HeaderValue::from_static("yes");
            answer.headers_mut().insert(NEXT_HOST_HEADER, yes);
        }
        if self.0.is_passing {
            let seconds = HeaderValue::from_static("1");
            answer.headers_mut().insert(RETRY_AFTER, seconds);
        }
        answer
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal(AppError::new(ErrorKind::Invalid, message))
}

/// The name in a path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|extract::Path(name)| Self(name))
            .map_err(|error| invalid(format!("the request's path: {}", error.body_text())))
    }
}

/// A query string. A repeated field is read as a list.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let wrong = |why: String| invalid(format!("the request's query: {why}"));
        // Otherwise a replacement would be put for the bytes, and another name looked for.
        let query = parts.uri.query().unwrap_or_default();
        if percent_decode_str(query).decode_utf8().is_err() {
            return Err(wrong("it is not UTF-8".to_owned()));
        }
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| wrong(error.body_text()))?;
        lenient::read(fields(pairs)).map(Asked).map_err(wrong)
    }
}

/// The fields of a query as a JSON object.
fn fields(pairs: Vec<(String, String)>) -> Value {
    let mut fields = Map::new();
    for (name, text) in pairs {
        match fields.entry(name) {
            Entry::Vacant(first) => _ = first.insert(text.into()),
            Entry::Occupied(more) => match more.into_mut() {
                Value::Array(texts) => texts.push(text.into()),
                one => *one = Value::Array(vec![one.take(), text.into()]),
            },
        }
    }
    Value::Object(fields)
}

/// The refusal of a request whose body has an encoding that the host does not decode.
pub(super) struct Encoded(StatusCode, AppError);

impl IntoResponse for Encoded {
    fn into_response(self) -> Response {
        let mut response = Refusal(self.1).into_response();
        *response.status_mut() = self.0;
        response
    }
}

/// Refuses a body that would be read without being decoded.
pub(super) fn undecoded(headers: &HeaderMap) -> Result<(), Encoded> {
    let refused = |status, name: &HeaderName, encoding: &str| {
        let message = format!("the body's encoding `{encoding}` ({name}) is not supported");
        let hint = "send the body as it is: JSON, with a `content-length` or in chunks";
        Err(Encoded(
            status,
            AppError::new(ErrorKind::Invalid, message).hint(hint),
        ))
    };
    if let Some(encoding) = encoding(headers, &CONTENT_ENCODING, "identity") {
        return refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &CONTENT_ENCODING,
            &encoding,
        );
    }
    if let Some(encoding) = encoding(headers, &TRANSFER_ENCODING, "chunked") {
        return refused(StatusCode::NOT_IMPLEMENTED, &TRANSFER_ENCODING, &encoding);
    }
    Ok(())
}

/// The first encoding in a header, other than the supported one.
fn encoding(headers: &HeaderMap, name: &HeaderName, supported: &str) -> Option<String> {
    let values = headers.get_all(name).iter();
    let texts: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let mut encodings = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    let other = encodings.find(|it| !it.is_empty() && !it.eq_ignore_ascii_case(supported))?;
    Some(shortened(other, ENCODING_CHARS))
}

pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    Refusal(AppError::new(
        ErrorKind::NotFound,
        format!("nothing is served at {}", uri.path()),
    ))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let refusal = invalid(format!("{} does not accept {method}", uri.path()));
    let mut response = refusal.into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

pub(super) fn with_version(mut response: Response) -> Response {
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    response.headers_mut().insert(VERSION_HEADER, version);
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use axum::{Router, extract::Request, routing::get};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::app::ListFilter;

    #[tokio::test]
    async fn a_query_field_may_be_repeated() {
        let asked = async |query: &str| {
            let uri = format!("/v1/tasks?{query}");
            let (mut parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
            let asked = Asked::<ListFilter>::from_request_parts(&mut parts, &()).await;
            asked
                .map(|Asked(filter)| filter)
                .map_err(|error| error.0.message)
        };
        let filter = asked("label=a%3Db&label=c%3Dd&state=failed&limit=5&name=7")
            .await
            .unwrap();
        let expected = ListFilter {
            label: vec!["a=b".to_owned(), "c=d".to_owned()],
            state: vec!["failed".to_owned()],
            limit: Some(5),
            name: Some("7".to_owned()),
            ..ListFilter::default()
        };
        assert_eq!(filter, expected);
        assert_eq!(asked("").await.unwrap(), ListFilter::default());
        let check = async |query: &str, pieces: [&str; 2]| {
            let told = asked(query).await.unwrap_err();
            assert!(pieces.iter().all(|piece| told.contains(piece)), "{told}");
        };
        check("limit=many", ["`limit`", "a whole number"]).await;
        check("name=a&name=b", ["`name`", "a string"]).await;
        check("colour=red", ["`colour`", "label"]).await;
        check("name=%ff", ["query", "not UTF-8"]).await;
    }

    #[test]
    fn an_encoding_other_than_the_supported_one_is_found() {
        let check = |values: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSFER_ENCODING, value.parse().unwrap());
            }
            let found = encoding(&headers, &TRANSFER_ENCODING, "chunked");
            assert_eq!(found.as_deref(), expected, "{values:?}");
        };
        check(&[], None);
        check(&["Chunked"], None);
        check(&["", "chunked"], None);
        check(&["gzip, chunked"], Some("gzip"));
        check(&["gzip", "chunked"], Some("gzip"));
        let long = "x".repeat(100);
        let shown = format!("{}…", "x".repeat(ENCODING_CHARS));
        check(&["chunked", &long], Some(&shown));
    }

    #[test]
    fn the_answer_says_whether_a_refused_request_may_be_repeated() {
        let says = |is_passing| {
            let error = AppError {
                is_passing,
                ..AppError::new(ErrorKind::Limit, "too many")
            };
            let answer = Refusal(error).into_response();
            answer.headers().contains_key(RETRY_AFTER)
        };
        assert!(says(true));
        assert!(!says(false));
        // The text of this error says the same.
        let moved = Refusal(AppError::moved_too_often("the tasks")).into_response();
        assert!(moved.headers().contains_key(RETRY_AFTER));
    }

    #[tokio::test]
    async fn the_error_for_an_invalid_name_is_json() {
        let named = get(|Named(name): Named| async move { name });
        let router: Router = Router::new().route("/{name}", named);
        let request = Request::get("/%ff")
            .body(axum::body::Body::empty())
            .unwrap();
        let answer = TowerToHyperService::new(router)
            .call(request)
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
    }
}
