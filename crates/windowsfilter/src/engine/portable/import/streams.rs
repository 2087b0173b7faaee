//! Decides which named streams are kept in the index, and which stay in the tar.

use std::io::{self, Read};

use wclayer::name;
use wclayer::tar::{Header, TarError};

use super::layer_tree::entry_error;
use crate::engine::portable::xattrs::{MAX_VALUE, Origin, StreamContent};
use crate::error::Error;

/// Most streams of a file.
const MAX_STREAMS: usize = 3000;
/// Most bytes of attribute names for a file's streams in the index, out of the 64 KiB that Linux lists of a
/// file (`XATTR_LIST_MAX`).
const INLINE_NAMES: usize = 16 << 10;
/// Bytes of an attribute's name around the stream's: `trusted.DosStream.`, `:$DATA` and a NUL.
const NAME_FRAME: usize = 25;
/// Most bytes of a file's streams that are kept in the index.
const INLINE_PER_FILE: u64 = 64 << 10;
/// Most bytes of all streams that are kept in the index: memory has to hold them.
const INLINE_PER_LAYER: u64 = 16 << 20;
/// Longest name that fits into an attribute's with `trusted.DosStream.` and `:$DATA`.
const INLINE_NAME: usize = 231;

/// A named stream.
#[derive(Debug)]
pub(super) struct StreamRecord {
    pub(super) name: Vec<u8>,
    /// The tar offset of its entry, for messages.
    pub(super) offset: u64,
    pub(super) content: StreamContent,
}

/// Counts the bytes kept in the index.
#[derive(Debug, Default)]
pub(super) struct InlineBudget {
    used: u64,
}

impl InlineBudget {
    /// Adds a stream to those of a file, or replaces the one of this name, and reads it if it is small.
    pub(super) fn add(
        &mut self,
        mut streams: Vec<StreamRecord>,
        stream: &[u8],
        header: &Header,
        data: &mut dyn Read,
    ) -> Result<Vec<StreamRecord>, Error> {
        streams.retain(|other| !name::eq(&other.name, stream));
        if streams.len() == MAX_STREAMS {
            return Err(entry_error(&header.name, header.offset, "its file has more than 3000 streams"));
        }
        let inline = streams.iter().filter(|stream| matches!(stream.content, StreamContent::Inline(_)));
        let (inline, names) = inline.fold((0, 0), |(size, names), stream| {
            (size + stream.content.size(), names + NAME_FRAME + stream.name.len())
        });
        let size = header.size;
        // One byte stays free, for the form in which a view shows it.
        let fits = size < MAX_VALUE as u64
            && inline + size <= INLINE_PER_FILE
            && self.used + size <= INLINE_PER_LAYER
            && stream.len() <= INLINE_NAME
            && names + NAME_FRAME + stream.len() <= INLINE_NAMES;
        let content = if fits {
            self.used += size;
            StreamContent::Inline(read(data, size)?)
        } else {
            StreamContent::InTar { origin: Origin { layer: None, offset: header.data_offset }, size }
        };
        streams.push(StreamRecord { name: stream.to_vec(), offset: header.offset, content });
        Ok(streams)
    }
}

fn read(data: &mut dyn Read, size: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(size as usize); // at most 64 KiB
    data.read_to_end(&mut bytes).map_err(tar_error)?;
    Ok(bytes)
}

/// The tar's reader puts its own errors into those of `Read`.
fn tar_error(error: io::Error) -> Error {
    match error.downcast::<TarError>() {
        Ok(error) => Error::Tar(error),
        Err(source) => Error::Tar(TarError::Read { offset: 0, source }),
    }
}
