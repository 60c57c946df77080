//! Random numbers from the kernel.

/// Returns 128 random bits.
pub(crate) fn bits_128() -> u128 {
    let mut bytes = [0u8; 16];
    fill(&mut bytes);
    u128::from_ne_bytes(bytes)
}

/// Returns this many numbers of 128 random bits, which one call of the kernel makes.
pub(crate) fn many_128(count: usize) -> impl Iterator<Item = u128> {
    let mut numbers = vec![[0u8; 16]; count];
    fill(numbers.as_flattened_mut());
    numbers.into_iter().map(u128::from_ne_bytes)
}

fn fill(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        // The call waits until the kernel's pool is ready. If a signal interrupts the wait, the
        // call is made again. Other errors occur only on kernels older than 2014.
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => unreachable!("the kernel has no random numbers: {error}"),
        }
    }
}

/// Returns 64 random bits in hexadecimal, for names of temporary files.
pub(crate) fn hex_64() -> String {
    format!("{:016x}", bits_128() >> 64)
}
