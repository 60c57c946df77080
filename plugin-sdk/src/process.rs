//! Children of an attempt. They belong to the host: they outlive the instance, a trap and a restart
//! of the host.
//!
//! Starting a child needs the permission `process` in the manifest; waiting for a child does not.

mod command;
mod input;
pub(crate) mod lines;
mod output;
mod status;

use std::fmt;
use std::rc::Rc;

use crate::Failure;
use crate::bindings::claudine::plugin::children as wit;

pub use command::{Captured, Command};
pub use input::{Input, InputClosed};
pub use lines::{Line, Lines};
pub use output::Output;
pub use status::{ExitStatus, Usage};

/// A child of this attempt, running or ended. Copies refer to the same child; dropping a copy has
/// no effect on the child.
#[derive(Clone)]
pub struct Child(Rc<wit::Child>);

impl Child {
    pub(crate) fn new(child: wit::Child) -> Self {
        Self(Rc::new(child))
    }

    /// Id of the child, unique on this machine.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// Waits for the child's exit. Any number of calls, at any time, return the same status. Fails
    /// with class [`lost`](crate::Class::Lost) if the exit status is gone.
    pub async fn wait(&self) -> Result<ExitStatus, Failure> {
        self.0
            .wait()
            .await
            .map(ExitStatus::from)
            .map_err(Failure::from)
    }

    /// Sends a signal to the child's process group. Has no effect on a child that has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        self.0.signal(signal.name()).map_err(Failure::from)
    }

    /// The child's standard output, from this byte offset on.
    pub fn stdout(&self, from_offset: u64) -> Output {
        Output::new(Rc::clone(&self.0), wit::Channel::Stdout, from_offset)
    }

    /// The child's standard error, from this byte offset on.
    pub fn stderr(&self, from_offset: u64) -> Output {
        Output::new(Rc::clone(&self.0), wit::Channel::Stderr, from_offset)
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Child").field(&self.id()).finish()
    }
}

/// A signal that an executor may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The terminal is gone.
    Hup,
    /// The signal that Ctrl-C sends: the polite stop for agents.
    Int,
    /// Cannot be ignored.
    Kill,
    /// The polite stop for commands.
    Term,
    /// Meaning defined by the program.
    Usr1,
    /// Meaning defined by the program.
    Usr2,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}
