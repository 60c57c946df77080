//! Resolves a granted name to a file: the host looks on the task's `PATH`, but ignores files that
//! the task may have written itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::port::Failure;
use crate::fsx::real;

/// The `PATH` for a task whose environment has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The file of this name. Skips entries that are relative or lead into the workspace, where the
/// task may have written files itself. Reads the disk.
pub(crate) fn find(name: &str, path: Option<&str>, workspace: &str) -> Result<PathBuf, Failure> {
    let path = path.unwrap_or(DEFAULT_PATH);
    let workspace = real(Path::new(workspace));
    // If the workspace is the root directory, no file is ignored: every file is below the root
    // directory, so none would be left.
    let is_own = |file: &Path| workspace.parent().is_some() && real(file).starts_with(&workspace);
    let mut is_passed_over = false;
    for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
        let file = folder.join(name);
        if !is_program(&file) {
            continue;
        }
        if !is_own(&file) {
            return Ok(file);
        }
        is_passed_over = true;
    }
    let message = if is_passed_over {
        format!(
            "`{name}` is found only in the task's workspace, where the task may have put it; \
             a grant of its whole path allows it"
        )
    } else {
        format!("command not found: `{name}` (PATH is {path})")
    };
    Err(Failure::new("spawn", message))
}

/// Whether a directory is the workspace or below it, after following links. Reads the disk.
pub(crate) fn is_within(directory: &str, workspace: &str) -> bool {
    let directory = fs::canonicalize(directory);
    directory.is_ok_and(|directory| directory.starts_with(real(Path::new(workspace))))
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_name_is_never_resolved_to_a_file_in_the_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        program(&root.join("work/bin/tool"));
        program(&root.join("work/only/other"));
        program(&root.join("system/tool"));
        fs::write(root.join("system/text"), "").unwrap();
        fs::create_dir_all(root.join("links")).unwrap();
        std::os::unix::fs::symlink(root.join("work/bin/tool"), root.join("links/tool")).unwrap();
        let workspace = root.join("work").display().to_string();
        let folders = ["work/bin", "work/only", "links", "system"];
        let folders: Vec<_> = folders.iter().map(|name| root.join(name)).collect();
        let path =
            std::env::join_paths(folders.iter().map(PathBuf::as_path).chain([Path::new(".")]));
        let path = path.unwrap().into_string().unwrap();
        let found = |name: &str| find(name, Some(&path), &workspace);
        assert_eq!(found("tool").unwrap(), root.join("system/tool"));
        for name in ["other", "text", "nothing"] {
            let failure = found(name).unwrap_err();
            assert_eq!(failure.code, "spawn", "{name}");
            assert!(failure.message.contains(name), "{failure:?}");
        }
        assert!(find("sh", None, &workspace).is_ok());
    }

    #[test]
    fn directories_inside_and_outside_the_workspace_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("work/sub")).unwrap();
        fs::create_dir_all(root.join("work2")).unwrap();
        std::os::unix::fs::symlink(root.join("work2"), root.join("work/out")).unwrap();
        let workspace = root.join("work").display().to_string();
        let within = |path: &str| is_within(&root.join(path).display().to_string(), &workspace);
        assert!(within("work") && within("work/sub") && within("work/sub/.."));
        for path in ["work2", "work/..", "work/out", "work/gone", "."] {
            assert!(!within(path), "{path}");
        }
    }
}
