//! Inputs that consist of several files, for targets that read directories and archives.

pub mod files;
pub mod sandbox;
pub mod view;

/// A file with the changes in an input: the length to truncate to, if smaller (three bytes), and for each
/// change a position (three bytes) and a value to combine with the byte there.
pub fn changed(file: &[u8], input: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let place = |bytes: &[u8]| bytes.iter().fold(0, |place, byte| place << 8 | usize::from(*byte));
    let (length, changes) = input.split_at_checked(3).unwrap_or((&[0xff; 3], input));
    for change in changes.chunks_exact(4) {
        if let Some(at) = place(&change[..3]).checked_rem(bytes.len()) {
            bytes[at] ^= change[3];
        }
    }
    bytes.truncate(place(length));
    bytes
}
