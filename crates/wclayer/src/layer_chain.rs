//! `layerchain.json`: the parents of a layer, nearest first.
//!
//! Docker's `windowsfilter` keeps absolute paths in it, the portable store keeps layer IDs; the format is the
//! same: a JSON array of strings, or `null` for a layer without parents.
//!
//! Source: `getLayerChain` and `setLayerChain` in moby's `daemon/graphdriver/windows/windows.go`.

/// Why a layer chain cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerChainError {
    /// It is not a JSON array of strings.
    #[error("layer chain is not a JSON array of strings")]
    Json(#[source] serde_json::Error),
    /// A parent has an empty name. The reference would look for it in the store's own directory.
    #[error("layer chain: parent {index} is empty")]
    Empty {
        /// Its index, from 0.
        index: usize,
    },
}

/// Reads the parents, nearest first; `null` means none.
///
/// # Errors
/// [`LayerChainError`] for everything but an array of non-empty strings or `null`.
pub fn parse(file: &[u8]) -> Result<Vec<String>, LayerChainError> {
    let chain: Option<Vec<String>> = serde_json::from_slice(file).map_err(LayerChainError::Json)?;
    let chain = chain.unwrap_or_default();
    match chain.iter().position(String::is_empty) {
        Some(index) => Err(LayerChainError::Empty { index }),
        None => Ok(chain),
    }
}

/// Writes the parents, nearest first, with the bytes of Go's `encoding/json`; an empty list is `null`.
pub fn write<S: AsRef<str>>(chain: &[S]) -> Vec<u8> {
    if chain.is_empty() {
        return b"null".to_vec();
    }
    let chain = serde_json::Value::from_iter(chain.iter().map(|parent| parent.as_ref().to_owned()));
    let mut json = String::new();
    for character in chain.to_string().chars() {
        match character {
            // Go escapes characters that could end a script or a line in a web page. They do not occur
            // outside strings.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                json.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => json.push(character),
        }
    }
    json.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_layer_without_parents_is_null() {
        assert_eq!(write::<&str>(&[]), b"null");
        assert!(parse(b"null").unwrap().is_empty());
        assert!(parse(b"[]").unwrap().is_empty());
    }

    #[test]
    fn a_chain_is_written_as_go_writes_it() {
        let chain = [r"C:\docker\windowsfilter\a", "b&<c>\u{2028}"];
        assert_eq!(write(&chain), br#"["C:\\docker\\windowsfilter\\a","b\u0026\u003cc\u003e\u2028"]"#);
    }

    #[test]
    fn anything_but_an_array_of_names_is_refused() {
        for file in [&b""[..], b"{}", b"\"a\"", b"[1]", b"[null]", b"[\"a\"", b"[\"a\"] x", b"\xff"] {
            assert!(matches!(parse(file), Err(LayerChainError::Json(_))), "{}", file.escape_ascii());
        }
        assert!(matches!(parse(br#"["a",""]"#), Err(LayerChainError::Empty { index: 1 })));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(chain in proptest::collection::vec(".{1,20}", 0..6)) {
            prop_assert_eq!(parse(&write(&chain)).unwrap(), chain);
        }
    }
}
