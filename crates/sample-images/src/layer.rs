//! Writes a planned layer: in one pass over two threads it writes the tar, hashes it, compresses it and
//! hashes the result.
//!
//! One thread generates contents and writes the tar, the other compresses; memory does not grow with the
//! layer.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};
use wclayer::ea::ExtendedAttribute;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{EntryKind, FileInfo, LayerEntry, LayerTarError, Writer};
use wclayer::reparse;
use wclayer::tar::type_flag;

use super::content::Content;
use super::plan::{Planned, Source, What};
use super::security::Catalogue;
use programs::error::{Error, IoContext, Result};

/// Compression of a layer's blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// The plain tar.
    None,
    /// Level 6, as `docker push` does.
    #[default]
    Gzip,
    /// Level 3, as BuildKit does.
    Zstd,
}

/// The written layer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LayerDigests {
    /// SHA-256 of the tar, with `sha256:`.
    pub diff_id: String,
    /// SHA-256 of the blob, with `sha256:`.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_size: u64,
}

/// Writes the layer's blob to `path`.
///
/// # Errors
/// If the blob cannot be written, or a file of the plan cannot be read.
///
/// # Panics
/// If one of its threads panics.
pub fn write(
    plan: &[Planned],
    catalogue: &Catalogue,
    compression: Compression,
    path: &Path,
) -> Result<LayerDigests> {
    let file = File::create(path).at(path)?;
    let (sender, receiver) = sync_channel(CHANNEL);
    std::thread::scope(|scope| {
        let blob = scope.spawn(move || compress(&receiver, compression, file));
        let tar = Chunks { sender, chunk: Vec::with_capacity(CHUNK), sha256: Sha256::new(), size: 0 };
        let tar = write_tar(plan, catalogue, tar);
        // One thread's failure makes the other fail: the compressor's error, if there is one, is the cause.
        let (digest, size) = match blob.join() {
            Ok(result) => result.at(path)?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let (diff_id, tar_size) = tar?;
        Ok(LayerDigests { diff_id, digest, size, tar_size })
    })
}

/// Bytes passed to the compressing thread at once.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait for that thread.
const CHANNEL: usize = 8;

/// A writer that passes the tar to the compressor.
struct Chunks {
    sender: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    sha256: Sha256,
    size: u64,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sha256.update(&chunk);
        self.size += chunk.len() as u64;
        self.sender.send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn finish(mut self) -> io::Result<(String, u64)> {
        self.send()?;
        Ok((digest_text(self.sha256), self.size))
    }
}

impl Write for Chunks {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&buf[..n]);
        if self.chunk.len() == CHUNK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A digest as registries write it.
pub(super) fn digest_text(sha256: Sha256) -> String {
    format!("sha256:{}", hex::encode(sha256.finalize()))
}

fn compress(chunks: &Receiver<Vec<u8>>, compression: Compression, file: File) -> io::Result<(String, u64)> {
    let out = Hashed::new(BufWriter::with_capacity(CHUNK, file));
    let out = match compression {
        Compression::None => copy(chunks, out)?,
        Compression::Gzip => {
            copy(chunks, flate2::write::GzEncoder::new(out, flate2::Compression::new(6)))?.finish()?
        }
        Compression::Zstd => copy(chunks, zstd::Encoder::new(out, 3)?)?.finish()?,
    };
    out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((digest_text(out.sha256), out.size))
}

fn copy<W: Write>(chunks: &Receiver<Vec<u8>>, mut out: W) -> io::Result<W> {
    for chunk in chunks {
        out.write_all(&chunk)?;
    }
    Ok(out)
}

/// A writer that hashes and counts its bytes.
pub(super) struct Hashed<W> {
    pub(super) inner: W,
    pub(super) sha256: Sha256,
    pub(super) size: u64,
}

impl<W> Hashed<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, sha256: Sha256::new(), size: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.sha256.update(&buf[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn write_tar(plan: &[Planned], catalogue: &Catalogue, tar: Chunks) -> Result<(String, u64)> {
    let mut writer = Writer::new(tar);
    for planned in plan {
        write_entry(&mut writer, planned, catalogue)?;
    }
    if !writer.losses().is_empty() {
        return Err(Error::Unexpected(format!(
            "the tar does not hold all that was planned: {:?}",
            writer.losses()
        )));
    }
    let tar = writer.finish().map_err(|error| refused("end of the tar", &error))?;
    tar.finish().at("compressor")
}

fn refused(name: &str, error: &LayerTarError) -> Error {
    Error::Unexpected(format!("{name}: {}", programs::error::chain(error)))
}

fn write_entry(writer: &mut Writer<Chunks>, planned: &Planned, catalogue: &Catalogue) -> Result<()> {
    let mut entry = layer_entry(planned, catalogue);
    let written = match &planned.what {
        What::Directory => writer.write_file(&entry, &mut io::empty()),
        What::File(source) => writer.write_file(&entry, &mut *open(source)?),
        What::Link(target) => writer.write_link(&entry, target.as_bytes()),
        What::Whiteout => writer.write_whiteout(planned.name.as_bytes()),
        What::Reparse { target, mount_point } => {
            entry.kind =
                EntryKind::Symlink { target: target.clone().into_bytes(), mount_point: *mount_point };
            entry.type_flag = type_flag::SYMLINK;
            entry.reparse = Some(reparse::encode_go(target, *mount_point).map_err(|error| {
                Error::Unexpected(format!("{}: {}", planned.name, programs::error::chain(&error)))
            })?);
            writer.write_file(&entry, &mut io::empty())
        }
    };
    written.map_err(|error| refused(&planned.name, &error))?;
    for stream in &planned.streams {
        let written = writer.write_stream(
            &entry,
            stream.name.as_bytes(),
            stream.source.size(),
            &mut *open(&stream.source)?,
        );
        written.map_err(|error| refused(&format!("{}:{}", planned.name, stream.name), &error))?;
    }
    Ok(())
}

/// The entry's metadata. Fields that the plan leaves open are derived from the last write time.
fn layer_entry(planned: &Planned, catalogue: &Catalogue) -> LayerEntry {
    let info = FileInfo {
        attributes: planned.attributes,
        creation_time: FileTime(planned.written),
        last_access_time: FileTime(planned.written + 36_000_000_000),
        last_write_time: FileTime(planned.written),
        change_time: FileTime(planned.written + 12_345_678),
    };
    let mut entry = LayerEntry::new(planned.name.as_bytes(), info);
    entry.size = planned.size();
    entry.security = planned.class.map(|class| catalogue.bytes(class).to_owned());
    let ea = |(name, value): &(String, Vec<u8>)| ExtendedAttribute {
        flags: 0,
        name: name.clone().into(),
        value: value.clone(),
    };
    entry.eas = planned.eas.iter().map(ea).collect();
    entry
}

fn open(source: &Source) -> Result<Box<dyn Read + '_>> {
    Ok(match source {
        Source::Made { kind, seed, size } => Box::new(Content::new(*kind, *seed, *size)),
        Source::Bytes(bytes) => Box::new(bytes.as_slice()),
        Source::Path { path, .. } => Box::new(File::open(path).at(path)?),
    })
}
