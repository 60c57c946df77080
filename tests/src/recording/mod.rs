//! Recordings of a terminal: somebody types into a shell, and the screen becomes an animated SVG.
//!
//! The output is real: a [`Typist`] types into a shell, `film` cuts the waits out, and [`draw`]
//! draws the screen of an emulator. [`Recorded`] reads a drawing back, so that a test can compare
//! it with the current output of the same commands.

mod film;
mod picture;
mod pieces;
mod reading;
mod svg;
#[cfg(test)]
mod tests;
mod typist;

pub use film::Film;
pub use reading::Recorded;
pub use svg::draw;
pub use typist::Typist;

/// Columns and rows.
pub type Size = (u16, u16);
