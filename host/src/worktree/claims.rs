//! The owners of branches, from the records of worktrees. Deleted branches that their tasks will
//! create again are included.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
};

use claudine_domain::id::TaskId;

use crate::{git::BranchRef, lock::lock};

#[derive(Default)]
pub(super) struct Claims(Mutex<BTreeMap<TaskId, (PathBuf, BranchRef)>>);

impl Claims {
    pub(super) fn note(&self, task: TaskId, repository: &Path, branch: &BranchRef) {
        lock(&self.0).insert(task, (repository.to_owned(), branch.clone()));
    }

    pub(super) fn forget(&self, task: TaskId) {
        lock(&self.0).remove(&task);
    }

    pub(super) fn is_of_another(
        &self,
        task: TaskId,
        repository: &Path,
        branch: &BranchRef,
    ) -> bool {
        let claims = lock(&self.0);
        let mut others = claims.iter().filter(|(of, _)| **of != task);
        others.any(|(_, (of, claimed))| of == repository && claimed == branch)
    }
}
