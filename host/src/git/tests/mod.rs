//! Tests with the real git.

mod person;
mod real;

pub(crate) use person::Person;
