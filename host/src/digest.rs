//! SHA-256 digests in lower-case hexadecimal.

use sha2::{Digest, Sha256};

pub(crate) fn hex(bytes: &[u8]) -> String {
    hex_of(&[bytes])
}

/// The digest of several pieces. Each piece is preceded by its length, so that moving a byte from
/// one piece to another changes the digest.
pub(crate) fn hex_of_pieces(pieces: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update((piece.len() as u64).to_le_bytes());
        hash.update(piece);
    }
    hex::encode(hash.finalize())
}

/// Computes the digest of data that arrives in pieces.
#[derive(Clone, Default)]
pub(crate) struct Running(Sha256);

impl Running {
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(crate) fn hex(self) -> String {
        hex::encode(self.0.finalize())
    }
}

fn hex_of(pieces: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update(piece);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_match_the_standard() {
        assert_eq!(
            hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut running = Running::default();
        running.update(b"a");
        running.update(b"bc");
        assert_eq!(running.hex(), hex(b"abc"));
        assert_ne!(hex_of_pieces(&[b"ab", b"c"]), hex_of_pieces(&[b"a", b"bc"]));
    }
}
