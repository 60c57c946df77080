//! What keeps running tasks from ending, so that there is no point in waiting for them.

use std::time::Duration;

use super::super::{session::Session, stuck, text, watch::HELD_BACK_FOR};
use crate::{
    api::client::Client,
    app::{
        AppError, ErrorKind, HaltKind, HaltView, Halted, HeldBackView, TaskRow, halted_supervisors,
    },
    clock,
    layout::Layout,
};

/// Time between two checks whether a supervisor is stopped by a signal or frozen, cannot be reached
/// or does not answer.
const LOOK_AT_SUPERVISORS: Duration = Duration::from_secs(1);
/// Time between two checks whether the output of a task cannot be written.
const LOOK_AT_OUTPUT: Duration = Duration::from_secs(1);
/// Time between two checks whether the plugin of a running task cannot be used. It is longer than
/// the time after which a supervisor that does not answer is reported.
const LOOK_AT_PLUGINS: Duration = Duration::from_secs(8);

/// Resolves once a supervisor is stopped by a signal or frozen. There is no point in waiting then:
/// the tasks of this supervisor do not end until it continues.
pub(super) async fn halt(layout: &Layout) -> Halted {
    loop {
        clock::sleep(LOOK_AT_SUPERVISORS).await;
        match halted_supervisors(layout) {
            Ok(halted) => {
                if let Some(one) = halted.first() {
                    return *one;
                }
            }
            Err(error) => tracing::debug!(%error, "the supervisors are looked at again"),
        }
    }
}

/// The error if tasks do not end because a supervisor does nothing. `then` says what the user has
/// to do, or what happens, once the supervisor continues.
pub(super) fn halted(one: Halted, then: &str) -> AppError {
    let (message, way_out) = match one {
        Halted::Suspended(pid) => (
            format!("the supervisor (pid {pid}) is stopped by a signal, so its tasks do not end"),
            format!("`kill -CONT {pid}` continues it"),
        ),
        Halted::Frozen(pid) => (
            format!(
                "the control group of the supervisor (pid {pid}) is frozen, so its tasks do not end"
            ),
            format!(
                "thaw the group (`systemctl thaw`, `docker unpause`); `kill -KILL {pid}` ends the \
                 supervisor and its tasks before that, unless it is in state `D`"
            ),
        ),
    };
    AppError::new(ErrorKind::Unavailable, message).hint(format!("{way_out}; then {then}"))
}

/// Resolves once the output of running tasks could not be written for some time. There is no point
/// in waiting then: these tasks do not end until their output is written.
pub(super) async fn hold_up(client: &Client) -> HeldBackView {
    let mut since = None;
    loop {
        clock::sleep(LOOK_AT_OUTPUT).await;
        // If the host does not answer, or all output can be written, the time is measured anew.
        let Some(held) = client.info().await.ok().and_then(|host| host.held_back) else {
            since = None;
            continue;
        };
        let since = *since.get_or_insert_with(clock::monotonic);
        if clock::monotonic() >= since + HELD_BACK_FOR {
            return held;
        }
    }
}

/// The error if tasks do not end because their output cannot be written.
pub(super) fn held_up(held: &HeldBackView, data_dir: &str) -> AppError {
    let way_out = text::let_it_be_written(data_dir);
    AppError::new(ErrorKind::Unavailable, text::held_back(held))
        .hint(format!("{way_out}; then the host ends as it was asked to"))
}

/// Resolves once a supervisor could not be reached, or did not answer, for some time, with what the
/// host says of it. The tasks of this supervisor do not end, because nobody can tell it to do so.
pub(super) async fn unreached(client: &Client) -> HaltView {
    let mut since = None;
    loop {
        clock::sleep(LOOK_AT_SUPERVISORS).await;
        let halted = client.info().await.map(|host| host.halted_supervisors);
        let mut halted = halted.unwrap_or_default().into_iter();
        let is_meant =
            |one: &HaltView| matches!(one.kind, HaltKind::Unreached | HaltKind::Unanswered);
        let Some(found) = halted.find(is_meant) else {
            since = None;
            continue;
        };
        let since = *since.get_or_insert_with(clock::monotonic);
        if clock::monotonic() >= since + HELD_BACK_FOR {
            return found;
        }
    }
}

/// Resolves once the plugin of a running task cannot be used at the moment, so that nobody settles
/// the end of the task, with a message that names both. The other looks notice earlier that a
/// supervisor does nothing.
pub(super) async fn without_plugin(session: &Session) -> String {
    let is_running = |row: &TaskRow| row.state == "running";
    loop {
        clock::sleep(LOOK_AT_PLUGINS).await;
        if stuck::lacks_plugin(session.client()).await
            && let Some(said) = stuck::halted_now(session, is_running).await
        {
            return said;
        }
    }
}

/// The error if tasks do not end because their plugin cannot be used.
pub(super) fn unsettled(said: String) -> AppError {
    AppError::new(ErrorKind::Unavailable, said).hint(
        "the host drains, and ends once its tasks have ended; `claudine down` ends it at once, and \
         the next host settles their ends; `claudine up` keeps it",
    )
}

/// The error if tasks do not end because their supervisor cannot be reached or does not answer.
pub(super) fn out_of_reach(one: &HaltView) -> AppError {
    let message = format!("tasks do not end: {}", one.message);
    // A process in a frozen control group of version 1, or that waits for a file system, ends only
    // once it goes on.
    let way_out = if one.kind == HaltKind::Unanswered {
        "thaw its control group, or let the file system answer; `kill -KILL` with the supervisor's \
         pid ends it and its tasks before that, unless it is in state `D`; then the host ends as \
         it was asked to"
    } else {
        "`kill` with the supervisor's pid ends it and its tasks, but not while its control group \
         is frozen (`systemctl thaw`, `docker unpause`) or it waits for a file system; then the \
         host ends as it was asked to"
    };
    AppError::new(ErrorKind::Unavailable, message).hint(way_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_supervisor_is_named_with_another_way_out_than_a_suspended_one() {
        let check = |one: Halted, why: &str, way_out: &str| {
            let error = halted(one, "ask again");
            assert!(error.message.contains("(pid 7)"), "{}", error.message);
            assert!(error.message.contains(why), "{}", error.message);
            let hint = error.hint.unwrap_or_default();
            assert!(hint.starts_with(way_out), "{hint}");
            assert!(hint.ends_with("; then ask again"), "{hint}");
        };
        check(Halted::Suspended(7), "by a signal", "`kill -CONT 7`");
        check(Halted::Frozen(7), "is frozen", "thaw the group");
    }

    #[test]
    fn a_supervisor_that_does_not_answer_is_named_with_another_way_out_than_one_out_of_reach() {
        let hint = |kind: HaltKind| {
            let error = out_of_reach(&HaltView {
                kind,
                pid: Some(7),
                message: "the supervisor in /s/1 (pid 7) is silent".to_owned(),
            });
            assert!(error.message.contains("(pid 7)"), "{}", error.message);
            error.hint.unwrap_or_default()
        };
        let unanswered = hint(HaltKind::Unanswered);
        assert!(unanswered.contains("thaw"), "{unanswered}");
        let unreached = hint(HaltKind::Unreached);
        assert!(
            unreached.starts_with("`kill` with the supervisor's pid"),
            "{unreached}"
        );
        assert!(unreached.contains("thaw"), "{unreached}");
    }
}
