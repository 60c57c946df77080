//! Notices that a connected supervisor does not answer.
//!
//! A supervisor answers each start at once, and confirms each stop, but it has one thread. So it
//! answers nothing while this thread is suspended, or in a frozen control group, or waits for a
//! file system, for example for that of a child's directory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::clock;

/// How long a supervisor may send nothing after a command that it answers or confirms at once.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The record of the commands to be answered at once, and of the messages of one supervisor.
pub(super) struct Answers {
    limit: Duration,
    /// The time of the last message or, if a command was sent after it, of the first such command.
    since: Duration,
    /// Whether a command was sent after the last message.
    is_asked: bool,
    /// A timer that ends when the supervisor may be late.
    alarm: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    is_late: bool,
}

impl Answers {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: Duration::ZERO,
            is_asked: false,
            alarm: None,
            is_late: false,
        }
    }

    /// Whether an answer is late.
    pub(super) fn are_late(&self) -> bool {
        self.is_late
    }

    /// Records that a command is sent that the supervisor answers or confirms at once.
    pub(super) fn asked(&mut self) {
        if !self.is_asked {
            (self.is_asked, self.since) = (true, clock::monotonic());
        }
        if !self.is_late && self.alarm.is_none() {
            self.set_alarm(self.limit);
        }
    }

    /// Records a message.
    pub(super) fn heard(&mut self) {
        (self.is_asked, self.since) = (false, clock::monotonic());
        if std::mem::take(&mut self.is_late) {
            // The supervisor may fall silent again before it has answered all commands.
            self.set_alarm(self.limit);
        }
    }

    /// Ready once an answer is late. `is_awaited` returns whether an answer or a confirmation is
    /// missing.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        is_awaited: impl Fn() -> bool,
    ) -> Poll<()> {
        while let Some(alarm) = &mut self.alarm {
            ready!(alarm.as_mut().poll(context));
            self.alarm = None;
            if !is_awaited() {
                break;
            }
            let left = (self.since + self.limit).saturating_sub(clock::monotonic());
            if left.is_zero() {
                self.is_late = true;
                return Poll::Ready(());
            }
            self.set_alarm(left);
        }
        Poll::Pending
    }

    fn set_alarm(&mut self, after: Duration) {
        self.alarm = Some(Box::pin(clock::sleep(after)));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_late_only_while_it_is_awaited() {
        let mut answers = Answers::new(Duration::from_millis(1));
        answers.asked();
        poll_fn(|context| answers.poll(context, || true)).await;
        assert!(answers.are_late());
        answers.heard();
        assert!(!answers.are_late());
        let never = poll_fn(|context| answers.poll(context, || false));
        let late = clock::within(Duration::from_millis(20), never).await;
        assert!(late.is_none() && answers.alarm.is_none());
        // After the next start, an answer may be late again.
        answers.asked();
        poll_fn(|context| answers.poll(context, || true)).await;
        assert!(answers.are_late());
    }
}
