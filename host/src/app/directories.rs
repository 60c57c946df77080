//! Checks whether tasks can work in the directories for which they are submitted.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use claudine_domain::principal::Principal;

use super::{
    check::{PATH_SHOWN_CHARS, invalid},
    error::{AppError, ErrorKind},
    prepare::Checked,
};
use crate::{ceiling::places::Places, clock, lock::lock, text::shortened};

/// Time for which a directory counts as usable. It is checked again when a task starts in it.
const USABLE_FOR: Duration = Duration::from_secs(1);

/// Number of directories that are remembered.
const REMEMBERED: usize = 8;

/// The directories that were found usable last, the newest at the end. Many tasks are submitted for
/// the same directory, and a check costs more than storing the task, because a thread that may
/// block has to be woken.
#[derive(Default)]
pub(super) struct Directories(Mutex<VecDeque<(Duration, PathBuf)>>);

impl Directories {
    /// Checks the working directories of all tasks; an error includes the index of its task. The
    /// directories may be on a disk that does not answer, so the checks run on a thread that may
    /// block. Those of a restrained principal are always looked at, because a link may have
    /// changed.
    pub(super) async fn check(
        &self,
        by: &Arc<Principal>,
        places: &Arc<Places>,
        tasks: &[Checked],
    ) -> Result<(), (usize, AppError)> {
        let mut unknown: Vec<(usize, PathBuf)> = Vec::new();
        for (index, Checked { task, .. }) in tasks.iter().enumerate() {
            let path = &task.working_directory;
            // A directory that several tasks in succession share is checked once.
            let is_repeated = unknown.last().is_some_and(|(_, last)| last == path);
            if !is_repeated && (by.restrained || !self.is_usable(path)) {
                unknown.push((index, path.clone()));
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let (by, places) = (by.clone(), places.clone());
        let look = move || {
            for (index, path) in &unknown {
                working_directory(path).map_err(|error| (*index, error))?;
                let allowed = places.may_work_in(&by, path);
                allowed.map_err(|refusal| (*index, AppError::from(refusal)))?;
            }
            Ok(unknown)
        };
        let found = crate::aside::run(look);
        let found = found.await.unwrap_or_else(|panic| {
            let message = format!("the working directory cannot be checked: {panic}");
            Err((0, AppError::new(ErrorKind::Internal, message)))
        });
        for (_, path) in found?.into_iter().take(REMEMBERED) {
            self.remember(path);
        }
        Ok(())
    }

    fn is_usable(&self, path: &Path) -> bool {
        let now = clock::monotonic();
        let known = lock(&self.0);
        let mut since = known.iter().filter(|(_, known)| known == path);
        since.any(|(since, _)| now < *since + USABLE_FOR)
    }

    fn remember(&self, path: PathBuf) {
        let mut known = lock(&self.0);
        known.retain(|(_, known)| *known != path);
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((clock::monotonic(), path));
    }
}

fn working_directory(path: &Path) -> Result<(), AppError> {
    let shown = shortened(&path.to_string_lossy(), PATH_SHOWN_CHARS);
    if !path.is_absolute() {
        return Err(invalid(format!(
            "the working directory {shown} is not absolute"
        )));
    }
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(invalid(format!(
                "the working directory {shown} is not a directory"
            )));
        }
        Err(error) => {
            return Err(invalid(format!(
                "the working directory {shown} cannot be used: {}",
                plain(&error)
            )));
        }
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|error| {
        invalid(format!(
            "the working directory {shown} cannot be entered: {}",
            plain(&error.into())
        ))
    })
}

/// The text of the error, without the number that the system gives it.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_directory_counts_as_usable_for_a_second_and_few_are_remembered() {
        let known = Directories::default();
        let path = |number: usize| PathBuf::from(format!("/{number}"));
        (0..=REMEMBERED).for_each(|number| known.remember(path(number)));
        assert!(!known.is_usable(&path(0)));
        assert!((1..=REMEMBERED).all(|number| known.is_usable(&path(number))));
        known.remember(path(1));
        known.remember(path(0));
        assert!(known.is_usable(&path(1)) && !known.is_usable(&path(2)));
        for (since, _) in lock(&known.0).iter_mut() {
            *since = since.saturating_sub(USABLE_FOR);
        }
        assert!(!known.is_usable(&path(1)));
    }

    #[test]
    fn each_fault_of_a_working_directory_has_its_own_message() {
        let check = |path: &str, expected: Option<&str>| {
            let found = working_directory(Path::new(path)).err();
            let found = found.map(|error| error.message);
            assert_eq!(found.as_deref(), expected);
        };
        check("/", None);
        check("x", Some("the working directory x is not absolute"));
        check(
            "/no/such",
            Some("the working directory /no/such cannot be used: it does not exist"),
        );
        check(
            "/etc/passwd",
            Some("the working directory /etc/passwd is not a directory"),
        );
    }
}
