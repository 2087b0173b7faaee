//! A whole image: layers, configuration and manifest, in one of the formats that images come in.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::layer::{self, Compression, LayerDigests, digest_text};
use super::plan::Planned;
use super::security::Catalogue;
use super::{archive, base, diff, documents, real_binaries};
use programs::error::{Error, IoContext, Result};

/// The format of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A directory in the OCI image layout.
    #[default]
    Oci,
    /// The same as a tar.
    OciArchive,
    /// `docker save` up to Docker 24: one directory per layer, `manifest.json`.
    DockerArchive,
    /// `docker save` from Docker 25: an OCI layout with a `manifest.json`.
    DockerArchiveOci,
}

/// The specification of an image. The same specification gives the same bytes.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The seed of everything random.
    pub seed: u64,
    /// Entries of all layers together, streams not counted. Too small numbers are raised to the minimum.
    pub entries: usize,
    /// Approximate bytes of content of all layers together.
    pub bytes: u64,
    /// Layers, the base included; at least 1.
    pub layers: usize,
    /// Compression of blobs.
    pub compression: Compression,
    /// The base layer's descriptor is nondistributable and has URLs, as Windows base images had until 2023.
    pub foreign: bool,
    /// The base layer holds real Windows programs from Debian's packages instead of generated ones.
    pub real_binaries: bool,
    /// The image's name in the index.
    pub reference: String,
    /// The format.
    pub format: Format,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            seed: 1,
            entries: 1000,
            bytes: 20_000_000,
            layers: 3,
            compression: Compression::Gzip,
            foreign: false,
            real_binaries: false,
            reference: "sample:latest".into(),
            format: Format::Oci,
        }
    }
}

/// The written image.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Digest of the manifest.
    pub manifest: String,
    /// Digest of the configuration: the image's ID.
    pub config: String,
    /// The layers, base first.
    pub layers: Vec<LayerSummary>,
}

/// One layer of it.
#[derive(Clone, Debug, Serialize)]
pub struct LayerSummary {
    /// Entries, streams not counted.
    pub entries: usize,
    /// Digests and sizes.
    #[serde(flatten)]
    pub digests: LayerDigests,
}

/// Writes the image to `out`, which must not exist.
///
/// # Errors
/// If `out` exists or cannot be written.
pub fn write(spec: &Spec, out: &Path) -> Result<Summary> {
    if out.exists() {
        return Err(Error::Unexpected(format!("{}: exists already", out.display())));
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).at(parent)?;
    let work = tempfile::Builder::new().prefix(".sample-").tempdir_in(parent).at(parent)?;
    let image = Image::create(spec, work.path())?;
    match spec.format {
        Format::Oci => fs::rename(work.path(), out).at(out).map(|()| _ = work.keep())?,
        Format::OciArchive => archive::directory(work.path(), out)?,
        Format::DockerArchiveOci => {
            write_file(&work.path().join("manifest.json"), &image.docker_manifest(ArchiveStyle::Blobs)?)?;
            archive::directory(work.path(), out)?;
        }
        Format::DockerArchive => archive::docker(&image, work.path(), out)?,
    }
    Ok(image.summary)
}

/// An image whose OCI layout is on disk.
pub(super) struct Image {
    pub(super) config: Vec<u8>,
    pub(super) reference: String,
    pub(super) summary: Summary,
}

/// Paths of layers in a `docker save` archive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ArchiveStyle {
    /// `blobs/sha256/<digest>`.
    Blobs,
    /// `<id>/layer.tar`.
    Directories,
}

impl Image {
    fn create(spec: &Spec, layout: &Path) -> Result<Self> {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).at(&blobs)?;
        let build = 1000 + spec.seed % 4000;
        let catalogue = Catalogue::new(spec.seed);
        let mut layers = Vec::new();
        for_each_layer(spec, build, |plan| {
            let partial = blobs.join("partial");
            let digests = layer::write(plan, &catalogue, spec.layer_compression(), &partial)?;
            let blob = blob_path(layout, &digests.digest);
            fs::rename(&partial, &blob).at(&blob)?;
            layers.push(LayerSummary { entries: plan.len(), digests });
            Ok(())
        })?;
        let config = to_json("configuration", &documents::config(spec, build, &layers))?;
        let config = if layers.len() == 1 { documents::as_microsoft_spells(&config) } else { config };
        let config_digest = write_blob(layout, &config)?;
        let manifest = to_json("manifest", &documents::manifest(spec, &config, &config_digest, &layers))?;
        let manifest_digest = write_blob(layout, &manifest)?;
        let index = to_json("index", &documents::index(spec, build, &manifest, &manifest_digest))?;
        write_file(&layout.join("index.json"), &index)?;
        write_file(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let summary = Summary { manifest: manifest_digest, config: config_digest, layers };
        Ok(Self { config, reference: spec.reference.clone(), summary })
    }

    /// `manifest.json` of a `docker save` archive.
    pub(super) fn docker_manifest(&self, style: ArchiveStyle) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Saved<'a> {
            config: String,
            repo_tags: [&'a str; 1],
            layers: Vec<String>,
        }
        let layer_name = |layer: &LayerSummary| match style {
            ArchiveStyle::Blobs => format!("blobs/sha256/{}", encoded(&layer.digests.digest)),
            ArchiveStyle::Directories => format!("{}/layer.tar", encoded(&layer.digests.diff_id)),
        };
        let config = match style {
            ArchiveStyle::Blobs => format!("blobs/sha256/{}", encoded(&self.summary.config)),
            ArchiveStyle::Directories => format!("{}.json", encoded(&self.summary.config)),
        };
        let layers = self.summary.layers.iter().map(layer_name).collect();
        to_json("manifest.json", &[Saved { config, repo_tags: [&self.reference], layers }])
    }
}

impl Spec {
    /// Older `docker save` archives hold plain layers.
    pub(super) fn layer_compression(&self) -> Compression {
        if self.format == Format::DockerArchive { Compression::None } else { self.compression }
    }
}

/// Plans the layers one after the other: only the base and one diff layer are in memory at a time.
fn for_each_layer(spec: &Spec, build: u64, mut write: impl FnMut(&[Planned]) -> Result<()>) -> Result<()> {
    let diffs = spec.layers.saturating_sub(1);
    // The base has at least half of all entries.
    let each = (spec.entries / 25).min(spec.entries / 2 / diffs.max(1)).max(diff::SMALLEST);
    let diff_bytes = if diffs == 0 { 0 } else { spec.bytes / 5 / diffs as u64 };
    let base = if spec.real_binaries {
        real_binaries::plan()?
    } else {
        let entries = spec.entries.saturating_sub(each * diffs);
        base::plan(spec.seed, build, entries, spec.bytes - diff_bytes * diffs as u64)
    };
    write(&base)?;
    for number in 1..=diffs {
        write(&diff::plan(spec.seed, build, number, each, diff_bytes, &base))?;
    }
    Ok(())
}

/// The digest's hex digits.
pub(super) fn encoded(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

/// A blob's path in an OCI layout.
#[must_use]
pub fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs/sha256").join(encoded(digest))
}

pub(super) fn write_blob(layout: &Path, bytes: &[u8]) -> Result<String> {
    let digest = digest_text(Sha256::new_with_prefix(bytes));
    write_file(&blob_path(layout, &digest), bytes)?;
    Ok(digest)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path).and_then(|mut file| file.write_all(bytes)).at(path)
}

pub(super) fn to_json<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Json { what: what.into(), source })
}
