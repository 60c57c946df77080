//! What the integration tests share; the tests themselves are in `tests/tests`.

pub mod messages_api;
