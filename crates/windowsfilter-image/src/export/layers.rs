//! How each layer is exported: as the imported blob, if it is kept, otherwise compressed again.

use std::io::{self, Read, Seek};

use windowsfilter::import::Progress;
use windowsfilter::support::Hashed;
use windowsfilter::{DiffId, Digest, LayerId};

use super::manifest::Stored;
use super::sink::Sink;
use super::{Compression, ExportOptions, Format};
use crate::error::{Error, IoContext};
use crate::json::Raw;
use crate::oci::{Descriptor, LAYER, is_foreign};
use crate::records::{ImageRecord, ImageStore};

/// Annotations of a layer that describe its blob's bytes and are wrong once it is compressed again:
/// zstd:chunked (containers/storage `pkg/chunked/internal`) and eStargz (containerd/stargz-snapshotter
/// `estargz/types.go`).
const OF_THE_BLOB: [&str; 3] =
    ["io.github.containers.zstd-chunked.", "containerd.io/snapshot/stargz/", "io.containers.estargz."];

/// How a layer was imported.
pub(super) struct Came {
    /// Its blob's descriptor; `None` if it came in no blob.
    blob: Option<Descriptor>,
    /// The descriptor as it is in the manifest, with all fields.
    raw: Option<Raw>,
    /// The known fields, even without a digest.
    known: Descriptor,
}

impl Came {
    /// Layer number `i` of the image: from the manifest or, for an image without one (committed, for
    /// example), from its record.
    pub(super) fn of(record: &ImageRecord, stored: Option<&Stored>, i: usize) -> Self {
        let source = record.sources.get(i).cloned().unwrap_or_default();
        let zero = Digest::of(b"");
        let known = Descriptor {
            urls: source.urls,
            annotations: Some(source.annotations).filter(|annotations| !annotations.is_empty()),
            ..Descriptor::new(&source.media_type, source.digest.unwrap_or(zero), source.size)
        };
        match stored.and_then(|stored| stored.layer(i)) {
            Some((descriptor, raw)) => Self { blob: Some(descriptor.clone()), raw: Some(raw.clone()), known },
            None => Self { blob: source.digest.map(|_| known.clone()), raw: None, known },
        }
    }

    fn media_type(&self) -> &str {
        self.blob.as_ref().map_or(&self.known.media_type, |blob| &blob.media_type)
    }
}

/// A layer of an export.
pub(super) struct Outgoing {
    /// Its descriptor.
    pub(super) descriptor: Descriptor,
    /// Its descriptor as imported, if unchanged.
    pub(super) as_it_came: Option<Raw>,
    /// The blob in the export: the descriptor's or, for Docker, that of a foreign layer whose own blob is
    /// not in the store.
    pub(super) file: Option<Digest>,
    /// The digest of its tar.
    pub(super) diff_id: DiffId,
    /// Whether it is exported as another blob than it came in.
    pub(super) recompressed: bool,
}

impl ImageStore {
    /// Writes layer `id`, imported as `came`.
    pub(super) fn export_layer(
        &self,
        sink: &mut Sink<'_>,
        id: &LayerId,
        diff_id: DiffId,
        came: Came,
        options: &ExportOptions<'_>,
    ) -> Result<Outgoing, Error> {
        let foreign = is_foreign(came.media_type());
        let stays_foreign = foreign && !options.include_nondistributable;
        let as_asked = options.compression.is_none_or(|asked| asked == Compression::of(came.media_type()));
        if let Some(blob) = came.blob.as_ref().filter(|_| stays_foreign || (as_asked && !foreign)) {
            let file = match self.export_as_it_came(sink, id, diff_id, blob, options)? {
                Some(file) => Some(file),
                // Docker requires every layer's tar, and keeps the foreign descriptor beside it.
                None if stays_foreign && options.format == Format::DockerArchive => {
                    let compression = options.compression.unwrap_or_default();
                    Some(self.compress(sink, id, diff_id, compression, options)?.digest)
                }
                None => None,
            };
            if file.is_some() || stays_foreign {
                let descriptor = blob.clone();
                return Ok(Outgoing { descriptor, as_it_came: came.raw, file, diff_id, recompressed: false });
            }
        }
        let own = came.blob.as_ref().map(|blob| Compression::of(&blob.media_type));
        let compression = options.compression.or(own).unwrap_or_default();
        let mut descriptor = self.compress(sink, id, diff_id, compression, options)?;
        let is_same = came.blob.as_ref().is_some_and(|blob| blob.digest == descriptor.digest);
        descriptor.annotations =
            came.known.annotations.or(came.blob.as_ref().and_then(|b| b.annotations.clone()));
        if let Some(annotations) = descriptor.annotations.as_mut().filter(|_| !is_same) {
            annotations.retain(|key, _| !OF_THE_BLOB.iter().any(|prefix| key.starts_with(prefix)));
        }
        descriptor.annotations = descriptor.annotations.filter(|annotations| !annotations.is_empty());
        let as_it_came = came.raw.filter(|_| is_same && !foreign);
        let file = Some(descriptor.digest);
        let recompressed = came.blob.is_some() && !is_same;
        Ok(Outgoing { descriptor, as_it_came, file, diff_id, recompressed })
    }

    /// Writes the imported blob of a layer, if it is kept or is the plain tar.
    fn export_as_it_came(
        &self,
        sink: &mut Sink<'_>,
        id: &LayerId,
        diff_id: DiffId,
        blob: &Descriptor,
        options: &ExportOptions<'_>,
    ) -> Result<Option<Digest>, Error> {
        if blob.digest == diff_id.0 {
            let written = self.compress(sink, id, diff_id, Compression::None, options)?;
            // A blob that was in the store before was never compared with this manifest's size.
            return match written.size == blob.size {
                true => Ok(Some(blob.digest)),
                false => Err(Error::SizeMismatch {
                    what: format!("layer {id}"),
                    expected: blob.size,
                    actual: written.size,
                }),
            };
        }
        let Some(file) = self.open_layer_blob(&blob.digest, blob.size)? else { return Ok(None) };
        let progress = options.progress.begin(id, blob.size);
        let what = format!("the blob of layer {id}");
        let mut kept = Checked { bytes: Hashed::new(file), progress: &*progress };
        sink.blob(&blob.digest, blob.size, &mut kept, &what)?;
        kept.verify(what, blob.digest)?;
        Ok(Some(blob.digest))
    }

    /// Compresses and writes a layer's tar.
    fn compress(
        &self,
        sink: &mut Sink<'_>,
        id: &LayerId,
        diff_id: DiffId,
        compression: Compression,
        options: &ExportOptions<'_>,
    ) -> Result<Descriptor, Error> {
        let media_type = format!("{LAYER}{}", compression.suffix());
        let cancel = self.layers.cancel();
        let tar = cancel.reader(self.layers.open_tar(id)?);
        let what = format!("layer {id}");
        let size = self.layers.record(id)?.tar_size;
        let progress = options.progress.begin(id, size);
        let mut tar = Checked { bytes: Hashed::new(tar), progress: &*progress };
        if compression == Compression::None {
            sink.blob(&diff_id.0, size, &mut tar, &what)?;
            tar.verify(what, diff_id.0)?;
            return Ok(Descriptor::new(&media_type, diff_id.0, size));
        }
        let mut blob = sink.temporary(&self.layers)?;
        compression.copy(&mut tar, &mut blob.file).at("compress to a file in", &blob.place)?;
        tar.verify(what.clone(), diff_id.0)?;
        blob.file.rewind().at("read a file in", &blob.place)?;
        let (digest, size) =
            Digest::of_reader(cancel.reader(&mut blob.file)).at("read a file in", &blob.place)?;
        sink.finished_blob(&digest, size, blob, &what)?;
        Ok(Descriptor::new(&media_type, digest, size))
    }
}

/// A reader that hashes a tar or blob while it is exported.
struct Checked<'a, R> {
    bytes: Hashed<R>,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.progress.blob_bytes(count as u64);
        Ok(count)
    }
}

impl<R> Checked<'_, R> {
    fn verify(self, what: String, expected: Digest) -> Result<(), Error> {
        match self.bytes.finish() {
            (actual, _) if actual == expected => Ok(()),
            (actual, _) => Err(Error::DigestMismatch { what, expected, actual }),
        }
    }
}
