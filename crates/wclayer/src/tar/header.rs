//! One entry's header, put together from the blocks that describe it.

use crate::pax_time::{self, PaxTime};

use super::block::{self, BLOCK_SIZE, Block, Format};
use super::error::{TarError, lossy};
use super::pax::{PaxRecords, decimal_i64};
use super::sparse::SparseMap;

/// Values of [`Header::type_flag`].
pub mod type_flag {
    /// An ordinary file.
    pub const FILE: u8 = b'0';
    /// Another name of a file. Has no data.
    pub const LINK: u8 = b'1';
    /// A symbolic link. Has no data.
    pub const SYMLINK: u8 = b'2';
    /// A character device. Has no data.
    pub const CHAR_DEVICE: u8 = b'3';
    /// A block device. Has no data.
    pub const BLOCK_DEVICE: u8 = b'4';
    /// A directory. Has no data.
    pub const DIRECTORY: u8 = b'5';
    /// A named pipe. Has no data.
    pub const FIFO: u8 = b'6';
    /// A file that should be contiguous on disk; otherwise an ordinary one (pax(1), "ustar Interchange
    /// Format").
    pub const CONTIGUOUS: u8 = b'7';
    /// A PAX global header. Go returns it as an entry and does not apply its records to others.
    pub const GLOBAL: u8 = b'g';
    /// A sparse file of GNU tar.
    pub const GNU_SPARSE: u8 = b'S';
    /// Records for the next entry; never seen outside the reader.
    pub(in crate::tar) const PAX: u8 = b'x';
    /// The next entry's name; never seen outside the reader.
    pub(in crate::tar) const GNU_LONG_NAME: u8 = b'L';
    /// The next entry's link name; never seen outside the reader.
    pub(in crate::tar) const GNU_LONG_LINK: u8 = b'K';
}

/// Whether entries of this type never have data, even if their size field is not 0.
pub(super) fn is_header_only(type_flag: u8) -> bool {
    (type_flag::LINK..=type_flag::FIFO).contains(&type_flag)
}

/// One entry of an archive.
///
/// Extended headers, long names and sparse maps are already applied: `name`, `size` and the times are the
/// final values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Archive offset of the first block that belongs to the entry: its PAX header or GNU long name if it has
    /// one.
    pub offset: u64,
    /// Archive offset of the entry's own header block.
    pub header_offset: u64,
    /// Archive offset of its data.
    pub data_offset: u64,
    /// Bytes of the file; the archive has fewer if it is sparse. 0 for types without data.
    pub size: u64,
    /// Bytes of data in the archive at `data_offset`, padding not counted.
    pub stored_size: u64,
    /// The type of the entry, see [`type_flag`]. The NUL of old archives is already a file or, with a
    /// trailing slash in the name, a directory.
    pub type_flag: u8,
    /// The name, any bytes, unchanged.
    pub name: Vec<u8>,
    /// The target of a link, any bytes, unchanged.
    pub link_name: Vec<u8>,
    /// Permission bits, and others by some writers.
    pub mode: i64,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Owner's name.
    pub uname: Vec<u8>,
    /// Group's name.
    pub gname: Vec<u8>,
    /// Major number of a device.
    pub dev_major: i64,
    /// Minor number of a device.
    pub dev_minor: i64,
    /// Last write. Every header block has one, so `None` means a global header.
    pub mtime: Option<PaxTime>,
    /// Last access.
    pub atime: Option<PaxTime>,
    /// Last change of metadata.
    pub ctime: Option<PaxTime>,
    /// All records of the PAX header, including those applied to the fields above.
    pub pax: PaxRecords,
    /// The parts of a sparse file that are in the archive; `None` if the file is not sparse.
    pub sparse: Option<SparseMap>,
}

impl Header {
    /// The name for an error message.
    pub(crate) fn display_name(&self) -> String {
        lossy(&self.name)
    }

    /// Reads a header block at `offset`. Also returns its size field, which may be negative or meaningless.
    pub(super) fn from_block(block: &Block, format: Format, offset: u64) -> Result<(Self, i64), TarError> {
        let number = |range: std::ops::Range<usize>, field| {
            block::number(&block[range]).map_err(|_| TarError::Number {
                entry: lossy(block::text(&block[block::NAME])),
                offset,
                field,
            })
        };
        let time = |range, field| number(range, field).map(seconds);
        let size = number(block::SIZE, "size")?;
        let mut header = Self {
            offset,
            header_offset: offset,
            data_offset: offset + BLOCK_SIZE as u64,
            type_flag: block[block::TYPE_FLAG],
            name: block::text(&block[block::NAME]).to_vec(),
            link_name: block::text(&block[block::LINK_NAME]).to_vec(),
            mode: number(block::MODE, "mode")?,
            uid: number(block::UID, "uid")?,
            gid: number(block::GID, "gid")?,
            mtime: time(block::MTIME, "mtime")?,
            ..Self::default()
        };
        if format == Format::V7 {
            return Ok((header, size));
        }
        header.uname = block::text(&block[block::UNAME]).to_vec();
        header.gname = block::text(&block[block::GNAME]).to_vec();
        header.dev_major = number(block::DEV_MAJOR, "devmajor")?;
        header.dev_minor = number(block::DEV_MINOR, "devminor")?;
        match format {
            Format::V7 => {}
            Format::Ustar => header.add_prefix(block::text(&block[block::USTAR_PREFIX])),
            Format::Star => {
                header.add_prefix(block::text(&block[block::STAR_PREFIX]));
                header.atime = time(block::STAR_ATIME, "atime")?;
                header.ctime = time(block::STAR_CTIME, "ctime")?;
            }
            Format::Gnu => header.gnu_times(block),
        }
        Ok((header, size))
    }

    fn add_prefix(&mut self, prefix: &[u8]) {
        if !prefix.is_empty() {
            self.name = [prefix, b"/", &self.name].concat();
        }
    }

    /// GNU headers have times where USTAR has the prefix. Go before 1.8 wrote a prefix there all the same, so
    /// a field that is not a time is a prefix.
    fn gnu_times(&mut self, block: &Block) {
        let time = |range: std::ops::Range<usize>| {
            let field = &block[range];
            if field[0] == 0 { Ok(None) } else { block::number(field).map(seconds) }
        };
        match (time(block::GNU_ATIME), time(block::GNU_CTIME)) {
            (Ok(atime), Ok(ctime)) => (self.atime, self.ctime) = (atime, ctime),
            _ => {
                let prefix = block::text(&block[block::USTAR_PREFIX]);
                if prefix.is_ascii() {
                    self.add_prefix(prefix);
                }
            }
        }
    }

    /// Replaces header fields by the standard records of a PAX header. Empty records leave the field alone.
    /// `size` is the size field.
    pub(super) fn apply(&mut self, pax: PaxRecords, size: &mut i64) -> Result<(), TarError> {
        for (key, value) in pax.iter().filter(|(_, value)| !value.is_empty()) {
            self.apply_record(key, value, size).map_err(|key| TarError::PaxValue {
                entry: self.display_name(),
                offset: self.offset,
                key,
                value: lossy(value),
            })?;
        }
        self.pax = pax;
        Ok(())
    }

    fn apply_record(&mut self, key: &[u8], value: &[u8], size: &mut i64) -> Result<(), &'static str> {
        let number = |key| decimal_i64(value).ok_or(key);
        let time = |key| pax_time::parse(value).map(Some).map_err(|_| key);
        match key {
            b"path" => self.name = value.to_vec(),
            b"linkpath" => self.link_name = value.to_vec(),
            b"uname" => self.uname = value.to_vec(),
            b"gname" => self.gname = value.to_vec(),
            b"uid" => self.uid = number("uid")?,
            b"gid" => self.gid = number("gid")?,
            b"size" => *size = number("size")?,
            b"mtime" => self.mtime = time("mtime")?,
            b"atime" => self.atime = time("atime")?,
            b"ctime" => self.ctime = time("ctime")?,
            _ => {}
        }
        Ok(())
    }
}

fn seconds(secs: i64) -> Option<PaxTime> {
    Some(PaxTime { secs, nanos: 0 })
}
