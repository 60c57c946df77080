//! The plugins that are part of the binary.

use std::io::{self, Read};

use flate2::read::ZlibDecoder;

/// A plugin that is part of the binary.
#[derive(Debug)]
pub(crate) struct Builtin {
    pub(crate) manifest: &'static str,
    /// The component, compressed by zlib. It is decompressed only if it must be compiled.
    pub(crate) compressed: &'static [u8],
    /// The digest of the component.
    pub(crate) digest: &'static str,
}

impl Builtin {
    /// The component.
    pub(crate) fn component(&self) -> io::Result<Vec<u8>> {
        let mut component = Vec::new();
        ZlibDecoder::new(self.compressed).read_to_end(&mut component)?;
        Ok(component)
    }
}

/// The plugins that existed when the binary was built.
pub(crate) static BUILTINS: &[Builtin] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
