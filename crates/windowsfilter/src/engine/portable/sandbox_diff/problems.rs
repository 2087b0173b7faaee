//! What a Linux sandbox can have and a Windows layer cannot: found all at once, before anything is written.

use super::plan::is_linked_file;
use crate::engine::portable::linux::upper::{UpperEntry, UpperKind};
use crate::error::Error;
use rustix::fs::FileType;
use wclayer::name;

/// Names that NTFS allows a file: its first and 1,023 further ones. Source: `CreateHardLinkW` (Win32).
const MAX_NAMES: u64 = 1024;

/// Start of the names that are deletions in a layer tar.
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Everything that keeps a sandbox from becoming a layer, one sentence each.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    /// Looks at one entry. `name` is what Windows would call it; the parent's names are taken as they are.
    pub(super) fn check(&mut self, entry: &UpperEntry, name: &[u8], is_new: bool) {
        if is_linked_file(entry) && entry.links > MAX_NAMES {
            self.add(
                &entry.path,
                &format!("has {} names; a file on NTFS has at most {MAX_NAMES}", entry.links),
            );
        }
        if let UpperKind::Other { mode } = entry.kind {
            self.add(&entry.path, file_type(mode));
        }
        if is_new && name.starts_with(WHITEOUT_PREFIX) {
            self.add(&entry.path, "has a name that starts with .wh., which means a deletion in a layer");
        } else if let Some(problem) = is_new.then(|| name::windows_problem(name)).flatten() {
            self.add(&entry.path, &format!("has a name that {problem}"));
        }
    }

    pub(super) fn add(&mut self, path: &[u8], problem: &str) {
        self.0.push(format!("{:?} {problem}", String::from_utf8_lossy(path)));
    }

    /// One error with everything, if there is anything.
    pub(super) fn into_result(mut self) -> Result<(), Error> {
        self.0.sort();
        if self.0.is_empty() { Ok(()) } else { Err(Error::NotPortable { problems: self.0 }) }
    }
}

fn file_type(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::BlockDevice => "is a block device",
        FileType::CharacterDevice => "is a character device",
        FileType::Fifo => "is a fifo",
        FileType::Socket => "is a socket",
        _ => "is of a type Windows does not have",
    }
}
