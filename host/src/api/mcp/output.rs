//! Writes answers, and gives up a client that reads none of them once its input has ended.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::stdio::Output;
use crate::{
    app::{AppError, ErrorKind},
    clock,
    lock::lock,
};

/// Time between two checks whether the client has ended, while something else is waited for.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Number of these times for which a session goes on without progress once its input has ended:
/// five seconds.
const LOOKS: u32 = 10;

/// The end of a session's input.
#[derive(Clone)]
pub(super) struct End {
    /// Cancelled at the end of the input, and if an answer cannot be written.
    pub(super) token: CancellationToken,
    /// Whether the input has no writer any more, although some of it may not be read yet.
    pub(super) has_hung_up: fn() -> bool,
    pub(super) look_after: Duration,
}

impl End {
    pub(super) fn new() -> Self {
        Self {
            token: CancellationToken::new(),
            has_hung_up: || false,
            look_after: LOOK_AFTER,
        }
    }

    /// Time that is left for anything that waits for the client once the input has ended.
    pub(super) fn time_left(&self) -> Duration {
        self.look_after * LOOKS
    }

    /// Whether the input has ended. If so, the waits end too.
    pub(super) fn is_here(&self) -> bool {
        let is_here = self.token.is_cancelled() || (self.has_hung_up)();
        if is_here {
            self.token.cancel();
        }
        is_here
    }

    /// Waits for a step of writing for as long as the client may still read.
    async fn limit<T>(&self, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut step = std::pin::pin!(step);
        let mut looks = 0;
        loop {
            if let Some(done) = clock::within(self.look_after, step.as_mut()).await {
                return done;
            }
            if self.is_here() {
                looks += 1;
            }
            if looks > LOOKS {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Counts the requests that have no answer yet.
#[derive(Default)]
pub(super) struct Owed {
    count: AtomicUsize,
    /// Reason why no answer can be written any more.
    failed: Mutex<Option<io::ErrorKind>>,
}

impl Owed {
    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts requests that are answered or cancelled.
    pub(super) fn settle(&self, requests: usize) {
        self.count.fetch_sub(requests, Ordering::Relaxed);
    }

    /// An error if requests have no answer at the end of the session.
    pub(super) fn check(&self, end: &End) -> Result<(), AppError> {
        let count = self.count.load(Ordering::Relaxed);
        if count == 0 {
            return Ok(());
        }
        let requests = if count == 1 { "request" } else { "requests" };
        let seconds = end.time_left().as_secs();
        let why = match *lock(&self.failed) {
            // The client has closed its end, so it wants no more answers.
            Some(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => return Ok(()),
            Some(io::ErrorKind::TimedOut) => {
                format!("because the client read none for {seconds} s after the end of its input")
            }
            Some(kind) => format!("because none can be written: {kind}"),
            None => format!("because the input ended more than {seconds} s before"),
        };
        let message = format!("at least {count} {requests} got no answer, {why}");
        Err(AppError::new(ErrorKind::Unavailable, message).hint(
            "the calls may have been carried out: `claudine list` shows the tasks. A client has \
             to read its answers, and to keep the input open until it has them",
        ))
    }

    /// Whether the client has been given up because it read nothing.
    pub(super) fn is_unread(&self) -> bool {
        *lock(&self.failed) == Some(io::ErrorKind::TimedOut)
    }
}

/// Output that is not written yet. If a write is cancelled midway, the next write continues at that
/// point, so that messages are never mixed.
pub(super) struct Lasting {
    /// `None` once the session is over.
    output: Option<Output>,
    waiting: Vec<u8>,
    written: usize,
    /// Number of answers in `waiting`.
    answers: usize,
    owed: Arc<Owed>,
}

impl Lasting {
    pub(super) fn new(output: Output, owed: Arc<Owed>) -> Self {
        Self {
            output: Some(output),
            waiting: Vec::new(),
            written: 0,
            answers: 0,
            owed,
        }
    }

    pub(super) fn add(&mut self, message: &[u8], is_answer: bool) {
        self.waiting.extend_from_slice(message);
        self.waiting.push(b'\n');
        self.answers += usize::from(is_answer);
    }

    pub(super) async fn flush(&mut self, end: &End) -> io::Result<()> {
        let flushed = self.write(end).await;
        if let Err(error) = &flushed {
            // Otherwise each further answer would wait for the client again.
            self.output = None;
            let mut failed = lock(&self.owed.failed);
            *failed = failed.or(Some(error.kind()));
        }
        flushed
    }

    async fn write(&mut self, end: &End) -> io::Result<()> {
        let Some(output) = &mut self.output else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        while self.written < self.waiting.len() {
            let step = output.write(&self.waiting[self.written..]);
            match end.limit(step).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.written += written,
            }
        }
        end.limit(output.flush()).await?;
        self.waiting.clear();
        self.written = 0;
        self.owed.settle(std::mem::take(&mut self.answers));
        Ok(())
    }

    /// Writes the rest and ends the output.
    pub(super) async fn close(&mut self, end: &End) -> io::Result<()> {
        let flushed = self.flush(end).await;
        self.output = None;
        flushed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tokio::{io::AsyncReadExt, task::yield_now};

    use super::*;

    const ANSWER: &[u8] = b"an answer that is longer than the buffer";

    fn end(has_hung_up: fn() -> bool) -> End {
        End {
            token: CancellationToken::new(),
            has_hung_up,
            look_after: Duration::from_millis(1),
        }
    }

    /// Output with one answer, and the number of answers that are owed: that one and another.
    fn two_owed(output: tokio::io::DuplexStream) -> (Lasting, Arc<Owed>) {
        let owed = Arc::new(Owed::default());
        owed.add();
        owed.add();
        let mut lasting = Lasting::new(Box::pin(output), owed.clone());
        lasting.add(ANSWER, true);
        (lasting, owed)
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up_once_its_input_has_ended() {
        let (output, _reader) = tokio::io::duplex(16);
        let (mut lasting, owed) = two_owed(output);
        let end = end(|| true);
        let error = lasting.flush(&end).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(end.token.is_cancelled(), "the waits go on");
        // The next answers do not wait for the client again.
        let error = lasting.flush(&end).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert!(owed.is_unread());
        let error = owed.check(&End::new()).unwrap_err();
        assert_eq!(
            error.message,
            "at least 2 requests got no answer, because the client read none for 5 s after the end \
             of its input"
        );
    }

    #[tokio::test]
    async fn a_client_may_read_its_answers_as_late_as_it_likes_while_its_input_is_open() {
        static LOOKED: AtomicUsize = AtomicUsize::new(0);
        let (output, mut reader) = tokio::io::duplex(16);
        let (mut lasting, owed) = two_owed(output);
        let end = end(|| {
            LOOKED.fetch_add(1, Ordering::Relaxed);
            false
        });
        let read = async {
            while LOOKED.load(Ordering::Relaxed) < 3 * LOOKS as usize {
                yield_now().await;
            }
            let mut read = vec![0; ANSWER.len() + 1];
            reader.read_exact(&mut read).await.unwrap();
            read
        };
        let (flushed, read) = tokio::join!(lasting.flush(&end), read);
        flushed.unwrap();
        assert_eq!(read, [ANSWER, b"\n"].concat());
        // The other request got no answer before the end.
        let error = owed.check(&End::new()).unwrap_err();
        assert_eq!(
            error.message,
            "at least 1 request got no answer, because the input ended more than 5 s before"
        );
        owed.settle(1);
        assert_eq!(owed.check(&End::new()), Ok(()));
    }

    #[tokio::test]
    async fn a_client_that_has_closed_its_end_misses_no_answer() {
        let (output, reader) = tokio::io::duplex(16);
        let (mut lasting, owed) = two_owed(output);
        drop(reader);
        assert!(lasting.flush(&end(|| false)).await.is_err());
        assert_eq!(owed.check(&End::new()), Ok(()));
    }
}
