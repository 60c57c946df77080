//! Maps each kind of error to an exit code and an HTTP status, in one table. Code with a new kind
//! of error does not compile until the kind is added here.

use crate::app::ErrorKind;

/// Exit code: invalid command line or request.
pub(crate) const USAGE: u8 = 2;
/// Exit code: a task reached its time limit, as with `timeout`.
pub(crate) const TIMED_OUT: u8 = 124;
/// Exit code: an error of Claudine itself.
pub(crate) const CLAUDINE: u8 = 125;
/// Exit code: Ctrl-C or a closed pipe left a task running, or a task was cancelled before it ran.
pub(crate) const INTERRUPTED: u8 = 130;
/// Exit code: a task was cancelled while it ran, however its process ended.
pub(crate) const CANCELLED: u8 = 143;

/// The codes for a kind of error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    pub(crate) http: u16,
    pub(crate) exit: u8,
}

pub(crate) const fn of(kind: ErrorKind) -> Status {
    let (http, exit) = match kind {
        ErrorKind::Invalid => (400, USAGE),
        ErrorKind::NotFound => (404, CLAUDINE),
        ErrorKind::Ambiguous | ErrorKind::Conflict => (409, CLAUDINE),
        ErrorKind::Forbidden => (403, CLAUDINE),
        ErrorKind::Limit => (429, CLAUDINE),
        ErrorKind::StoreFull => (507, CLAUDINE),
        ErrorKind::Unavailable => (503, CLAUDINE),
        ErrorKind::Internal => (500, CLAUDINE),
    };
    Status { http, exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_an_exit_code_and_an_http_status() {
        let check = |kind, http, exit| assert_eq!(of(kind), Status { http, exit }, "{kind:?}");
        check(ErrorKind::Invalid, 400, 2);
        check(ErrorKind::NotFound, 404, 125);
        check(ErrorKind::Ambiguous, 409, 125);
        check(ErrorKind::Conflict, 409, 125);
        check(ErrorKind::Forbidden, 403, 125);
        check(ErrorKind::Limit, 429, 125);
        check(ErrorKind::StoreFull, 507, 125);
        check(ErrorKind::Unavailable, 503, 125);
        check(ErrorKind::Internal, 500, 125);
    }
}
