//! Commands to start.

use super::input::Input;
use super::status::ExitStatus;
use crate::bindings::claudine::plugin::{children, process as wit};
use crate::bindings::wit_stream;
use crate::{Child, Failure};

/// A child to start. By default it gets the task's environment and working directory, and an empty
/// standard input.
///
/// Without a grant of `*` the child may not have a variable that decides which code is loaded or
/// which program is found (`LD_PRELOAD`, `PATH`, `NODE_OPTIONS` and the like), or a working
/// directory outside the task's directory.
///
/// Arguments are passed unchanged, without a shell.
#[derive(Debug)]
#[must_use = "a command does nothing until it is spawned"]
pub struct Command(wit::Command);

impl Command {
    /// An absolute path, or a name to look up on the task's `PATH`.
    pub fn new(program: impl Into<String>) -> Self {
        Self(wit::Command {
            program: program.into(),
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            env_remove: Vec::new(),
            stdin: children::Input::Empty,
            more: Vec::new(),
        })
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.0.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.0.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in addition to the task's environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.0.env.retain(|(known, _)| *known != name);
        self.0.env.push((name, value.into()));
        self
    }

    /// Removes a variable.
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.0.env.retain(|(known, _)| *known != name);
        self.0.env_remove.push(name);
        self
    }

    /// Clears the environment: the child gets only variables set with [`env`](Command::env)
    /// afterwards.
    pub fn env_clear(mut self) -> Self {
        self.0.env.clear();
        self.0.env_remove = vec!["*".to_owned()];
        self
    }

    /// Sets the working directory, an absolute path.
    pub fn current_dir(mut self, directory: impl Into<String>) -> Self {
        self.0.cwd = Some(directory.into());
        self
    }

    /// Sets the child's standard input. The bytes are in a file before the child starts, so the
    /// child never reads only a part of them.
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.stdin = children::Input::Bytes(bytes.into());
        self
    }

    /// Starts the child in its own process group. Returns once the child runs and its identity is
    /// on disk.
    ///
    /// Fails with class `spawn` (not found, not executable, no such directory), `denied`, `invalid`
    /// (a NUL byte) or `resource`.
    pub async fn spawn(self) -> Result<Child, Failure> {
        wit::spawn(self.0)
            .await
            .map(Child::new)
            .map_err(Failure::from)
    }

    /// Starts the child with a standard input that is written while the child runs. Any standard
    /// input that was set before is ignored. Use this only for input that is produced meanwhile or
    /// is too large for memory, because the stream, unlike [`stdin_bytes`](Command::stdin_bytes),
    /// does not survive the loss of the instance.
    ///
    /// ```no_run
    /// # use claudine_plugin_sdk::{Command, Failure, Outcome};
    /// # async fn example(parts: Vec<Vec<u8>>) -> Result<Outcome, Failure> {
    /// let (child, mut input) = Command::new("sha256sum").spawn_with_input().await?;
    /// for part in parts {
    ///     if input.write_all(part).await.is_err() {
    ///         // The child reads no more; its exit status says why.
    ///     }
    /// }
    /// input.finish();
    /// Ok(child.wait().await?.into())
    /// # }
    /// ```
    ///
    /// Fails like [`spawn`](Command::spawn).
    pub async fn spawn_with_input(mut self) -> Result<(Child, Input), Failure> {
        let (writer, reader) = wit_stream::new::<u8>();
        self.0.stdin = children::Input::Stream(reader);
        let child = self.spawn().await?;
        let input = Input::new(child.clone(), writer);
        Ok((child, input))
    }

    /// Runs the command to its end, outside any attempt and in the host's environment, for at most
    /// 10 s. Only [`fingerprint`](crate::Executor::fingerprint) may call this; other calls are
    /// refused.
    pub async fn capture(self) -> Result<Captured, Failure> {
        let captured = wit::capture(self.0).await?;
        Ok(Captured {
            status: captured.status.into(),
            stdout: captured.stdout,
            stderr: captured.stderr,
        })
    }
}

/// Result of a command that was run to its end.
#[derive(Clone, Debug)]
pub struct Captured {
    /// How the command ended.
    pub status: ExitStatus,
    /// Standard output, at most 1 MiB; more is dropped.
    pub stdout: Vec<u8>,
    /// Standard error, at most 1 MiB; more is dropped.
    pub stderr: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_setting_of_a_variable_counts() {
        let Command(spec) = Command::new("make")
            .env("A", "1")
            .env("A", "2")
            .env("B", "3")
            .env_remove("B")
            .env("C", "4");
        assert_eq!(
            spec.env,
            [
                ("A".to_owned(), "2".to_owned()),
                ("C".to_owned(), "4".to_owned())
            ]
        );
        assert_eq!(spec.env_remove, ["B"]);
    }

    #[test]
    fn variables_set_after_clearing_are_kept() {
        let Command(spec) = Command::new("make")
            .env("A", "1")
            .env_remove("B")
            .env_clear()
            .env("C", "2");
        assert_eq!(spec.env, [("C".to_owned(), "2".to_owned())]);
        assert_eq!(spec.env_remove, ["*"]);
    }
}
