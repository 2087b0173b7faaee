//! Tar archives, as Go's `archive/tar` understands and writes them.
//!
//! Windows layers are made by programs that use that package (Docker, containerd, hcsshim, BuildKit), and a
//! layer is identified by the digest of its bytes, so ours has to agree with it on every odd archive that it
//! reads and on every byte that it writes. General tar crates differ in what they accept and in how they lay
//! out headers; they also hide the offsets of entries in the archive, which the portable engine's index
//! needs.
//!
//! In: [`Reader`], over any [`std::io::BufRead`]. It reads each header into a [`Header`] that knows its
//! offsets, and skips data without copying it. Out: [`Writer`], which takes a [`NewEntry`] and chooses
//! between USTAR and PAX by Go's rules.
//!
//! [`MAX_SPECIAL_SIZE`] bounds the memory, whatever sizes an archive claims; nothing recurses.
//!
//! Source: POSIX.1-2001 `pax`, the GNU tar manual (sparse formats), and the behaviour of Go 1.24's
//! `archive/tar` (`reader.go`, `strconv.go`, `writer.go`), pinned down in `vectors/`.

mod block;
mod data;
mod error;
mod header;
pub(crate) mod path;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use block::BLOCK_SIZE;
pub use data::Data;
pub use error::TarError;
pub use header::{Header, type_flag};
pub use pax::{PaxRecords, append_record};
pub use reader::{ArchiveEnd, Reader};
pub use sparse::{SparseExtent, SparseMap};
pub use writer::{NewEntry, Writer};

/// Most bytes of a PAX header, a GNU long name or a sparse map.
///
/// None of the formats sets a bound and the size field is untrusted, so Go (and libarchive) chose this one:
/// 1 MiB, thirty times the longest path Windows has.
pub const MAX_SPECIAL_SIZE: u64 = 1 << 20;
