//! Lines for the host's log. These lines are for the host's operator, not for the task's submitter.

use std::fmt;

use crate::bindings::claudine::plugin::log as wit;

/// Importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// Details that help to debug the plugin.
    Debug,
    /// Information for the host's operator.
    Info,
    /// A problem that was dealt with.
    Warn,
    /// An error.
    Error,
}

/// Writes a line with fields, which are shown after the message as `name=value`.
pub fn write_with(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    send(level, message, &fields);
}

/// Writes a line. Use the macros [`trace!`](crate::trace), [`debug!`](crate::debug),
/// [`info!`](crate::info), [`warn!`](crate::warn) and [`error!`](crate::error) instead.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    send(level, &message.to_string(), &[]);
}

fn send(level: Level, message: &str, fields: &[(String, String)]) {
    let level = match level {
        Level::Trace => wit::Level::Trace,
        Level::Debug => wit::Level::Debug,
        Level::Info => wit::Level::Info,
        Level::Warn => wit::Level::Warn,
        Level::Error => wit::Level::Error,
    };
    wit::write(level, message, fields);
}

/// Writes a line of level `trace` to the host's log; arguments as for `format!`.
#[macro_export]
macro_rules! trace { ($($argument:tt)*) => { $crate::log_write($crate::Level::Trace, ::core::format_args!($($argument)*)) }; }

/// Writes a line of level `debug` to the host's log; arguments as for `format!`.
#[macro_export]
macro_rules! debug { ($($argument:tt)*) => { $crate::log_write($crate::Level::Debug, ::core::format_args!($($argument)*)) }; }

/// Writes a line of level `info` to the host's log; arguments as for `format!`.
#[macro_export]
macro_rules! info { ($($argument:tt)*) => { $crate::log_write($crate::Level::Info, ::core::format_args!($($argument)*)) }; }

/// Writes a line of level `warn` to the host's log; arguments as for `format!`.
#[macro_export]
macro_rules! warn { ($($argument:tt)*) => { $crate::log_write($crate::Level::Warn, ::core::format_args!($($argument)*)) }; }

/// Writes a line of level `error` to the host's log; arguments as for `format!`.
#[macro_export]
macro_rules! error { ($($argument:tt)*) => { $crate::log_write($crate::Level::Error, ::core::format_args!($($argument)*)) }; }
