//! Misbehaviour of an instance, for tests of the host's reaction.

use std::hint::black_box;

/// Ends the instance without a message.
pub(crate) fn trap() -> ! {
    std::process::abort()
}

/// Ends the instance with a message in the log.
#[allow(clippy::panic, reason = "the script asks for a panic")]
pub(crate) fn panic_with(text: &str) -> ! {
    panic!("{text}")
}

/// Never yields the thread.
pub(crate) fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Allocates memory until no memory is left, which causes a trap.
pub(crate) fn eat_memory() -> ! {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}
