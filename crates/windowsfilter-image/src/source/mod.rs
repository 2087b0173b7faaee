//! Sources of images: a directory or an archive with an OCI layout, the output of `docker save`, or
//! skopeo's `dir:`.
//!
//! [`find`] finds the wanted image and reads and checks its documents. It only locates the layers;
//! [`FoundImage::open_layer`] opens one.

mod archive;
mod choose;
mod docker_archive;
mod documents;
mod location;
mod oci_layout;
mod section;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use windowsfilter::{DiffId, Digest, LayerStore};

use crate::error::{Error, IoContext};
use crate::json::{self, Lenient, Raw};
use crate::oci::{Config, Descriptor, MAX_JSON, is_foreign};
use crate::platform::{Platform, is_windows};
use crate::reference::Reference;
use archive::Archive;
use section::Section;

/// The source of an image.
pub enum Source<'a> {
    /// An OCI layout directory, or an archive, plain or compressed.
    Path(PathBuf),
    /// An archive as a stream. It is spooled into the store, because its parts come in any order.
    Stream(Box<dyn Read + Send + 'a>),
}

/// Named files: those below a directory, or those in a tar.
pub(crate) enum Container {
    Directory(PathBuf),
    Archive(Archive),
}

impl Container {
    /// Opens `source`; spools into `store` if necessary.
    pub(crate) fn open(source: Source<'_>, store: &LayerStore) -> Result<Self, Error> {
        match source {
            Source::Path(path) if path.is_dir() => Ok(Self::Directory(path)),
            // Opening a named pipe blocks until a writer opens it.
            Source::Path(path) if path.metadata().is_ok_and(|found| !found.is_file()) => {
                let stream = store.cancel().open(&path).at("open", &path)?;
                Ok(Self::Archive(Archive::spool(stream, path.display().to_string(), store)?))
            }
            Source::Path(path) => {
                let file = match File::open(&path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(location::missing(&path, e)),
                    file => file.at("open", &path)?,
                };
                Ok(Self::Archive(Archive::open(file, &path, store)?))
            }
            Source::Stream(stream) => {
                Ok(Self::Archive(Archive::spool(stream, "standard input".into(), store)?))
            }
        }
    }

    /// Its name in messages.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Archive(archive) => archive.label.clone(),
        }
    }

    /// Opens the file `name`; `None` if missing.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Blob>, Error> {
        match self {
            Self::Archive(archive) => archive.file(name),
            // Windows' separators; on other systems no tool makes such names.
            Self::Directory(_) if !cfg!(windows) && name.contains('\\') => {
                self.file(&name.replace('\\', "/"))
            }
            // Names come from documents, which must not lead out of the directory.
            Self::Directory(_)
                if Path::new(name).components().any(|c| !matches!(c, Component::Normal(_))) =>
            {
                Ok(None)
            }
            Self::Directory(directory) => {
                let path = directory.join(name);
                let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
                // Check first: opening a pipe blocks until a writer opens it.
                match path.metadata() {
                    Ok(metadata) if metadata.is_file() => {}
                    Ok(_) => return Ok(None),
                    Err(e) if missing(&e) => return Ok(None),
                    Err(e) => return Err(e).at("read", &path),
                }
                let file = match File::open(&path) {
                    Ok(file) => file,
                    Err(e) if missing(&e) => return Ok(None),
                    Err(e) => return Err(e).at("open", &path),
                };
                let metadata = file.metadata().at("read", &path)?;
                let (file, size) = (Arc::new(file), metadata.len());
                Ok(metadata.is_file().then(|| Blob { section: Section::whole(&file, size), size }))
            }
        }
    }

    /// Whether this looks like a single layer instead of an image.
    fn is_layer(&self) -> bool {
        match self {
            Self::Archive(archive) => archive.is_layer(),
            Self::Directory(path) => ["Files", "Hives"].iter().all(|name| path.join(name).is_dir()),
        }
    }

    /// Reads the small document `name`.
    pub(crate) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(mut blob) = self.file(name)? else { return Ok(None) };
        let what = format!("{name} of {}", self.label());
        if blob.size > MAX_JSON {
            return Err(Error::TooLong { what, actual: blob.size, limit: MAX_JSON });
        }
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).map_err(|source| Error::Archive { path: what.clone(), source })?;
        if bytes.len() as u64 != blob.size {
            return Err(Error::SizeMismatch { what, expected: blob.size, actual: bytes.len() as u64 });
        }
        Ok(Some(bytes))
    }
}

/// An open file of a [`Container`], at its start.
pub(crate) struct Blob {
    section: Section,
    /// Bytes in it.
    pub(crate) size: u64,
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.section.read(buffer)
    }
}

/// A layer of a [`FoundImage`].
pub(crate) struct FoundLayer {
    /// Its descriptor in the manifest; old versions of `docker save` have none.
    pub(crate) descriptor: Option<Descriptor>,
    /// The file it is in.
    pub(crate) file: String,
    /// Whether the file is the blob that the descriptor describes: `docker save` describes the pulled blob,
    /// but contains its tar.
    pub(crate) is_blob: bool,
}

/// An image in a container: its documents, checked against their digests.
pub(crate) struct FoundImage {
    /// Its future names; at least one.
    pub(crate) names: Vec<Reference>,
    /// The manifest, except from `docker save`.
    pub(crate) manifest: Option<(Digest, Vec<u8>)>,
    pub(crate) config: (Digest, Vec<u8>),
    /// The digests of its layers' tars, from the config.
    pub(crate) diff_ids: Vec<DiffId>,
    pub(crate) layers: Vec<FoundLayer>,
}

impl FoundImage {
    /// Opens layer number `index`.
    pub(crate) fn open_layer(&self, container: &Container, index: usize) -> Result<Blob, Error> {
        let layer = &self.layers[index];
        if let Some(blob) = container.file(&layer.file)? {
            return Ok(blob);
        }
        let path = container.label();
        match &layer.descriptor {
            Some(d) if is_foreign(&d.media_type) => {
                Err(Error::ForeignLayer { path, digest: d.digest, urls: d.urls.clone() })
            }
            _ if layer.file.is_empty() => {
                let what =
                    format!("layer {} of {}, which {path} gives no file,", index + 1, self.layers.len());
                Err(Error::MissingBlob { path, what })
            }
            _ => Err(Error::MissingBlob { path, what: format!("layer {}", layer.file) }),
        }
    }
}

/// Which of several images to take, and its name.
pub(crate) struct Wanted<'a> {
    /// Which one: a name, a tag or a digest.
    pub(crate) select: Option<&'a str>,
    /// The image's future name; also selects the image if one has this name.
    pub(crate) reference: Option<&'a Reference>,
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) force: bool,
}

/// Finds the wanted image.
pub(crate) fn find(container: &Container, wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let manifest = container.document("manifest.json")?;
    let saved = |manifest: &[u8]| {
        // A list is from `docker save`, an object is a manifest.
        let is_list = json::read::<Raw>(manifest).is_ok_and(|text| text.as_str().starts_with('['));
        let found = match is_list || has_no_version(manifest) {
            true => docker_archive::find(container, manifest, wanted),
            false => oci_layout::find_skopeo(container, manifest, wanted),
        };
        found.and_then(|found| for_windows(found, wanted))
    };
    let Some(index) = container.document("index.json")? else {
        return match manifest {
            Some(manifest) => saved(&manifest),
            None => Err(Error::NotAnImage { path: container.label(), is_layer: container.is_layer() }),
        };
    };
    let found = oci_layout::find(container, &index, wanted).and_then(|found| for_windows(found, wanted));
    match (found, manifest) {
        // If an index leads to no image, still use `manifest.json`: Docker writes such indexes
        // (moby#47210).
        (Err(error), Some(manifest)) if leads_nowhere(&error) => {
            let saved = saved(&manifest).map_err(|_| error)?;
            Ok(called_as(container, &index, &saved, wanted).unwrap_or(saved))
        }
        (Ok(found), Some(manifest)) => with_foreign_layers(container, found, &manifest),
        (found, _) => found,
    }
}

/// The same image as described by the index, which has more data than `manifest.json`, with its names
/// there.
fn called_as(
    container: &Container,
    index: &[u8],
    saved: &FoundImage,
    wanted: &Wanted<'_>,
) -> Option<FoundImage> {
    let wanted = Wanted { reference: saved.names.first(), ..*wanted };
    let found = oci_layout::find(container, index, &wanted).ok()?;
    (found.config.0 == saved.config.0).then(|| FoundImage { names: saved.names.clone(), ..found })
}

/// A layout may leave out foreign layers, but `docker save` adds them beside it.
fn with_foreign_layers(
    container: &Container,
    mut found: FoundImage,
    manifest: &[u8],
) -> Result<FoundImage, Error> {
    let files = docker_archive::layer_files(manifest, &found.config.0).unwrap_or_default();
    if files.len() != found.layers.len() {
        return Ok(found);
    }
    for (layer, file) in found.layers.iter_mut().zip(files) {
        let foreign = layer.descriptor.as_ref().is_some_and(|d| is_foreign(&d.media_type));
        if foreign && container.file(&layer.file)?.is_none() && container.file(&file)?.is_some() {
            (layer.file, layer.is_blob) = (file, false);
        }
    }
    Ok(found)
}

/// Whether a document is not a manifest of any version.
fn has_no_version(manifest: &[u8]) -> bool {
    #[derive(Default, serde::Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Versioned {
        schema_version: Lenient<u64>,
        media_type: Lenient<String>,
    }
    json::read::<Versioned>(manifest).is_ok_and(|versioned| {
        versioned.schema_version.0.unwrap_or(0) == 0 && versioned.media_type.0.is_none()
    })
}

fn for_windows(found: FoundImage, wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let os = Config::parse(&found.config.1)?.platform.os;
    if is_windows(&os) || wanted.force {
        return Ok(found);
    }
    Err(Error::NotWindows { os: if os.is_empty() { "no named system".into() } else { os } })
}

/// Whether an index lacks an image, the wanted one, or a name for it. Any other error is damage, which no
/// other document can repair.
fn leads_nowhere(error: &Error) -> bool {
    matches!(
        error,
        Error::NoManifest { .. }
            | Error::NoSuchPlatform { .. }
            | Error::NotWindows { .. }
            | Error::NotInSource { .. }
            | Error::NoName { .. }
            | Error::MissingBlob { .. }
    )
}
