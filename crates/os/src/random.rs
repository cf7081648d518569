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
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |half: u8| DIGITS.get(usize::from(half & 0xf)).copied().unwrap_or_default();
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_digits_each() {
        assert_eq!(hex(&[0, 0x0f, 0xa9, 0xff]), "000fa9ff");
        assert_eq!(hex(&uuid()).len(), 32);
    }
}
