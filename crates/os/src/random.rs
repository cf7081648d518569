//! Random identifiers from the kernel.

/// 16 random bytes, as for a UUID. Falls back to clocks and the process id should the kernel refuse.
#[must_use]
pub fn uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        let mix =
            u128::from(crate::clock::monotonic_nanos()) << 64 | u128::from(std::process::id());
        bytes = mix.to_le_bytes();
    }
    bytes
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
