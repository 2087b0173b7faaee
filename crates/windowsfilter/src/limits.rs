//! How much a layer that comes in may be, so that a hostile one costs no more than a large one.
//!
//! Every limit can be raised or lifted by whoever trusts a layer. What memory the entries may take together
//! is no limit of these: the tree that is built of them counts it (`layer_tree`). `docs/limits.md` says how
//! the defaults were chosen.

use wclayer::tar::{Header, MAX_SPECIAL_SIZE};

use crate::error::Error;

/// Bytes that no ratio is demanded of: a small layer of zeros is nothing to fear, and a file of zeros that a
/// database was given room with is real.
const DEFAULT_RATIO_FROM: u64 = 1 << 30;

/// What a layer that comes in may be at most; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the tar, of any type, streams and deletions included. Default 2,000,000: Server Core's base
    /// has some 110,000. With what an entry may take of it, memory stays below 2.1 GiB.
    pub entries: Option<u64>,
    /// Bytes of an entry's name or link target. Default 262,144: Windows' longest path has 32,767 units,
    /// which are at most 98,301 bytes, but trees that were moved can have longer ones.
    pub name: Option<u64>,
    /// Components of an entry's name or link target. Default 1,024: half of what a path of Linux' 4,096 bytes
    /// can have.
    pub depth: Option<u64>,
    /// Bytes of an extended header (PAX) or a GNU long name. Default 1 MiB, and never more: Docker's own
    /// reader takes no longer ones.
    pub header: Option<u64>,
    /// Bytes of the uncompressed tar. Default 512 GiB, four times the 127 GB that Docker's sandboxes have.
    pub size: Option<u64>,
    /// Bytes of tar for each byte of the blob, once [`Limits::ratio_from`] is reached. Default 200. Layers
    /// have 2 to 4; deflate cannot exceed 1,032, zstd can exceed anything.
    pub ratio: Option<u64>,
    /// Bytes of tar before which the ratio does not matter. Default 1 GiB.
    pub ratio_from: u64,
    /// Whether a tar is taken that has entries, but none in `Files`, `Hives` or `UtilityVM`. Default no: it
    /// is another system's layer, or none, and would show nothing.
    pub foreign_layers: bool,
}

impl Limits {
    /// No limits, but for [`MAX_SPECIAL_SIZE`]: for what is in the store already.
    pub const NONE: Self = Self {
        entries: None,
        name: None,
        depth: None,
        header: None,
        size: None,
        ratio: None,
        ratio_from: DEFAULT_RATIO_FROM,
        foreign_layers: true,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: Some(2_000_000),
            name: Some(256 << 10),
            depth: Some(1024),
            header: Some(MAX_SPECIAL_SIZE),
            size: Some(512 << 30),
            ratio: Some(200),
            ratio_from: DEFAULT_RATIO_FROM,
            foreign_layers: false,
        }
    }
}

/// One of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::entries`].
    Entries,
    /// [`Limits::name`].
    Name,
    /// [`Limits::depth`].
    Depth,
    /// [`Limits::header`].
    Header,
    /// [`Limits::size`].
    Size,
    /// [`Limits::ratio`].
    Ratio,
    /// [`DiffLimits::sandbox`].
    Sandbox,
    /// [`DiffLimits::disk`].
    Disk,
}

impl Limit {
    /// Its name, and, behind two dashes, the option of the command line that sets it; a sandbox's size and
    /// the disk have none.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entries => "max-entries",
            Self::Name => "max-name",
            Self::Depth => "max-depth",
            Self::Header => "max-header",
            Self::Size => "max-size",
            Self::Ratio => "max-ratio",
            Self::Sandbox => "size of the sandbox",
            Self::Disk => "free disk",
        }
    }
}

/// A limit that a layer exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which one.
    pub limit: Limit,
    /// What it is.
    pub allowed: u64,
    /// What there is instead, as far as it was looked at. Of the ratio: the bytes of tar.
    pub actual: u64,
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { limit, allowed, actual } = self;
        match limit {
            Limit::Entries => write!(f, "the layer has more than {allowed} entries"),
            Limit::Name => {
                write!(f, "its name or target has {actual} bytes, more than the {allowed} that are allowed")
            }
            Limit::Depth => {
                write!(
                    f,
                    "its name or target has {actual} components, more than the {allowed} that are allowed"
                )
            }
            Limit::Header => {
                write!(f, "its extended header has {actual} bytes, more than the {allowed} that are allowed")
            }
            Limit::Size => write!(f, "the tar has more than {allowed} bytes"),
            Limit::Ratio => {
                write!(
                    f,
                    "the tar's first {actual} bytes are more than {allowed} times as long as they are compressed"
                )
            }
            Limit::Sandbox => write!(
                f,
                "with it the changes have {actual} bytes as a tar, more than the {allowed} that those of a sandbox of this size may have"
            ),
            Limit::Disk => write!(
                f,
                "with it the changes have {actual} bytes as a tar; where the store is, there is room for {allowed}"
            ),
        }?;
        write!(f, " (limit {})", limit.name())
    }
}

impl Limits {
    /// Refuses an entry, the `number`th of the tar.
    pub(crate) fn check_entry(&self, number: u64, header: &Header) -> Result<(), Exceeded> {
        check(Limit::Entries, self.entries, number)?;
        for name in [&header.name, &header.link_name] {
            check(Limit::Name, self.name, name.len() as u64)?;
            // No name has more components than bytes.
            if self.depth.is_some_and(|depth| name.len() as u64 > depth) {
                check(Limit::Depth, self.depth, components(name))?;
            }
        }
        Ok(())
    }

    /// Refuses what has become `tar` bytes or more.
    pub(crate) fn check_size(&self, tar: u64) -> Result<(), Exceeded> {
        check(Limit::Size, self.size, tar)
    }

    /// Refuses what has become `tar` bytes of the first `blob` bytes of something compressed.
    pub(crate) fn check_ratio(&self, blob: u64, tar: u64) -> Result<(), Exceeded> {
        match self.ratio {
            Some(allowed) if tar > self.ratio_from && tar > blob.saturating_mul(allowed) => {
                Err(Exceeded { limit: Limit::Ratio, allowed, actual: tar })
            }
            _ => Ok(()),
        }
    }

    /// Refuses `what`, which is no layer but holds layers, and has become `plain` bytes of its first
    /// `compressed` ones.
    ///
    /// # Errors
    /// [`Error::Intake`] of an [`Error::Limit`].
    pub fn check_archive(&self, what: &str, compressed: u64, plain: u64) -> Result<(), Error> {
        let checked = self.check_size(plain).and_then(|()| self.check_ratio(compressed, plain));
        checked.map_err(|exceeded| Error::from(exceeded).in_layer(what.to_owned()))
    }
}

/// What the changes of a sandbox may be at most when they are read; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffLimits {
    /// Names that are changed: [`Limits::entries`].
    pub entries: Option<u64>,
    /// Bytes of their tar: [`Limits::size`].
    pub size: Option<u64>,
    /// Bytes of the sandbox's disk. Their tar may have a quarter more and 64 MiB: what a disk can hold in
    /// full blocks and inodes has up to a tenth more in headers. A file without blocks could have any size,
    /// and a stream of a layer any number of names.
    pub sandbox: Option<u64>,
    /// Bytes that may be written where the tar is written, twice while a layer is made of it.
    pub disk: Option<u64>,
}

impl DiffLimits {
    /// Refuses the entry with this number, counted from 1.
    pub(crate) fn check_entries(&self, number: u64) -> Result<(), Exceeded> {
        check(Limit::Entries, self.entries, number)
    }

    /// Refuses a tar of so many bytes.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Exceeded> {
        check(Limit::Size, self.size, bytes)?;
        let sandbox = self.sandbox.map(|size| size.saturating_add(size / 4).saturating_add(64 << 20));
        check(Limit::Sandbox, sandbox, bytes)?;
        check(Limit::Disk, self.disk.map(|room| room / 2), bytes)
    }
}

impl Limits {
    /// Those of them that matter for the changes of a sandbox.
    pub(crate) fn of_changes(&self) -> DiffLimits {
        DiffLimits { entries: self.entries, size: self.size, sandbox: None, disk: None }
    }
}

fn check(limit: Limit, allowed: Option<u64>, actual: u64) -> Result<(), Exceeded> {
    match allowed {
        Some(allowed) if actual > allowed => Err(Exceeded { limit, allowed, actual }),
        _ => Ok(()),
    }
}

/// Components of a name, whichever way its separators lean.
fn components(name: &[u8]) -> u64 {
    let parts = name.split(|byte| matches!(byte, b'/' | b'\\'));
    parts.filter(|part| !matches!(*part, b"" | b".")).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], link_name: &[u8]) -> Header {
        Header { name: name.to_vec(), link_name: link_name.to_vec(), ..Header::default() }
    }

    #[test]
    fn each_limit_is_the_most_that_is_allowed() {
        let limits =
            Limits { entries: Some(3), name: Some(9), depth: Some(2), size: Some(100), ..Limits::NONE };
        let limit = |result: Result<(), Exceeded>| result.err().map(|exceeded| exceeded.limit);
        assert_eq!(limit(limits.check_entry(3, &entry(b"Files/abc", b""))), None);
        assert_eq!(limit(limits.check_entry(4, &entry(b"Files/abc", b""))), Some(Limit::Entries));
        assert_eq!(limit(limits.check_entry(1, &entry(b"Files/abcd", b""))), Some(Limit::Name));
        assert_eq!(limit(limits.check_entry(1, &entry(b"a", b"Files\\abcd"))), Some(Limit::Name));
        assert_eq!(limit(limits.check_entry(1, &entry(b"./a//b/", b"\\a\\b"))), None);
        assert_eq!(limit(limits.check_entry(1, &entry(b"a/b/c", b""))), Some(Limit::Depth));
        assert_eq!(limit(limits.check_entry(1, &entry(b"a", b"a\\b/c"))), Some(Limit::Depth));
        assert_eq!(limit(limits.check_size(100)), None);
        assert_eq!(limit(limits.check_size(101)), Some(Limit::Size));
    }

    #[test]
    fn the_ratio_matters_only_from_a_size_on() {
        let limits = Limits { ratio: Some(10), ratio_from: 1000, ..Limits::NONE };
        assert_eq!(limits.check_ratio(1, 1000), Ok(()));
        assert_eq!(limits.check_ratio(101, 1010), Ok(()));
        let exceeded = limits.check_ratio(101, 1011).unwrap_err();
        assert_eq!(exceeded, Exceeded { limit: Limit::Ratio, allowed: 10, actual: 1011 });
        assert_eq!(Limits { ratio: None, ..limits }.check_ratio(1, u64::MAX), Ok(()));
    }

    #[test]
    fn messages_name_the_limit_as_the_command_line_does() {
        let text = Exceeded { limit: Limit::Entries, allowed: 3, actual: 4 }.to_string();
        assert_eq!(text, "the layer has more than 3 entries (limit max-entries)");
    }
}
