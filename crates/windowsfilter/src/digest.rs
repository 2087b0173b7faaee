//! SHA-256 digests as the OCI specifications write them: `sha256:` and 64 hexadecimal digits.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// A SHA-256 digest. Its text form is `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// The digest of a layer's uncompressed tar. Not to be confused with the digest of a compressed blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl Digest {
    /// Digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Digest of everything that `reader` returns, and its length in bytes.
    ///
    /// # Errors
    /// Those of `reader`.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut length = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((Self(hasher.finalize().into()), length)),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    length += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The result of a hash made elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits, without `sha256:`.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// Hashes the bytes that are read or written through it.
pub struct Hashed<T> {
    inner: T,
    hasher: Sha256,
    length: u64,
}

impl<T> Hashed<T> {
    /// Hashes all bytes read from or written to `inner` from now on.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), length: 0 }
    }

    /// Digest of all bytes read or written, and their number.
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.hasher.finalize().into()), self.length)
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.passed(&buffer[..count]);
        Ok(count)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.passed(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; 32];
        text.strip_prefix("sha256:")
            .filter(|digits| !digits.bytes().any(|b| b.is_ascii_uppercase()))
            .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
            .map(|()| Self(bytes))
            .ok_or_else(|| refused(text))
    }
}

/// Why a text is not a digest that we support. A valid digest of another algorithm gets its own error.
/// Source: image-spec `descriptor.md`, "Digests".
fn refused(text: &str) -> Error {
    const LONGEST: usize = 160;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let letters = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
    };
    match text.split_once(':') {
        Some((algorithm, encoded))
            if algorithm != "sha256"
                && letters(algorithm, b"+._-")
                && !algorithm.bytes().any(|b| b.is_ascii_uppercase())
                && letters(encoded, b"=_-") =>
        {
            Error::UnsupportedDigest { algorithm: algorithm.chars().take(LONGEST).collect(), text: shown }
        }
        _ => Error::InvalidDigest { text: shown },
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl FromStr for DiffId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(Self(text.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_other_forms_are_refused() {
        let digest = Digest::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        for bad in ["", "sha256:", "sha512:ab", &text[..70], &text.to_uppercase(), &text[7..]] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_of_other_algorithms_are_told_from_what_is_none() {
        let sha512 = format!("sha512:{}", "0f".repeat(64));
        for (text, expected) in [
            (&sha512[..], format!("sha512 digests are not supported: {sha512}")),
            ("blake3+b64:ab_=", "blake3+b64 digests are not supported: blake3+b64:ab_=".into()),
            (
                "SHA256:ab",
                "invalid digest \"SHA256:ab\": expected sha256: and 64 lower-case hexadecimal digits".into(),
            ),
            (
                "sha256:ab",
                "invalid digest \"sha256:ab\": expected sha256: and 64 lower-case hexadecimal digits".into(),
            ),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err().to_string(), expected);
        }
        let long = "x".repeat(500).parse::<Digest>().unwrap_err().to_string();
        assert!(long.contains("x…\""), "{long}");
    }

    #[test]
    fn what_passes_is_hashed_and_no_more() {
        let mut read = Hashed::new(&b"abcdef"[..]);
        read.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(read.finish(), (Digest::of(b"abc"), 3));
        let mut room = [0; 3];
        let mut written = Hashed::new(&mut room[..]);
        assert_eq!(written.write(b"abcdef").unwrap(), 3);
        assert_eq!(written.finish(), (Digest::of(b"abc"), 3));
    }
}
