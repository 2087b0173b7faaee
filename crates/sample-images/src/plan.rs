//! The plan of a layer: a list of its entries in the order of the tar.
//!
//! The plan is in memory (some 200 bytes an entry); contents are streamed when the layer is written.

use std::cmp::Ordering;
use std::path::PathBuf;

use super::content::ContentKind;
use super::security::Class;

/// Common combinations of `FILE_ATTRIBUTE_*`.
pub mod attributes {
    /// An ordinary file: archive.
    pub const FILE: u32 = 0x20;
    /// An ordinary directory.
    pub const DIRECTORY: u32 = 0x10;
    /// Hidden, system, archive: `desktop.ini`.
    pub const HIDDEN_SYSTEM_FILE: u32 = 0x26;
    /// Read-only file.
    pub const READONLY_FILE: u32 = 0x21;
    /// Read-only directory: `Program Files`.
    pub const READONLY_DIRECTORY: u32 = 0x11;
    /// Hidden directory that is not indexed: `ProgramData`.
    pub const HIDDEN_DIRECTORY: u32 = 0x2012;
    /// Hidden, system, not indexed reparse point of a directory: a profile's junctions.
    pub const JUNCTION: u32 = 0x2416;
}

/// The source of a file's bytes.
#[derive(Clone, Debug)]
pub enum Source {
    /// Generated.
    Made {
        /// The kind to imitate.
        kind: ContentKind,
        /// Selects the bytes.
        seed: u64,
        /// Bytes.
        size: u64,
    },
    /// Given.
    Bytes(Vec<u8>),
    /// A file of this machine, `size` bytes long.
    Path {
        /// The file.
        path: PathBuf,
        /// Its length.
        size: u64,
    },
}

impl Source {
    /// Bytes of content.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Made { size, .. } | Self::Path { size, .. } => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// The kind of an entry.
#[derive(Clone, Debug)]
pub enum What {
    /// A directory.
    Directory,
    /// A file with content.
    File(Source),
    /// Another name of the file that has this tar name.
    Link(String),
    /// A symbolic link or junction.
    Reparse {
        /// The Windows path of the target.
        target: String,
        /// A junction (mount point) instead of a symbolic link.
        mount_point: bool,
    },
    /// Hides the name of lower layers. The entry's name is without `.wh.`.
    Whiteout,
}

/// An alternate data stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name, without colons.
    pub name: String,
    /// Its bytes.
    pub source: Source,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Tar name: `Files/Windows/…`.
    pub name: String,
    /// Kind and content.
    pub what: What,
    /// `FILE_ATTRIBUTE_*`.
    pub attributes: u32,
    /// Security descriptor; hives have none.
    pub class: Option<Class>,
    /// Last write, FILETIME.
    pub written: u64,
    /// Alternate streams.
    pub streams: Vec<Stream>,
    /// Extended attributes: name and value.
    pub eas: Vec<(String, Vec<u8>)>,
}

impl Planned {
    /// An entry without streams and extended attributes.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        what: What,
        attributes: u32,
        class: Option<Class>,
        written: u64,
    ) -> Self {
        Self { name: name.into(), what, attributes, class, written, streams: Vec::new(), eas: Vec::new() }
    }

    /// Bytes of content, streams not counted.
    #[must_use]
    pub fn size(&self) -> u64 {
        if let What::File(source) = &self.what { source.size() } else { 0 }
    }
}

/// The order of a directory walk: component by component, by bytes.
#[must_use]
pub fn walk_order(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_before_its_children_and_they_before_its_siblings() {
        let mut names = ["a b", "a", "a/z", "A", "a/b/c", "a-"];
        names.sort_by(|a, b| walk_order(a, b));
        assert_eq!(names, ["A", "a", "a/b/c", "a/z", "a b", "a-"]);
    }
}
