//! Export: an image as other tools load it.
//!
//! All three formats are one OCI layout: a directory, a tar of it, or a tar of it with Docker's `manifest.json` beside, as `docker save`
//! writes since Docker 25. The config goes out as it came in, and so does the manifest where it can. Layers are checked against their diffIDs
//! on the way, and foreign ones become ordinary ones: whoever loads the image need not fetch them. The same image gives the same bytes.

mod manifest;
mod sink;

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use windowsfilter::{DiffId, Digest, Hashed, LayerId, Progress};

use crate::error::{Error, IoContext};
use crate::import::ImageProgress;
use crate::oci::{
    CONFIG, CONTAINERD_NAME, Config, Descriptor, INDEX, LAYER, MANIFEST, Manifest, REF_NAME, SavedImage,
};
use crate::records::{ImageRecord, ImageStore};
use crate::reference::Reference;
use sink::Sink;

/// What an export looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout directory.
    #[default]
    Oci,
    /// A tar of it.
    OciArchive,
    /// The same with a `manifest.json`, for `docker load`.
    DockerArchive,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" => Ok(Self::Oci),
            "oci-archive" => Ok(Self::OciArchive),
            "docker-archive" => Ok(Self::DockerArchive),
            _ => Err(format!("{text:?} is none of oci, oci-archive, docker-archive")),
        }
    }
}

/// How the layers of an export are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the blobs' digests are the diffIDs.
    None,
    /// What every tool reads.
    #[default]
    Gzip,
    /// Faster and smaller.
    Zstd,
}

impl Compression {
    fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }
}

impl Compression {
    /// Copies `from` to `to`, compressed; nothing in the result differs from run to run.
    ///
    /// # Errors
    /// What either of them meets.
    pub fn copy(self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        // Large reads: both compressors and the disk like them.
        let mut from = io::BufReader::with_capacity(1 << 20, from);
        let to = io::BufWriter::with_capacity(1 << 20, to);
        let mut to = match self {
            Self::None => {
                let mut to = to;
                io::copy(&mut from, &mut to)?;
                to
            }
            Self::Gzip => {
                let mut gzip = flate2::GzBuilder::new().mtime(0).write(to, flate2::Compression::default());
                io::copy(&mut from, &mut gzip)?;
                gzip.finish()?
            }
            Self::Zstd => {
                let mut zstd = zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                io::copy(&mut from, &mut zstd)?;
                zstd.finish()?
            }
        };
        to.flush()
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!("{text:?} is none of none, gzip, zstd")),
        }
    }
}

/// What to write and how.
pub struct ExportOptions<'a> {
    /// The form of the whole.
    pub format: Format,
    /// How layers are compressed.
    pub compression: Compression,
    /// Who is told how far it is.
    pub progress: &'a dyn ImageProgress,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Where it is.
    pub path: PathBuf,
}

impl ImageStore<'_> {
    /// Writes the image that `text` means to `path`, which must not exist; it appears there when it is complete.
    ///
    /// # Errors
    /// [`Error::Exists`]; a layer that is damaged; a full disk.
    pub fn export(&self, text: &str, path: &Path, options: &ExportOptions<'_>) -> Result<Exported, Error> {
        let record = self.lookup(text)?;
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let mut sink = Sink::create(path, options.format)?;
        let digest = self.write_image(&mut sink, &record, options)?;
        sink.finish(path)?;
        Ok(Exported { digest, path: path.to_owned() })
    }

    /// Writes an archive of the image that `text` means to `out`, and returns its manifest's digest. After an error, what was written is none.
    ///
    /// # Errors
    /// [`Error::DirectoryFormat`]; a layer that is damaged; what `out` meets.
    pub fn export_to(
        &self,
        text: &str,
        out: &mut dyn Write,
        options: &ExportOptions<'_>,
    ) -> Result<Digest, Error> {
        if options.format == Format::Oci {
            return Err(Error::DirectoryFormat);
        }
        let record = self.lookup(text)?;
        let mut sink = Sink::stream(out)?;
        let digest = self.write_image(&mut sink, &record, options)?;
        sink.finish(Path::new("-"))?;
        Ok(digest)
    }

    fn write_image(
        &self,
        sink: &mut Sink<'_>,
        record: &ImageRecord,
        options: &ExportOptions<'_>,
    ) -> Result<Digest, Error> {
        let (config, bytes) = self.config(record)?;
        let config_descriptor = sink.document(CONFIG, &bytes)?;
        options.progress.layers(&record.layers);
        let mut layers = Vec::new();
        for (id, diff_id) in record.layers.iter().zip(&config.rootfs.diff_ids) {
            layers.push(self.export_layer(sink, id, *diff_id, options)?);
        }
        let (manifest, bytes) = self.export_manifest(record, config_descriptor, layers)?;
        write_index(sink, record, &config, (&manifest, &bytes), options.format)
    }

    fn export_layer(
        &self,
        sink: &mut Sink<'_>,
        id: &LayerId,
        diff_id: DiffId,
        options: &ExportOptions<'_>,
    ) -> Result<Descriptor, Error> {
        let compression = options.compression;
        let media_type = format!("{LAYER}{}", compression.suffix());
        let tar = self.layers.open_tar(id)?;
        let what = format!("layer {id}");
        let size = self.layers.record(id)?.tar_size;
        let progress = options.progress.begin(id, size);
        let mut tar = Checked { tar: Hashed::new(tar), progress: &*progress };
        if compression == Compression::None {
            sink.blob(&diff_id.0, size, &mut tar, &what)?;
            tar.verify(what, diff_id)?;
            return Ok(Descriptor::new(&media_type, diff_id.0, size));
        }
        let mut blob = sink.temporary(self.layers)?;
        compression.copy(&mut tar, &mut blob.file).at("compress to a file in", &blob.place)?;
        tar.verify(what.clone(), diff_id)?;
        blob.file.rewind().at("read a file in", &blob.place)?;
        let (digest, size) = Digest::of_reader(&mut blob.file).at("read a file in", &blob.place)?;
        sink.finished_blob(&digest, size, blob, &what)?;
        Ok(Descriptor::new(&media_type, digest, size))
    }
}

/// A layer's tar on its way out.
struct Checked<'a, R> {
    tar: Hashed<R>,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(buffer)?;
        self.progress.blob_bytes(count as u64);
        Ok(count)
    }
}

impl<R> Checked<'_, R> {
    fn verify(self, what: String, expected: DiffId) -> Result<(), Error> {
        let (actual, _) = self.tar.finish();
        if actual == expected.0 {
            Ok(())
        } else {
            Err(Error::DigestMismatch { what, expected: expected.0, actual })
        }
    }
}

fn write_index(
    sink: &mut Sink<'_>,
    record: &ImageRecord,
    config: &Config,
    (manifest, bytes): (&Manifest, &[u8]),
    format: Format,
) -> Result<Digest, Error> {
    let reference = Reference::of_record(&record.reference)?;
    let mut descriptor = sink.document(MANIFEST, bytes)?;
    let digest = descriptor.digest;
    descriptor.platform = Some(config.platform.clone());
    // A digest in a name is the manifest's or it is wrong.
    let name = match reference.digest() {
        Some(claimed) if claimed != digest => reference.tagged(),
        _ => Some(reference.with_tag()),
    };
    if let Some(name) = name {
        let full = Reference::of_record(&name)?.full().to_owned();
        descriptor.annotations =
            Some([(REF_NAME.to_owned(), name), (CONTAINERD_NAME.to_owned(), full)].into());
    }
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
    if format == Format::DockerArchive {
        let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let saved = SavedImage {
            config: blob(&manifest.config.digest),
            // Docker loads no other names than tags (moby `image/tarexport/load.go`).
            repo_tags: reference.tagged().map(|tag| vec![tag]),
            layers: manifest.layers.iter().map(|layer| blob(&layer.digest)).collect(),
            layer_sources: None,
        };
        sink.file("manifest.json", &json(&[saved]))?;
    }
    sink.file("index.json", &json(&index))?;
    sink.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("documents have string keys and finite numbers")
}
