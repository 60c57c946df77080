//! Limits for connections that git makes for the task of a restrained principal. The files of a
//! branch, which anybody may have written, name the servers of submodules, and such a server may
//! accept a connection and never answer.
//!
//! Over HTTP, git notices this by variables, because a repository could override settings by more
//! specific ones (`http.URL.lowSpeedTime`). Over SSH, the program notices it by options. Over other
//! transports, and while an encrypted connection is made, only the time limit of the command ends
//! the wait.

use super::{Git, GitError, restraint::OF_USER, spec::Spec};

/// A transfer ends if less than this many bytes per second come for this many seconds. A server
/// may send nothing for a minute or more while it prepares the objects of a large repository.
const OVER_HTTP: [(&str, &str); 2] = [
    ("GIT_HTTP_LOW_SPEED_LIMIT", "1000"),
    ("GIT_HTTP_LOW_SPEED_TIME", "120"),
];

/// The setting with the command that connects over SSH.
const SSH: &str = "core.sshCommand";
/// Ends if no connection is made within 30 s, or if the server has not answered for 30 s.
const OVER_SSH: &str =
    "ssh -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=2";

impl Git {
    /// The same setup, with limits for connections over HTTP.
    pub(super) fn impatient(&self) -> Self {
        Self {
            variables: self.variables.with_missing(&OVER_HTTP),
            ..self.clone()
        }
    }

    /// The settings of a command with limits for connections over SSH. There are none if the user
    /// has configured a command, which may know other options.
    pub(super) async fn impatient_over_ssh(&self) -> Result<Option<(String, String)>, GitError> {
        let pattern = format!("^{}$", SSH.to_lowercase().replace('.', r"\."));
        let asked = ["config", "--show-scope", "-z", "--get-regexp", &pattern];
        let found = self.output_if(&Spec::reads(asked)).await?;
        let found = found.unwrap_or_default();
        let is_set = is_set_by_user(&String::from_utf8_lossy(&found));
        Ok((!is_set).then(|| (SSH.to_owned(), OVER_SSH.to_owned())))
    }
}

/// Whether one of the settings that git has printed with their scopes is the user's.
fn is_set_by_user(output: &str) -> bool {
    let parts: Vec<&str> = output.split_terminator('\0').collect();
    let mut scopes = parts.chunks(2).filter_map(|pair| pair.first());
    scopes.any(|scope| OF_USER.contains(scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_ssh_that_only_the_repository_names_is_not_the_users() {
        let check = |output: &str, expected: bool| {
            assert_eq!(is_set_by_user(output), expected, "{output:?}");
        };
        check("", false);
        check("local\0core.sshcommand\nglobal\0", false);
        check("worktree\0core.sshcommand\nssh -i key\0", false);
        check("global\0core.sshcommand\nssh -i key\0", true);
        check(
            "system\0core.sshcommand\nssh\0local\0core.sshcommand\nx\0",
            true,
        );
    }
}
