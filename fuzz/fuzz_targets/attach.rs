//! Header and catalogue from arbitrary bytes: an error, or what they say.
#![no_main]

use commonhold_core::catalogue::Catalogue;
use commonhold_core::space::geometry_of;
use commonhold_segment::header::Header;
use commonhold_segment::layout::HEADER_WORDS;
use libfuzzer_sys::fuzz_target;

/// The header's words, with a checksum that fits them and the catalogue.
fn sealed(bytes: &[u8], catalogue: &[u8]) -> [u64; HEADER_WORDS] {
    let mut words = [0; HEADER_WORDS];
    for (to, from) in words.iter_mut().zip(bytes.chunks(8)) {
        *to = from.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words[0] = u64::from_le_bytes(*b"COMMONHD");
    words[1] = u64::from(commonhold_segment::header::FORMAT_VERSION) | 0x0102_0304 << 32;
    let mut all: Vec<u8> = words[..HEADER_WORDS - 1].iter().flat_map(|w| w.to_le_bytes()).collect();
    all.extend(catalogue);
    words[HEADER_WORDS - 1] = commonhold_core::hash::fnv1a_64(&all);
    words
}

fuzz_target!(|bytes: &[u8]| {
    let (head, catalogue) = bytes.split_at(bytes.len().min(256));
    let words = sealed(head, catalogue);
    let read = Header::decode(&words, u64::MAX, |_| Some(catalogue.to_vec()));
    if let Ok((header, catalogue)) = read {
        drop(header.geometry.layout());
        let text = std::str::from_utf8(&catalogue).unwrap_or_default();
        drop(Catalogue::from_json(text).map(|c| geometry_of(&c)));
    }
    // The catalogue alone, which the bytes seldom reach behind a header.
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if let Ok(catalogue) = Catalogue::from_json(text) {
        let again = Catalogue::from_json(&catalogue.to_json());
        assert_eq!(again.as_ref(), Ok(&catalogue));
        drop(geometry_of(&catalogue).layout());
    }
});
