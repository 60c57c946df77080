//! Checks whether the file system of a directory answers, before a process is started in the
//! directory. A supervisor has one thread, which would wait in a directory that does not answer.
//! The host itself looks at such a directory only on a thread that may block.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use tokio::sync::watch;

use crate::{aside, clock, lock::lock};

/// How long a file system may take to answer.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Time after an answer before a directory is checked again.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Limit of the directories that have not answered yet, because each of them holds a thread. While
/// there are that many, no other directory is checked.
const LOOKS: usize = 64;

static LOOKED_AT: Looks = Looks(Mutex::new(BTreeMap::new()));

/// The time at which a directory has answered; `None` before that.
type Answer = Option<Duration>;

/// The directories that are being checked, or that have answered within [`FRESH_FOR`].
#[derive(Default)]
struct Looks(Mutex<BTreeMap<PathBuf, watch::Receiver<Answer>>>);

/// Waits until the file system of a directory has answered. Returns an error only if there is no
/// answer: if the answer is an error, for example because the directory is missing, the start of
/// the process reports it.
pub(super) async fn answers(dir: &Path) -> Result<(), String> {
    let look = |dir: &Path| drop(fs::metadata(dir));
    LOOKED_AT.answers(dir, ANSWERS_WITHIN, look).await
}

/// Calls `look` with a directory, and returns its answer. Returns an error if the file system does
/// not answer within the limit.
pub(super) async fn look_at<T: Send + 'static>(
    dir: &Path,
    limit: Duration,
    look: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, String> {
    let check = |dir: &Path| drop(fs::metadata(dir));
    LOOKED_AT.answers(dir, limit, check).await?;
    // The file system may stop answering after the check.
    let looked_at = dir.to_owned();
    let looking = aside::run(move || look(&looked_at));
    match clock::within(limit, looking).await {
        Some(answer) => answer.map_err(|panic| panic.to_string()),
        None => Err(no_answer(dir, limit)),
    }
}

fn no_answer(dir: &Path, limit: Duration) -> String {
    let (dir, limit) = (dir.display(), limit.as_secs());
    format!("the file system of the directory {dir} does not answer within {limit} s")
}

impl Looks {
    async fn answers(
        &self,
        dir: &Path,
        limit: Duration,
        look: impl FnOnce(&Path) + Send + 'static,
    ) -> Result<(), String> {
        let Some(mut answer) = self.answer_of(dir, look) else {
            return Ok(());
        };
        let answered = clock::within(limit, answer.wait_for(Option::is_some)).await;
        answered.map(drop).ok_or_else(|| no_answer(dir, limit))
    }

    /// The answer of a directory, or the one that is to come if the directory is being checked
    /// already. `None` if too many other directories are being checked, or if no thread can be
    /// started.
    fn answer_of(
        &self,
        dir: &Path,
        look: impl FnOnce(&Path) + Send + 'static,
    ) -> Option<watch::Receiver<Answer>> {
        let mut looks = lock(&self.0);
        let now = clock::monotonic();
        looks.retain(|_, answer| answer.borrow().is_none_or(|at| now < at + FRESH_FOR));
        if let Some(answer) = looks.get(dir) {
            return Some(answer.clone());
        }
        let open = looks.values().filter(|answer| answer.borrow().is_none());
        if open.count() >= LOOKS {
            return None;
        }
        let (tell, answer) = watch::channel(None);
        looks.insert(dir.to_owned(), answer.clone());
        let looking = aside::run({
            let dir = dir.to_owned();
            move || {
                look(&dir);
                tell.send_replace(Some(clock::monotonic()));
            }
        });
        if looking.is_refused() {
            looks.remove(dir);
            return None;
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::{Arc, Barrier, mpsc};

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn no_look(dir: &Path) {
        unreachable!("{} is checked", dir.display());
    }

    #[tokio::test]
    async fn a_directory_that_does_not_answer_holds_one_thread_and_delays_no_other() {
        let looks = Looks::default();
        let (dir, other) = (Path::new("/silent"), Path::new("/other"));
        let (release, held) = mpsc::channel::<()>();
        let look = move |_: &Path| assert!(held.recv().is_err());
        let refused = looks.answers(dir, SHORT, look).await.unwrap_err();
        assert!(
            refused.contains("/silent does not answer within"),
            "{refused}"
        );
        assert!(looks.answers(dir, SHORT, no_look).await.is_err());
        assert_eq!(looks.answers(other, ANSWERS_WITHIN, |_| {}).await, Ok(()));
        drop(release);
        assert_eq!(looks.answers(dir, ANSWERS_WITHIN, no_look).await, Ok(()));
    }

    #[tokio::test]
    async fn no_further_directory_is_checked_while_too_many_do_not_answer() {
        let looks = Looks::default();
        let release = Arc::new(Barrier::new(LOOKS + 1));
        for number in 0..LOOKS {
            let dir = PathBuf::from(format!("/silent/{number}"));
            let held = release.clone();
            let look = move |_: &Path| {
                held.wait();
            };
            assert!(looks.answers(&dir, SHORT, look).await.is_err());
        }
        let other = Path::new("/other");
        assert_eq!(looks.answers(other, SHORT, no_look).await, Ok(()));
        release.wait();
    }
}
