//! Limits for imported layers, so that a hostile layer costs no more than a large one.
//!
//! A caller that trusts a layer can raise or lift every limit. The memory that all entries take together is
//! not limited here but in the tree that is built from them (`layer_tree`). `docs/limits.md` says how the
//! defaults were chosen.

use wclayer::tar::{Header, MAX_SPECIAL_SIZE};

use crate::error::Error;

/// Bytes of tar before which the ratio is not checked: a small layer of zeros is harmless, and files of zeros
/// that preallocate space, such as a database's, are real.
const DEFAULT_RATIO_FROM: u64 = 1 << 30;

/// The limits for imported layers; `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the tar, of any type, streams and deletions included. Default 2,000,000: Server Core's base
    /// has some 110,000. Together with the limit per entry, memory stays below 2.1 GiB.
    pub entries: Option<u64>,
    /// Bytes of an entry's name or link target. Default 262,144: the longest path that Windows can open has
    /// 32,767 units, at most 98,301 bytes, but moving trees can create longer ones.
    pub name: Option<u64>,
    /// Components of an entry's name or link target. Default 1,024: half of the components that fit in a
    /// Linux path of 4,096 bytes.
    pub depth: Option<u64>,
    /// Bytes of an extended header (PAX) or a GNU long name. Default 1 MiB, which is also the maximum:
    /// Docker's own reader refuses longer ones.
    pub header: Option<u64>,
    /// Bytes of the uncompressed tar. Default 512 GiB, four times the 127 GB of Docker's sandboxes.
    pub size: Option<u64>,
    /// Bytes of tar per byte of the blob, checked after [`Limits::ratio_from`] bytes. Default 200. Real
    /// layers have 2 to 4; deflate reaches at most 1,032, zstd has no maximum.
    pub ratio: Option<u64>,
    /// Bytes of tar before which the ratio is not checked. Default 1 GiB.
    pub ratio_from: u64,
    /// Whether to accept a tar that has entries, but none in `Files`, `Hives` or `UtilityVM`. Default no: it
    /// is a layer of another system, or not a layer, and its view would be empty.
    pub foreign_layers: bool,
}

impl Limits {
    /// No limits except [`MAX_SPECIAL_SIZE`]: for layers that are already in the store.
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
    /// Its name; with two dashes in front, the option of the command line that sets it. There is no option
    /// for a sandbox's size and the disk.
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
    /// Its value.
    pub allowed: u64,
    /// The actual value when the check failed. For the ratio: the bytes of tar.
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
                    "the tar's first {actual} bytes are more than {allowed} times their compressed size"
                )
            }
            Limit::Sandbox => write!(
                f,
                "the changes reach {actual} bytes as a tar; a sandbox of this size may have {allowed}"
            ),
            Limit::Disk => write!(
                f,
                "the changes reach {actual} bytes as a tar; the disk of the store has room for {allowed}"
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
            // A name cannot have more components than bytes.
            if self.depth.is_some_and(|depth| name.len() as u64 > depth) {
                check(Limit::Depth, self.depth, components(name))?;
            }
        }
        Ok(())
    }

    /// Refuses a tar of `tar` bytes, if that is too large.
    pub(crate) fn check_size(&self, tar: u64) -> Result<(), Exceeded> {
        check(Limit::Size, self.size, tar)
    }

    /// Refuses a blob whose first `blob` bytes gave `tar` bytes of tar, if the ratio is too large.
    pub(crate) fn check_ratio(&self, blob: u64, tar: u64) -> Result<(), Exceeded> {
        match self.ratio {
            Some(allowed) if tar > self.ratio_from && tar > blob.saturating_mul(allowed) => {
                Err(Exceeded { limit: Limit::Ratio, allowed, actual: tar })
            }
            _ => Ok(()),
        }
    }

    /// Refuses the archive `what`, which contains layers and whose first `compressed` bytes gave `plain`
    /// bytes, if that is too large or the ratio is.
    ///
    /// # Errors
    /// [`Error::Intake`] of an [`Error::Limit`].
    pub fn check_archive(&self, what: &str, compressed: u64, plain: u64) -> Result<(), Error> {
        let checked = self.check_size(plain).and_then(|()| self.check_ratio(compressed, plain));
        checked.map_err(|exceeded| Error::from(exceeded).in_layer(what.to_owned()))
    }
}

/// The limits for reading the changes of a sandbox; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffLimits {
    /// Number of changed names: [`Limits::entries`].
    pub entries: Option<u64>,
    /// Bytes of their tar: [`Limits::size`].
    pub size: Option<u64>,
    /// Bytes of the sandbox's disk. The tar of the changes may be a quarter plus 64 MiB larger: the headers
    /// for a disk full of blocks and inodes take up to a tenth more. Without this limit a file without blocks
    /// could have any size, and a layer's stream any number of names.
    pub sandbox: Option<u64>,
    /// Bytes that may be written to the disk of the tar. The tar may take half of them, since it is written
    /// twice while a layer is made from it.
    pub disk: Option<u64>,
}

impl DiffLimits {
    /// Refuses the `number`th entry, counted from 1, if there are too many.
    pub(crate) fn check_entries(&self, number: u64) -> Result<(), Exceeded> {
        check(Limit::Entries, self.entries, number)
    }

    /// Refuses a tar of `bytes` bytes, if that is too large.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Exceeded> {
        check(Limit::Size, self.size, bytes)?;
        let sandbox = self.sandbox.map(|size| size.saturating_add(size / 4).saturating_add(64 << 20));
        check(Limit::Sandbox, sandbox, bytes)?;
        check(Limit::Disk, self.disk.map(|room| room / 2), bytes)
    }
}

impl Limits {
    /// The limits that apply to the changes of a sandbox.
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

/// Number of components of a name, separated by `/` or `\`.
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
