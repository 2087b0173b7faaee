//! Small files of the store with a version and a checksum, so that a damaged file is never read as a valid
//! one.
//!
//! A sealed file is a JSON object: the content's fields, with `version` and `checksum` before them. Reading
//! re-seals the content and compares all bytes, so a flipped bit anywhere is found. The checksum alone covers
//! only the parsed content: it would miss a flip in the name of an optional field, which is ignored then.
//! `docs/decisions/0006-sealed-records.md` lists the alternatives.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Why a sealed file is refused. The messages end a sentence: "its …", "it …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages say")]
pub enum BrokenSeal {
    #[error("it cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("its version is {actual}, this program reads {expected}")]
    Version { actual: u32, expected: u32 },
    #[error("its checksum does not match its content")]
    Checksum,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    checksum: Digest,
    #[serde(flatten)]
    content: T,
}

/// The bytes of a sealed file with `content`, which must have no field named `version` or `checksum`.
///
/// # Errors
/// Content that JSON cannot hold, such as a path that is not UTF-8.
pub fn seal<T: Serialize>(version: u32, content: &T) -> Result<Vec<u8>, serde_json::Error> {
    // `Value` keeps its keys sorted, so the text that is summed does not depend on the order of the fields.
    let summed = serde_json::to_value((version, content))?.to_string();
    let envelope = Envelope { version, checksum: Digest::of(summed.as_bytes()), content };
    let mut text = serde_json::to_vec_pretty(&envelope)?;
    text.push(b'\n');
    Ok(text)
}

/// The content of a sealed file.
///
/// # Errors
/// Any bytes but those that [`seal`] writes with this version.
pub fn unseal<T: Serialize + DeserializeOwned>(version: u32, bytes: &[u8]) -> Result<T, BrokenSeal> {
    // Checked first: another version may have other fields.
    let Version { version: actual } = serde_json::from_slice(bytes)?;
    if actual != version {
        return Err(BrokenSeal::Version { actual, expected: version });
    }
    let envelope: Envelope<T> = serde_json::from_slice(bytes)?;
    if seal(version, &envelope.content)? == bytes { Ok(envelope.content) } else { Err(BrokenSeal::Checksum) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Content {
        name: String,
        #[serde(default)]
        size: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
        #[serde(default)]
        labels: BTreeMap<String, Vec<u8>>,
    }

    fn contents() -> [Content; 3] {
        let full = Content {
            name: "a \"name\" with \\ and \u{e9}".into(),
            size: u64::MAX,
            parent: Some("p".into()),
            labels: BTreeMap::from([("k".into(), vec![1, 2]), (String::new(), Vec::new())]),
        };
        [Content::default(), full.clone(), Content { parent: None, ..full }]
    }

    #[test]
    fn what_was_sealed_comes_back() {
        for content in contents() {
            assert_eq!(unseal::<Content>(3, &seal(3, &content).unwrap()).unwrap(), content);
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        for content in contents() {
            let good = seal(1, &content).unwrap();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let text = String::from_utf8_lossy(&bad).into_owned();
                assert!(unseal::<Content>(1, &bad).is_err(), "bit {bit}: {text}");
            }
        }
    }

    #[test]
    fn other_versions_other_spellings_and_parts_are_refused() {
        let good = String::from_utf8(seal(1, &contents()[1]).unwrap()).unwrap();
        let open = |text: &str| unseal::<Content>(1, text.as_bytes()).unwrap_err().to_string();
        assert!(open(&good.replace("\"version\": 1", "\"version\": 2")).contains("version is 2"));
        assert!(open(&good.replace("\"p\"", "\"q\"")).contains("checksum"));
        assert!(open(&good.replace('\n', "")).contains("checksum"));
        assert!(open(&good.replacen('{', "{\"more\": 1,", 1)).contains("checksum"));
        for cut in [0, 1, good.len() / 2, good.len() - 2] {
            assert!(open(&good[..cut]).contains("cannot be read"), "{cut}");
        }
    }
}
