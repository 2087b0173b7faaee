//! Options for a diff of a sandbox, and a report of what it leaves out.

use std::sync::{Arc, Mutex, PoisonError};

use wclayer::filetime::FileTime;

use crate::limits::DiffLimits;

/// Number of attributes that are reported by name; the rest are counted.
#[cfg(target_os = "linux")]
const TOLD: usize = 10;
/// Bytes of a path or name that are reported.
#[cfg(target_os = "linux")]
const TOLD_BYTES: usize = 200;

/// Options for a diff of a sandbox.
#[derive(Clone, Debug, Default)]
pub struct DiffOptions {
    /// Clamps later times to this one.
    pub newest: Option<FileTime>,
    /// Refuses attributes that a layer cannot have, instead of leaving them out.
    pub strict: bool,
    /// Receives the attributes that are left out.
    pub left_out: Option<Arc<LeftOut>>,
    /// Limits for the size of the changes, including the store's own limits.
    pub limits: DiffLimits,
}

/// Attributes of a sandbox that a layer cannot have: their number, and the first few by name, so that its
/// size is bounded.
#[derive(Debug, Default)]
pub struct LeftOut(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    first: Vec<String>,
    more: u64,
    bytes: u64,
}

impl LeftOut {
    #[cfg(target_os = "linux")]
    pub(crate) fn add(&self, path: &[u8], name: &[u8], bytes: usize) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.first.len() < TOLD {
            let told =
                |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(TOLD_BYTES)]).into_owned();
            counted.first.push(format!(
                "{:?} has an attribute {} ({bytes} bytes), which no layer has: it is left out (docs/attributes.md)",
                told(path),
                told(name)
            ));
        } else {
            counted.more += 1;
            counted.bytes += bytes as u64;
        }
    }

    /// One sentence for each of the first few, and one for the rest.
    pub fn notes(&self) -> Vec<String> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notes = counted.first.clone();
        if counted.more > 0 {
            notes.push(format!("{} more attributes ({} bytes) are left out", counted.more, counted.bytes));
        }
        notes
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_and_the_rest_are_counted() {
        let left_out = LeftOut::default();
        assert!(left_out.notes().is_empty());
        for number in 0..1000 {
            left_out.add(format!("f{number}").as_bytes(), &[b'n'; 5000], 7);
        }
        let notes = left_out.notes();
        assert_eq!(notes.len(), TOLD + 1);
        assert!(notes[0].starts_with("\"f0\" has an attribute nnn") && notes[0].len() < 400, "{}", notes[0]);
        assert_eq!(notes[TOLD], "990 more attributes (6930 bytes) are left out");
    }
}
