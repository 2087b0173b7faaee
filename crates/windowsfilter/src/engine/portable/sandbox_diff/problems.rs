//! Finds everything in a Linux sandbox that a Windows layer cannot hold, all at once and before anything is
//! written.

use std::collections::HashSet;
use std::sync::Arc;

use layer_mounts::linux::upper::{UpperEntry, UpperKind};

use super::entry::{same_kind, windows_attribute};
use super::parent::{Parent, ParentNode};
use super::symlinks::reparse_data;
use super::tree::TreeNode;
use crate::diff_options::{DiffOptions, LeftOut};
use crate::engine::portable::xattrs::{Stream, StreamContent, Win32Metadata};
use crate::error::{Error, chain_text, shown};
use rustix::fs::FileType;
use wclayer::ea;
use wclayer::name;

/// Names that NTFS allows a file: its first and 1,023 further ones. Source: `CreateHardLinkW` (Win32).
const MAX_NAMES: u64 = 1024;

/// Start of the names that are deletions in a layer tar.
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Bytes of extended attributes in a header: with a security descriptor, a reparse buffer and a name they
/// have to stay below the 1 MiB that Go's `archive/tar` reads. NTFS itself gives a file 64 KiB.
const MAX_EAS: usize = 512 << 10;

/// Problems to list; of the rest, only the number is told.
const TOLD: usize = 200;

/// Everything that keeps a sandbox from becoming a layer, one sentence each.
#[derive(Debug)]
pub(super) struct Problems {
    told: Vec<String>,
    untold: u64,
    /// Whether attributes that no layer can hold are problems.
    strict: bool,
    /// Otherwise, collects them.
    left_out: Option<Arc<LeftOut>>,
}

impl Problems {
    pub(super) fn new(options: &DiffOptions) -> Self {
        Self { told: Vec::new(), untold: 0, strict: options.strict, left_out: options.left_out.clone() }
    }

    /// Checks one entry. `name` is its name on Windows; names that come from the parent are not checked.
    /// `path` returns its path.
    pub(super) fn check(&mut self, node: &TreeNode, path: impl Fn() -> Vec<u8>, name: &[u8], is_new: bool) {
        if node.is_linked_file() && node.links > MAX_NAMES {
            let problem = format!("has {} names; a file on NTFS has at most {MAX_NAMES}", node.links);
            self.add(&path(), &problem);
        }
        if let UpperKind::Other { mode } = node.kind {
            self.add(&path(), file_type(mode));
        }
        if is_new && name.starts_with(WHITEOUT_PREFIX) {
            self.add(&path(), "has a name that starts with .wh., which means a deletion in a layer");
        } else if let Some(problem) = is_new.then(|| name::windows_problem(name)).flatten() {
            self.add(&path(), &format!("has a name that {problem}"));
        }
    }

    /// Checks an entry whose name the parent has, too. If kind and spelling both differ, Windows would have
    /// refused to create it; in a layer it would replace the parent's entry, with everything in that.
    pub(super) fn check_case(&mut self, node: &TreeNode, path: impl Fn() -> Vec<u8>, lower: &ParentNode) {
        if *node.name != *lower.name && !same_kind(&node.kind, lower.kind) {
            let what = lower.kind.with_article();
            self.add(&path(), &format!("differs only in case from {what} of the parent"));
        }
    }

    /// Checks the attributes of an entry: for invalid values, and for attributes that no layer can hold.
    pub(super) fn check_attributes(&mut self, entry: &UpperEntry) {
        for (full_name, value) in &entry.xattrs {
            let judged = windows_attribute(full_name).map(|name| Win32Metadata::judge(name, value));
            if let Some(Err(problem)) = judged {
                let name = String::from_utf8_lossy(full_name);
                self.add(&entry.path, &format!("has an attribute {name} that is {problem}"));
            }
        }
        for (full_name, length) in entry.others.iter().filter(|(name, _)| !is_of_linux(name)) {
            if self.strict {
                let name = String::from_utf8_lossy(full_name);
                self.add(&entry.path, &format!("has an attribute {name}, which no layer has"));
            } else if let Some(left_out) = &self.left_out {
                left_out.add(&entry.path, full_name, *length);
            }
        }
    }

    /// Checks the streams of an entry. A stream whose bytes are in a layer has to be exactly one that a file
    /// of the parent has. Otherwise anyone who can set an attribute could read anything in a layer's tar, or
    /// have all of it copied any number of times.
    pub(super) fn check_streams(
        &mut self,
        path: &[u8],
        streams: &[Stream],
        parent: &impl Parent,
    ) -> Result<(), Error> {
        let mut names = HashSet::new();
        for stream in streams {
            let shown = shown(&stream.name);
            let is_inline = matches!(stream.content, StreamContent::Inline(_));
            let problem = if is_inline { stream_problem(&stream.name) } else { Some("") };
            match problem {
                Some(problem) if !parent.has_stream(stream)? => self.add(
                    path,
                    &match problem {
                        "" => format!(
                            "has a stream {shown:?} in a layer, where no file below the sandbox has it"
                        ),
                        _ => format!("has a stream {shown:?} whose name {problem}"),
                    },
                ),
                _ => {}
            }
            if !names.insert(name::fold(&stream.name)) {
                self.add(path, &format!("has more than one stream {shown:?}"));
            }
        }
        Ok(())
    }

    /// Checks the extended attributes for Windows: a Linux attribute can hold more than a layer's header.
    pub(super) fn check_eas(&mut self, path: &[u8], metadata: &Win32Metadata) {
        match ea::encode(&metadata.eas) {
            Err(error) => self.add(path, &format!("cannot be had by Windows: {error}")),
            Ok(encoded) if encoded.len() > MAX_EAS => {
                let length = encoded.len();
                self.add(
                    path,
                    &format!("has extended attributes of {length} bytes; a layer's header holds {MAX_EAS}"),
                );
            }
            Ok(_) => {}
        }
    }

    /// Checks a link without recorded reparse data: its text has to be convertible to a Windows target.
    pub(super) fn check_link(&mut self, path: &[u8], kind: &UpperKind, recorded: Option<&[u8]>) {
        if let (UpperKind::Symlink { target }, None) = (kind, recorded)
            && let Err(error) = reparse_data(target)
        {
            let reason = chain_text(&error);
            self.add(path, &format!("leads to {:?}, which no link on Windows can: {reason}", shown(target)));
        }
    }

    pub(super) fn add(&mut self, path: &[u8], problem: &str) {
        if self.told.len() < TOLD {
            self.told.push(format!("{:?} {problem}", shown(path)));
        } else {
            self.untold += 1;
        }
    }

    /// One error with everything, if there is anything.
    pub(super) fn into_result(mut self) -> Result<(), Error> {
        if self.told.is_empty() {
            return Ok(());
        }
        self.told.sort();
        Err(Error::NotPortable { problems: self.told, more: self.untold })
    }
}

/// Whether an attribute concerns Linux alone: its access control, labels and signatures.
fn is_of_linux(full_name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [b"selinux", b"SMACK64", b"apparmor", b"capability", b"ima", b"evm"];
    full_name.starts_with(b"system.")
        || full_name.strip_prefix(b"security.").is_some_and(|name| NAMES.contains(&name))
}

/// Why a name cannot be a stream's. Source: "Naming Files, Paths, and Namespaces" (Win32): more characters
/// than in names of files, but not these.
fn stream_problem(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.iter().any(|byte| matches!(byte, b':' | b'/' | b'\\' | 0)) {
        return Some("has one of : / \\ in it");
    }
    let units = name::to_utf16(name).map_or(name.len(), |units| units.len());
    (units > name::MAX_UNITS).then_some("is longer than 255 characters")
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
