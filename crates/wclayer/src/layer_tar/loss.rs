//! Losses of converting a layer from one form to another.

use std::fmt;

/// A loss, and its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The entry's name, with slashes.
    pub entry: Vec<u8>,
    /// The loss.
    pub what: Lost,
}

/// The part of an entry that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// A named stream: of a directory, of a reparse point, of a file without a data record, before the data,
    /// or with an invalid name, so that it would become a file.
    Stream {
        /// Its name as in the backup stream.
        name: Vec<u8>,
        /// Its bytes.
        size: u64,
    },
    /// Extended attributes behind the data of a backup stream that cannot be read twice.
    ExtendedAttributes {
        /// Their bytes, encoded.
        size: u64,
    },
    /// The flags of an extended attribute.
    EaFlags {
        /// Its name.
        name: Vec<u8>,
        /// The flags.
        flags: u8,
    },
    /// An extended attribute that another one of the same name replaced.
    RepeatedEa {
        /// Its name.
        name: Vec<u8>,
    },
    /// The holes in the data: they are zeros now.
    Holes,
    /// Parts of a reparse point besides its print name: another substitute name, flags, bytes behind the
    /// names.
    ReparseDetails,
    /// A record of a backup stream that has no place in a tar.
    Record {
        /// Its kind, see [`crate::backup_stream`].
        id: u32,
        /// Its bytes.
        size: u64,
    },
    /// The end of a stream's name, from a NUL on.
    NameAfterNul {
        /// The whole name.
        name: Vec<u8>,
    },
    /// Bytes of a stream's name that are not Unicode: Windows gets U+FFFD for them.
    NameBytes {
        /// The name in the tar.
        name: Vec<u8>,
    },
    /// Data of an entry whose type has no data in the reference.
    Data {
        /// The type.
        type_flag: u8,
        /// Its bytes in the tar.
        size: u64,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        write!(f, "{:?}: ", text(&self.entry))?;
        match &self.what {
            Lost::Stream { name, size } => write!(f, "stream {:?} of {size} bytes", text(name)),
            Lost::ExtendedAttributes { size } => {
                write!(f, "{size} bytes of extended attributes behind the data")
            }
            Lost::EaFlags { name, flags } => {
                write!(f, "flags {flags:#x} of extended attribute {:?}", text(name))
            }
            Lost::RepeatedEa { name } => write!(f, "all but the last extended attribute {:?}", text(name)),
            Lost::Holes => f.write_str("holes of a sparse file are zeros now"),
            Lost::ReparseDetails => f.write_str("reparse data beside the print name"),
            Lost::Record { id, size } => write!(f, "backup record of kind {id}, {size} bytes"),
            Lost::NameAfterNul { name } => write!(f, "what follows the NUL in stream name {:?}", text(name)),
            Lost::NameBytes { name } => {
                write!(f, "bytes of stream name {:?} that are not Unicode", text(name))
            }
            Lost::Data { type_flag, size } => {
                write!(f, "{size} bytes of data, which type {:?} cannot have", char::from(*type_flag))
            }
        }
    }
}
