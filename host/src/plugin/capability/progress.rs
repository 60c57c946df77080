//! The interface `progress`.

use serde::de::IgnoredAny;
use wasmtime::component::{Accessor, HasSelf};

use crate::plugin::guest::Guest;
use crate::plugin::meter::Admission;
use crate::plugin::port::{self, LogLevel};
use crate::plugin::states::kind_of;
use crate::plugin::v0_1::progress::{Host, HostWithStore};
use crate::plugin::v0_1::types::Failure;
use crate::text::is_harmful;

const REPORT_BYTES: usize = 64 << 10;
const STATE_BYTES: usize = 64 << 10;
const KIND_BYTES: usize = 64;
/// The most bytes of a report that is a state; states are stored with the task.
const WORD_BYTES: usize = 4 << 10;

impl Host for Guest {
    fn emit(&mut self, kind: String, data: String) -> wasmtime::Result<()> {
        let Some(host) = self.attempt() else {
            return Ok(());
        };
        if let Some(fault) = fault_of(&kind, &data) {
            // The message counts as a line that the guest logs, and is subject to the same limit.
            if let Admission::Yes { .. } = self.log_meter.admit(fault.len()) {
                host.log(
                    LogLevel::Warn,
                    &format!("a progress report was left out: {fault}"),
                );
            }
            return Ok(());
        }
        if let Some(kind) = kind_of(&kind) {
            self.states.tell(kind, data, &*host);
            return Ok(());
        }
        if let Admission::Yes { left_out } = self.progress_meter.admit(data.len()) {
            if left_out > 0 {
                host.log(
                    LogLevel::Warn,
                    &format!(
                        "{left_out} progress reports were left out: the plugin sent more than 100, or 256 KiB, in a second"
                    ),
                );
            }
            host.progress(&kind, &data);
        }
        Ok(())
    }
}

fn fault_of(kind: &str, data: &str) -> Option<String> {
    if kind.is_empty() || kind.len() > KIND_BYTES || kind.contains(is_harmful) {
        return Some(format!(
            "its kind must have 1 to {KIND_BYTES} bytes and no control characters"
        ));
    }
    if data.len() > REPORT_BYTES {
        return Some(format!(
            "`{kind}` has {} bytes, more than 64 KiB",
            data.len()
        ));
    }
    if kind_of(kind).is_some() && data.len() > WORD_BYTES {
        return Some(format!(
            "`{kind}` has {} bytes, more than 4 KiB",
            data.len()
        ));
    }
    let parsed = serde_json::from_str::<IgnoredAny>(data);
    parsed
        .err()
        .map(|error| format!("`{kind}` is not JSON: {error}"))
}

impl HostWithStore<Guest> for HasSelf<Guest> {
    async fn checkpoint(
        accessor: &Accessor<Guest, Self>,
        state: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Failure>> {
        let host = accessor.with(|mut access| access.get().attempt());
        let Some(host) = host else {
            return Ok(Err(port::Failure::new(
                "denied",
                "only an attempt can store a state",
            )
            .into()));
        };
        if state.len() > STATE_BYTES {
            let message = format!("a state of {} bytes is more than 64 KiB", state.len());
            return Ok(Err(port::Failure::new("invalid", message).into()));
        }
        let stored = host.checkpoint(state.clone()).await;
        if stored.is_ok() {
            accessor.with(|mut access| access.get().checkpoint = Some(state));
        }
        Ok(stored.map_err(Failure::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faulty_progress_reports_are_refused() {
        let check = |kind: &str, data: &str, expected: Option<&str>| {
            let fault = fault_of(kind, data);
            assert_eq!(fault.is_some(), expected.is_some(), "{fault:?}");
            assert!(
                fault
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        };
        check("alive", "{}", None);
        check("phase", r#"{"text": "Bash: npm test"}"#, None);
        check("phase", "{text}", Some("not JSON"));
        check("", "{}", Some("1 to 64 bytes"));
        check("a\nb", "{}", Some("control"));
        let long = format!(r#"{{"text": "{}"}}"#, "x".repeat(WORD_BYTES));
        check("phase", &long, Some("4 KiB"));
        check("note", &long, None);
        check(
            "big",
            &format!("\"{}\"", "x".repeat(REPORT_BYTES)),
            Some("64 KiB"),
        );
    }
}
