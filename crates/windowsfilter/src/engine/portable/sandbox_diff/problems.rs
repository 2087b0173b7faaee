//! What a Linux sandbox can have and a Windows layer cannot: found all at once, before anything is written.

use std::sync::Arc;

use super::entry::{same_kind, windows_attribute};
use super::parent::{ParentNode, last_name};
use super::plan::is_linked_file;
use crate::diff_options::{DiffOptions, LeftOut};
use crate::engine::portable::linux::upper::{UpperEntry, UpperKind};
use crate::error::Error;
use crate::metadata::Win32Metadata;
use rustix::fs::FileType;
use wclayer::name;

/// Names that NTFS allows a file: its first and 1,023 further ones. Source: `CreateHardLinkW` (Win32).
const MAX_NAMES: u64 = 1024;

/// Start of the names that are deletions in a layer tar.
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Everything that keeps a sandbox from becoming a layer, one sentence each.
#[derive(Debug)]
pub(super) struct Problems {
    found: Vec<String>,
    /// Attributes that no layer has are problems.
    strict: bool,
    /// Who is told of them otherwise.
    left_out: Option<Arc<LeftOut>>,
}

impl Problems {
    pub(super) fn new(options: &DiffOptions) -> Self {
        Self { found: Vec::new(), strict: options.strict, left_out: options.left_out.clone() }
    }

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

    /// Looks at an entry that means something the parent has. Of another kind under another spelling, Windows would not have let it be made; here it
    /// would take the other's place, with all that is in it.
    pub(super) fn check_case(&mut self, entry: &UpperEntry, lower: &ParentNode) {
        if last_name(&entry.path) != lower.name() && !same_kind(&entry.kind, lower.kind) {
            let what = lower.kind.with_article();
            self.add(&entry.path, &format!("differs only in case from {what} of the parent"));
        }
    }

    /// Looks at the attributes of an entry: for values that say nothing, and for those that no layer has.
    pub(super) fn check_attributes(&mut self, entry: &UpperEntry) {
        for (full_name, value) in &entry.xattrs {
            self.check_attribute(&entry.path, full_name, value);
        }
    }

    fn check_attribute(&mut self, path: &[u8], full_name: &[u8], value: &[u8]) {
        let known = windows_attribute(full_name).map_or(Ok(false), |name| Win32Metadata::judge(name, value));
        let name = String::from_utf8_lossy(full_name);
        match known {
            Ok(true) => {}
            Ok(false) if is_of_linux(full_name) => {}
            Ok(false) if self.strict => {
                self.add(path, &format!("has an attribute {name}, which no layer has"));
            }
            Ok(false) => {
                if let Some(left_out) = &self.left_out {
                    left_out.add(path, full_name, value.len());
                }
            }
            Err(problem) => self.add(path, &format!("has an attribute {name} that is {problem}")),
        }
    }

    pub(super) fn add(&mut self, path: &[u8], problem: &str) {
        self.found.push(format!("{:?} {problem}", String::from_utf8_lossy(path)));
    }

    /// One error with everything, if there is anything.
    pub(super) fn into_result(mut self) -> Result<(), Error> {
        self.found.sort();
        if self.found.is_empty() { Ok(()) } else { Err(Error::NotPortable { problems: self.found }) }
    }
}

/// Whether an attribute concerns Linux alone: its access control, labels and signatures.
fn is_of_linux(full_name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [b"selinux", b"SMACK64", b"apparmor", b"capability", b"ima", b"evm"];
    full_name.starts_with(b"system.")
        || full_name.strip_prefix(b"security.").is_some_and(|name| NAMES.contains(&name))
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
