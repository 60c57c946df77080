//! What an instance must not do, for tests of what the host does then.

use std::hint::black_box;

/// Ends the instance without a word.
pub(crate) fn trap() -> ! {
    std::process::abort()
}

/// Ends it with a text in the log.
#[allow(clippy::panic, reason = "it is what was asked for")]
pub(crate) fn panic_with(text: &str) -> ! {
    panic!("{text}")
}

/// Never gives the thread back.
pub(crate) fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Takes memory until there is no more, which is a trap.
pub(crate) fn eat_memory() -> ! {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}
