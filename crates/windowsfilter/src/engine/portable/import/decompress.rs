//! Decompresses a blob. Its first bytes tell the format; media types are wrong too often.
//!
//! gzip files may have several members and zstd files several frames. Anything behind the last one, or an
//! incomplete one, is an error.

mod parts;

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use crossbeam_channel::{Receiver, Sender};

use self::parts::{Ahead, Followed, Parts};

use super::pipeline::{CHUNK, Chunk, Chunks};
use crate::compressed::CompressedFormat;
use crate::error::Error;
use crate::limits::{Exceeded, Limits};

/// Largest zstd window that is accepted, as a power of two: 32 MiB, the window of the strongest levels of the
/// compressors in image tools. Nothing else bounds a decoder's memory; a frame's header may ask for a hundred
/// thousand times as much.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 25;

/// The thread's body: takes chunks of the blob and sends chunks of the tar, in buffers that come back through
/// `empty`. Stops with an error when the ratio of the two exceeds its limit.
pub(super) fn decompress(blob: Chunks, full: &Sender<Chunk>, empty: &Receiver<Vec<u8>>, limits: &Limits) {
    let read = Cell::new(0);
    let mut source = Source { chunks: blob, current: Vec::new(), position: 0, read: &read, failure: None };
    let format = source.fill_buf().ok().and_then(CompressedFormat::of);
    let Some(format) = format else { return pass_on(source, full, empty) };
    let result = Parts::new(format, Ahead::new(&mut source))
        .and_then(|parts| copy(parts, full, empty, |tar| limits.check_ratio(read.get(), tar)));
    if let Err(error) = result {
        let error = source.failure.take().unwrap_or_else(|| damaged(format, error));
        // A receiver that is gone has its own error.
        let _ = full.send(Err(error));
    }
}

/// An uncompressed blob: sends its buffers on as they are and gives others back in exchange.
fn pass_on(mut source: Source<'_>, full: &Sender<Chunk>, empty: &Receiver<Vec<u8>>) {
    if let Some(failure) = source.failure.take() {
        let _ = full.send(Err(failure));
        return;
    }
    let mut next = Some(Ok(source.current));
    while let Some(chunk) = next {
        let failed = chunk.is_err();
        let Ok(other) = empty.recv() else { return };
        if full.send(chunk).is_err() || failed {
            return;
        }
        next = source.chunks.next(other);
    }
}

/// Sends the decoder's output on; `check` gets the number of bytes.
fn copy(
    mut decoder: impl Read,
    full: &Sender<Chunk>,
    empty: &Receiver<Vec<u8>>,
    check: impl Fn(u64) -> Result<(), Exceeded>,
) -> io::Result<()> {
    let mut length = 0;
    loop {
        let Ok(mut buffer) = empty.recv() else { return Ok(()) };
        buffer.clear();
        let result = decoder.by_ref().take(CHUNK as u64).read_to_end(&mut buffer);
        length += buffer.len() as u64;
        if let Err(exceeded) = check(length) {
            // The receiver reports it as it is; a receiver that is gone has its own error.
            let _ = full.send(Err(exceeded.into()));
            return Ok(());
        }
        // Send on the output before an error: a broken entry makes a clearer message than a broken blob.
        if !buffer.is_empty() && full.send(Ok(buffer)).is_err() {
            return Ok(());
        }
        if result? == 0 {
            return Ok(());
        }
    }
}

fn damaged(format: CompressedFormat, source: io::Error) -> Error {
    let name = format.name();
    let reason = match source.kind() {
        _ if let Some(command) = format.unpack_with() => {
            format!("it is {name} data, which are not read: unpack it first (`{command}`)")
        }
        _ if matches!(source.get_ref(), Some(error) if error.is::<Followed>()) => {
            format!("its {name} data are followed by something that is not {name}")
        }
        io::ErrorKind::UnexpectedEof => format!("its {name} data end too early"),
        // zstd reports it only by this text.
        _ if source.to_string().contains("too much memory") => {
            "its zstd window is larger than 32 MiB; compress it again with a lower level, or without --long"
                .to_owned()
        }
        _ => format!("its {name} data are damaged"),
    };
    Error::Compressed { reason, source }
}

/// The blob's chunks as a stream.
struct Source<'a> {
    chunks: Chunks,
    current: Vec<u8>,
    position: usize,
    /// Bytes read so far.
    read: &'a Cell<u64>,
    failure: Option<Error>,
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() && self.failure.is_none() {
            self.position = 0;
            match self.chunks.next(std::mem::take(&mut self.current)) {
                None => {}
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(error)) => self.failure = Some(error),
            }
        }
        match &self.failure {
            None => Ok(&self.current[self.position..]),
            Some(_) => Err(io::Error::other("the blob could not be read")),
        }
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.current.len() - self.position);
        self.position += count;
        self.read.set(self.read.get() + count as u64);
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
