//! Recordings of a terminal: somebody types into a shell, and the screen becomes an animated SVG.
//!
//! Nothing is invented: a [`Typist`] types into a real shell, `film` cuts the waits out, and
//! [`draw`] draws the screen of an emulator. [`Recorded`] reads a drawing back, so that a test can
//! compare it with the output of the same commands today.

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
