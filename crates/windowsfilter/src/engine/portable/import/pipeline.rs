//! The threads of an import, and the buffers that go round between them.
//!
//! ```text
//! reading, hashing the blob -chunks-> decompressing -chunks-> hashing, parsing the tar -buffers-> writing
//!                          <-empty-                <-empty-                           <-empty-
//! ```
//!
//! The two in the middle parse the blob's content and are confined on Linux (`linux/confine`): they only
//! compute, and unconfined threads write the results. The thread of `linux/direct_writer` writes the tar, and
//! the parsing thread only syncs it at the end. Elsewhere than on Linux nothing is confined, and the parsing
//! thread writes the tar, too.
//!
//! Every stage has a few buffers of 1 MiB that come back when they are used up, so memory is bounded for any
//! blob, and the slowest stage sets the pace. The inflated size is limited by the decompressor and by the
//! hasher of the tar. An error travels the way the data goes. A stage whose receiver is gone stops.

use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use sha2::{Digest as _, Sha256};

use super::decompress::decompress;
use crate::compressed::CompressedFormat;
use crate::digest::Digest;
use crate::engine::Progress;
use crate::error::{Error, IoContext};
use crate::limits::Limits;

#[cfg(target_os = "linux")]
pub(super) use layer_mounts::linux::confine::confine_this_thread;

/// Other systems have no such filter.
#[cfg(not(target_os = "linux"))]
pub(super) fn confine_this_thread() {}

/// Bytes of one buffer.
pub(super) const CHUNK: usize = 1 << 20;
/// Buffers with parts of the blob.
const BLOB_CHUNKS: usize = 4;
/// Buffers with parts of the tar.
const TAR_CHUNKS: usize = 8;

/// The next bytes, or why there are none.
pub(super) type Chunk = Result<Vec<u8>, Error>;

/// Receives chunks, and sends used buffers back.
pub(super) struct Chunks {
    full: Receiver<Chunk>,
    empty: Sender<Vec<u8>>,
}

impl Chunks {
    fn new(count: usize) -> (Sender<Chunk>, Receiver<Vec<u8>>, Self) {
        let (full_in, full) = bounded(count);
        let (empty, empty_out) = bounded(count);
        for _ in 0..count {
            // The channel has room for all of them, and its other end is in this function.
            let _ = empty.send(Vec::with_capacity(CHUNK));
        }
        (full_in, empty_out, Self { full, empty })
    }

    /// Gives `used` back and waits for the next chunk; `None` at the end. A buffer without memory is not
    /// given back.
    pub(super) fn next(&self, used: Vec<u8>) -> Option<Chunk> {
        if used.capacity() > 0 {
            // A sender that takes no buffers any more is done.
            let _ = self.empty.send(used);
        }
        self.full.recv().ok()
    }
}

/// The input of the threads.
pub(super) struct BlobInfo<'a> {
    /// Its length, if known: more bytes are an error.
    pub(super) length: Option<u64>,
    /// The layer's name for messages.
    pub(super) label: &'a str,
    /// Is told the number of bytes read.
    pub(super) progress: &'a dyn Progress,
    /// The limits for the layer.
    pub(super) limits: &'a Limits,
}

/// Runs `consume`, which reads the tar, on a thread of its own, which it may confine. Returns its result, and
/// the blob's digest and length if the blob is not the tar itself.
pub(super) fn run<T>(
    blob: Box<dyn Read + Send + '_>,
    info: BlobInfo<'_>,
    consume: impl FnOnce(Chunks) -> Result<T, Error> + Send,
) -> Result<(T, Option<(Digest, u64)>), Error>
where
    T: Send,
{
    let (blob_full, blob_empty, blob_chunks) = Chunks::new(BLOB_CHUNKS);
    let (tar_full, tar_empty, tar_chunks) = Chunks::new(TAR_CHUNKS);
    let info = &info;
    thread::scope(|scope| {
        let spawn_error =
            |source| Error::Io { action: "start a thread for", path: info.label.into(), source };
        let reading = thread::Builder::new()
            .name("layer blob".into())
            .spawn_scoped(scope, move || read_blob(blob, info, &blob_full, &blob_empty))
            .map_err(spawn_error)?;
        thread::Builder::new()
            .name("layer decompress".into())
            .spawn_scoped(scope, move || {
                confine_this_thread();
                decompress(blob_chunks, &tar_full, &tar_empty, info.limits);
            })
            .map_err(spawn_error)?;
        let consuming = thread::Builder::new()
            .name("layer entries".into())
            .spawn_scoped(scope, move || consume(tar_chunks))
            .map_err(spawn_error)?;
        let value = consuming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let blob = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((value, blob))
    })
}

/// The thread's body: reads the blob, and hashes it unless it is hashed as the tar.
fn read_blob(
    mut blob: Box<dyn Read + Send + '_>,
    info: &BlobInfo<'_>,
    full: &Sender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) -> Option<(Digest, u64)> {
    let mut hasher = None;
    let mut length = 0;
    while let Ok(mut buffer) = empty.recv() {
        buffer.clear();
        if let Err(source) = blob.by_ref().take(CHUNK as u64).read_to_end(&mut buffer) {
            let _ = full.send(Err(unread(source, info.label)));
            return None;
        }
        if buffer.is_empty() {
            break;
        }
        if length == 0 && CompressedFormat::of(&buffer).is_some() {
            hasher = Some(Sha256::new());
        }
        length += buffer.len() as u64;
        info.progress.blob_bytes(buffer.len() as u64);
        if let Some(expected) = info.length.filter(|&expected| length > expected) {
            let what = format!("the blob of {}", info.label);
            let _ = full.send(Err(Error::SizeMismatch { what, expected, actual: length }));
            return None;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&buffer);
        }
        if full.send(Ok(buffer)).is_err() {
            return None;
        }
    }
    hasher.map(|hasher| (Digest::from_bytes(hasher.finalize().into()), length))
}

/// Turns an I/O error of the blob into ours. A sandbox's changes are computed while they are read, and their
/// errors come wrapped in those of `Read`.
fn unread(error: io::Error, label: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Io { action: "read the blob of", path: label.into(), source },
    }
}

/// The tar on its way to the parser: hashed and written as it passes.
pub(super) struct Tee<'a> {
    limits: &'a Limits,
    chunks: Chunks,
    current: Vec<u8>,
    position: usize,
    hasher: Sha256,
    length: u64,
    output: Option<Output>,
    failure: Option<Error>,
}

impl<'a> Tee<'a> {
    /// `output` is the file to create, if the tar is to be kept.
    pub(super) fn new(chunks: Chunks, output: Option<&Path>, limits: &'a Limits) -> Result<Self, Error> {
        let output = output.map(Output::create).transpose()?;
        let (current, hasher) = (Vec::new(), Sha256::new());
        Ok(Self { limits, chunks, current, position: 0, hasher, length: 0, output, failure: None })
    }

    /// Why reading failed, if it did.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Consumes the rest and syncs the file. Returns digest and length of the whole, and whether the rest had
    /// anything but zeros.
    pub(super) fn finish(mut self) -> Result<(Digest, u64, bool), Error> {
        let mut has_more = false;
        loop {
            has_more = has_more || self.current[self.position..].iter().any(|&byte| byte != 0);
            if !self.advance()? {
                break;
            }
        }
        if let Some(output) = self.output {
            output.finish()?;
        }
        Ok((Digest::from_bytes(self.hasher.finalize().into()), self.length, has_more))
    }

    /// Goes to the next chunk; `false` at the end.
    fn advance(&mut self) -> Result<bool, Error> {
        self.position = 0;
        let Some(chunk) = self.chunks.next(std::mem::take(&mut self.current)) else { return Ok(false) };
        let chunk = chunk?;
        self.length += chunk.len() as u64;
        self.limits.check_size(self.length)?;
        self.hasher.update(&chunk);
        if let Some(output) = &mut self.output {
            output.write(&chunk)?;
        }
        self.current = chunk;
        Ok(true)
    }
}

impl BufRead for Tee<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            if self.failure.is_none()
                && let Err(error) = self.advance()
            {
                self.failure = Some(error);
            }
            if self.failure.is_some() {
                return Err(io::Error::other("the layer could not be read"));
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = self.current.len().min(self.position + count);
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(target_os = "linux")]
type TarFile = layer_mounts::linux::direct_writer::LayerTarWriter;
#[cfg(not(target_os = "linux"))]
type TarFile = std::fs::File;

/// The file that the tar is written to.
struct Output {
    file: TarFile,
    path: PathBuf,
}

impl Output {
    #[cfg(target_os = "linux")]
    fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self { file: TarFile::create(path)?, path: path.to_owned() })
    }

    #[cfg(not(target_os = "linux"))]
    fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self { file: TarFile::create_new(path).at("create", path)?, path: path.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).at("write", &self.path)
    }

    #[cfg(target_os = "linux")]
    fn finish(self) -> Result<(), Error> {
        self.file.finish()?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn finish(self) -> Result<(), Error> {
        self.file.sync_all().at("sync", &self.path)
    }
}
