//! Paths in the data directory. Directories have mode 0700 and files 0600, because they contain
//! prompts, output and environments.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::id::{AttemptId, TaskId};

use crate::fsx;

/// Length limit of a path in a socket address on Linux, without the NUL at its end.
const SOCKET_PATH_MAX: usize = 107;

const ENVIRONMENTS: &str = "env";
const LOGS: &str = "logs";

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: Arc<Path>,
}

impl Layout {
    /// Patterns of the names in the data directory that only the host and its user may use. Of the
    /// worktrees, only the records and the patches beside them are among these.
    pub(crate) const PRIVATE: [&str; 15] = [
        "*.*",
        "ballast",
        "cache",
        "commands",
        "env",
        "forgetting",
        "grants",
        "lock",
        "logs",
        "plugins",
        "restored",
        "restoring",
        "stdin",
        "supervisors",
        "worktrees/*.*",
    ];

    /// Names of what the host passes to tasks, which only read it.
    pub(crate) const PASSED: [&str; 1] = ["inputs"];

    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        let root: PathBuf = root.into();
        Self { root: root.into() }
    }

    /// Creates the directories that must exist.
    pub(crate) fn create(&self) -> io::Result<()> {
        for dir in [
            &self.root.to_path_buf(),
            &self.logs(),
            &self.environments(),
            &self.stdin(),
            &self.all_inputs(),
            &self.supervisors(),
            &self.cache(),
        ] {
            fsx::make_private_dir(dir)?;
        }
        // The user may have created the root with another mode.
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directories in which the host replaces files.
    pub(crate) fn dirs_with_replaced_files(&self) -> [PathBuf; 5] {
        [
            self.root.to_path_buf(),
            self.environments(),
            self.supervisors(),
            self.cache(),
            self.worktrees(),
        ]
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("claudine.db")
    }

    /// Directory of a restore in progress. If the restore dies, the next restore removes the
    /// directory, and no host starts before that.
    pub(crate) fn restoring(&self) -> PathBuf {
        self.root.join("restoring")
    }

    /// Directory with a complete restore. The restore moves the contents of this directory into
    /// place. If the restore dies before that, the next host or restore moves them.
    pub(crate) fn to_be_placed(&self) -> PathBuf {
        self.root.join("restored")
    }

    /// The record of the restore from which the queue was made.
    pub(crate) fn restored_file(&self) -> PathBuf {
        self.root.join("restored.json")
    }

    /// The record of how long finished tasks are kept.
    pub(crate) fn kept_file(&self) -> PathBuf {
        self.root.join("kept.json")
    }

    /// The record of what the last host allowed MCP clients.
    pub(crate) fn ceiling_file(&self) -> PathBuf {
        self.root.join("ceiling.json")
    }

    /// File that a host or a restore locks as long as it uses this directory.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// File with properties of the host: pid, version, socket.
    pub(crate) fn host_file(&self) -> PathBuf {
        self.root.join("host.json")
    }

    pub(crate) fn host_log(&self) -> PathBuf {
        self.root.join("host.log")
    }

    /// File with the attempts whose logs are to be removed with their tasks.
    pub(crate) fn forgetting(&self) -> PathBuf {
        self.root.join("forgetting")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    pub(crate) fn supervisors(&self) -> PathBuf {
        self.root.join("supervisors")
    }

    /// File with the number of the last batch. It is beside the epoch of the leading host, because
    /// both show whether the database is an earlier copy.
    pub(crate) fn last_batch(&self) -> PathBuf {
        self.supervisors().join("batch")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Extension of a component's file in the cache while the host with this pid compiles it.
    pub(crate) fn compiled_by(pid: u32) -> String {
        format!("{pid}.wasm")
    }

    /// Whether the host with this pid compiles a plugin. False if the cache cannot be read.
    pub(crate) fn is_compiling(&self, pid: u32) -> bool {
        let end = format!(".{}", Self::compiled_by(pid));
        let mut files = fs::read_dir(self.cache()).into_iter().flatten().flatten();
        files.any(|file| file.file_name().to_string_lossy().ends_with(&end))
    }

    pub(crate) fn environments(&self) -> PathBuf {
        self.root.join(ENVIRONMENTS)
    }

    pub(crate) fn environment(&self, digest: &str) -> PathBuf {
        self.below(&[ENVIRONMENTS, digest])
    }

    /// A path below the root, for paths that every task has. Each join would allocate twice.
    fn below(&self, names: &[&str]) -> PathBuf {
        let bytes: usize = names.iter().map(|name| "/".len() + name.len()).sum();
        let mut path = PathBuf::with_capacity(self.root.as_os_str().len() + bytes);
        path.push(&self.root);
        path.extend(names);
        path
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join(LOGS)
    }

    /// Whether there is the log of any attempt. An error if a directory cannot be looked at: there
    /// may be logs in it.
    pub(crate) fn has_logs(&self) -> io::Result<bool> {
        for shard in fsx::entries(&self.logs())? {
            match fs::metadata(&shard) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let text = format!("{}: {error}", shard.display());
                    return Err(io::Error::new(error.kind(), text));
                }
            }
            let names = fsx::entries(&shard)?;
            let mut names = names.iter().filter_map(|path| path.file_name()?.to_str());
            if names.any(|name| Self::attempt_of_log(name).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// File with the output of an attempt. The files are distributed over directories by the last
    /// two characters of the task's id.
    pub(crate) fn log(&self, attempt: AttemptId) -> PathBuf {
        let task = attempt.task.to_string();
        let shard = task.get(task.len() - 2..).unwrap_or("00");
        self.below(&[LOGS, shard, &format!("{attempt}.log")])
    }

    /// Attempt and segment of the log with this file name. Segments are counted from 0.
    pub(crate) fn attempt_of_log(name: &str) -> Option<(AttemptId, u32)> {
        let (attempt, segment) = name.split_once(".log")?;
        let number = match segment {
            "" => 0,
            segment => segment.strip_prefix('.')?.parse().ok().filter(|n| *n > 0)?,
        };
        // Other spellings of the number, such as `.01`, are refused.
        let same = segment.is_empty() || segment == format!(".{number}");
        let attempt = attempt.parse().ok()?;
        same.then_some((attempt, number))
    }

    /// File with the output of a command that the host runs for an attempt. The file is next to the
    /// attempt's log, and is removed with the log.
    pub(crate) fn command_log(&self, attempt: AttemptId, command: &str) -> PathBuf {
        let log = self.log(attempt);
        log.with_extension(format!("log-{command}"))
    }

    /// Directory with the output of commands that the host runs for no attempt. Each file exists
    /// while its command runs.
    pub(crate) fn commands(&self) -> PathBuf {
        self.root.join("commands")
    }

    pub(crate) fn host_command_log(&self, command: &str) -> PathBuf {
        self.commands().join(format!("{command}.log"))
    }

    pub(crate) fn stdin(&self) -> PathBuf {
        self.root.join("stdin")
    }

    /// File with the input of a child process of an attempt.
    pub(crate) fn stdin_file(&self, attempt: AttemptId, child: u16) -> PathBuf {
        self.stdin().join(format!("{attempt}.{child}"))
    }

    /// Directory with results of other tasks that are passed to an attempt.
    pub(crate) fn inputs(&self, attempt: AttemptId) -> PathBuf {
        self.all_inputs().join(attempt.to_string())
    }

    pub(crate) fn all_inputs(&self) -> PathBuf {
        self.root.join("inputs")
    }

    /// File with the id of the boot in which the inputs of attempts were written.
    pub(crate) fn inputs_boot(&self) -> PathBuf {
        self.root.join("inputs.boot")
    }

    /// Directory with the worktrees of tasks and their records. Created with the first worktree.
    pub(crate) fn worktrees(&self) -> PathBuf {
        self.root.join("worktrees")
    }

    pub(crate) fn worktree(&self, task: TaskId) -> PathBuf {
        self.worktrees().join(task.to_string())
    }

    pub(crate) fn worktree_record(&self, task: TaskId) -> PathBuf {
        self.worktrees().join(format!("{task}.json"))
    }

    /// Patch file with the changes of a task.
    pub(crate) fn patch(&self, task: TaskId) -> PathBuf {
        self.worktrees().join(format!("{task}.patch"))
    }

    /// The host's socket. It is in the data directory. If its path there would be too long for a
    /// socket address, it is in a private directory in `/tmp`, whose name is derived from the path
    /// of the data directory.
    pub(crate) fn socket(&self) -> PathBuf {
        let near = self.root.join("host.sock");
        if near.as_os_str().len() <= SOCKET_PATH_MAX {
            return near;
        }
        self.short_dir().join("host.sock")
    }

    /// Creates the directory of the socket if the socket is not in the data directory. Refuses a
    /// directory that others can use.
    pub(crate) fn create_socket_dir(&self) -> io::Result<()> {
        let socket = self.socket();
        if let Some(dir) = socket.parent().filter(|dir| *dir != &*self.root) {
            fsx::make_private_dir(dir)?;
        }
        self.check_socket_dir()
    }

    /// Refuses the directory of the socket if another user could have put a socket there. In `/tmp`
    /// anyone can guess the name of the directory, so a link is not followed. If the data directory
    /// is a link, it is followed, because the user may have made it.
    pub(crate) fn check_socket_dir(&self) -> io::Result<()> {
        let socket = self.socket();
        let Some(dir) = socket.parent() else {
            return Ok(());
        };
        let (meta, forbidden) = if dir == &*self.root {
            // Before the first host runs in the directory, it has the mode that the user chose, so
            // the mode is not checked.
            let is_used = fs::symlink_metadata(&socket).is_ok();
            (fs::metadata(dir)?, if is_used { 0o022 } else { 0 })
        } else {
            (fs::symlink_metadata(dir)?, 0o077)
        };
        let (owner, mode) = (meta.uid(), meta.permissions().mode() & 0o7777);
        let refused = if owner != rustix::process::geteuid().as_raw() {
            format!("belongs to another user (uid {owner})")
        } else if !meta.is_dir() {
            "is not a directory".to_owned()
        } else if mode & forbidden != 0 {
            format!("is open to others (mode {mode:o})")
        } else {
            return Ok(());
        };
        let message = format!("{} {refused}", dir.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }

    fn short_dir(&self) -> PathBuf {
        let uid = rustix::process::geteuid().as_raw();
        let digest = crate::digest::hex(self.root.as_os_str().as_encoded_bytes());
        PathBuf::from(format!(
            "/tmp/claudine-{uid}-{}",
            digest.get(..16).unwrap_or(&digest)
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_attempt_of_a_log_is_parsed_from_its_name() {
        let attempt = "task_01kb2m8r4zq8w3v5x7y9abcdef.2";
        let check = |rest: &str, expected: Option<u32>| {
            let name = format!("{attempt}{rest}");
            let found = Layout::attempt_of_log(&name);
            let expected = expected.map(|number| (attempt.to_owned(), number));
            let found = found.map(|(attempt, number)| (attempt.to_string(), number));
            assert_eq!(found, expected, "{name}");
        };
        check(".log", Some(0));
        check(".log.1", Some(1));
        check(".log.17", Some(17));
        for other in [
            "", ".log.", ".log.0", ".log.01", ".log.+1", ".log.x", ".log2", ".txt",
        ] {
            check(other, None);
        }
        assert_eq!(Layout::attempt_of_log("../x.log"), None);
    }

    #[test]
    fn everything_in_a_data_directory_but_worktrees_and_inputs_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let made = fsx::entries(layout.root()).unwrap();
        let task: TaskId = "task_01kb2m8r4zq8w3v5x7y9abcdef".parse().unwrap();
        let paths = [
            layout.database(),
            layout.restoring(),
            layout.to_be_placed(),
            layout.restored_file(),
            layout.kept_file(),
            layout.ceiling_file(),
            layout.lock(),
            layout.host_file(),
            layout.host_log(),
            layout.forgetting(),
            layout.ballast(),
            layout.commands(),
            layout.inputs_boot(),
            layout.root().join("host.sock"),
            layout.worktree_record(task),
            layout.patch(task),
        ];
        let kept = |path: &Path| {
            let name = path.strip_prefix(layout.root()).unwrap().to_str().unwrap();
            let is_meant = |pattern: &&str| match pattern.strip_suffix("*.*") {
                None => name == *pattern,
                Some(begin) => name
                    .strip_prefix(begin)
                    .is_some_and(|rest| rest.contains('.') && !rest.contains('/')),
            };
            let all = Layout::PRIVATE.iter().chain(&Layout::PASSED);
            all.filter(|pattern| is_meant(pattern)).count()
        };
        for path in made.iter().chain(&paths) {
            assert_eq!(kept(path), 1, "{}", path.display());
        }
        assert_eq!(kept(&layout.worktrees()), 0);
        assert_eq!(kept(&layout.worktree(task)), 0);
    }

    #[test]
    fn only_the_log_of_an_attempt_counts_as_a_log_and_each_directory_must_be_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert!(!layout.has_logs().unwrap());
        layout.create().unwrap();
        let log = layout
            .logs()
            .join("ef/task_01kb2m8r4zq8w3v5x7y9abcdef.2.log");
        // The directory is made by whoever follows the log, even if there is no output.
        fs::create_dir(log.parent().unwrap()).unwrap();
        fs::write(log.with_extension("log-3.7"), "").unwrap();
        fs::write(layout.logs().join("notes"), "").unwrap();
        assert!(!layout.has_logs().unwrap());
        // A link to itself cannot be looked at.
        let shard = layout.logs().join("00");
        std::os::unix::fs::symlink(&shard, &shard).unwrap();
        let error = layout.has_logs().unwrap_err().to_string();
        assert!(error.contains(shard.to_str().unwrap()), "{error}");
        fs::remove_file(&shard).unwrap();
        fs::write(&log, "").unwrap();
        assert!(layout.has_logs().unwrap());
    }

    #[test]
    fn a_host_compiles_as_long_as_the_source_of_its_compiler_exists() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert!(!layout.is_compiling(12));
        layout.create().unwrap();
        let code = layout.cache().join("shell-0123-4567.cwasm");
        fs::write(&code, "").unwrap();
        fs::write(code.with_extension(Layout::compiled_by(112)), "").unwrap();
        assert!(!layout.is_compiling(12));
        let source = code.with_extension(Layout::compiled_by(12));
        fs::write(&source, "").unwrap();
        assert!(layout.is_compiling(12));
        fs::remove_file(source).unwrap();
        assert!(!layout.is_compiling(12));
    }

    #[test]
    fn a_socket_directory_writable_by_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = |layout: &Layout, dir: &Path, mode: u32, allowed: bool| {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
            let checked = layout.check_socket_dir();
            assert_eq!(checked.is_ok(), allowed, "{mode:o}: {checked:?}");
        };
        let near = Layout::new(dir.path());
        check(&near, dir.path(), 0o700, true);
        check(&near, dir.path(), 0o755, true);
        check(&near, dir.path(), 0o777, true);
        fs::write(near.socket(), "").unwrap();
        check(&near, dir.path(), 0o755, true);
        check(&near, dir.path(), 0o775, false);
        check(&near, dir.path(), 0o777, false);

        let far = Layout::new(dir.path().join("d".repeat(120)));
        far.create_socket_dir().unwrap();
        let short = far.socket().parent().unwrap().to_owned();
        check(&far, &short, 0o750, false);
        check(&far, &short, 0o700, true);
        // The socket's directory is a link to a valid directory.
        fs::remove_dir(&short).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(dir.path(), &short).unwrap();
        assert!(far.check_socket_dir().is_err());
        assert!(far.create_socket_dir().is_err());
        fs::remove_file(&short).unwrap();
    }

    #[test]
    fn the_socket_of_a_data_directory_with_a_long_path_is_in_tmp() {
        let near = Layout::new("/data");
        assert_eq!(near.socket(), Path::new("/data/host.sock"));
        let far = Layout::new(format!("/{}", "d".repeat(120)));
        assert!(
            far.socket().as_os_str().len() <= SOCKET_PATH_MAX,
            "{:?}",
            far.socket()
        );
        assert!(far.socket().starts_with("/tmp"));
        assert_ne!(
            far.socket(),
            Layout::new(format!("/{}", "e".repeat(120))).socket()
        );
    }
}
