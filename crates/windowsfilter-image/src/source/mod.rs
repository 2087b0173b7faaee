//! Where images come from: a directory or an archive of named files, holding an OCI layout or what `docker save` wrote.
//!
//! [`open`] finds the one image that is meant and reads its documents, checked. Layers are only pointed
//! at; [`FoundImage::open_layer`] opens one.

mod archive;
mod docker_archive;
mod oci_layout;
mod section;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use windowsfilter::{Digest, LayerStore};

use crate::error::{Error, IoContext};
use crate::oci::{Config, Descriptor, MAX_JSON, PlatformFields, is_foreign};
use crate::platform::Platform;
use crate::reference::Reference;
use archive::Archive;
use section::Section;

/// Where to read an image from.
pub enum Source<'a> {
    /// An OCI layout directory, or an archive, plain or compressed.
    Path(PathBuf),
    /// An archive that comes as a stream. It is spooled into the store, since its parts are in no useful order.
    Stream(Box<dyn Read + Send + 'a>),
}

impl Source<'_> {
    /// A path as given on the command line: `-` is standard input.
    pub fn from_argument(path: &Path) -> Self {
        if path.as_os_str() == "-" {
            Self::Stream(Box::new(io::stdin()))
        } else {
            Self::Path(path.to_owned())
        }
    }
}

/// Named files: those below a directory, or those in a tar.
pub(crate) enum Container {
    Directory(PathBuf),
    Archive(Archive),
}

impl Container {
    /// Opens `source`; what has to be spooled goes into `store`.
    pub(crate) fn open(source: Source<'_>, store: &LayerStore) -> Result<Self, Error> {
        match source {
            Source::Path(path) if path.is_dir() => Ok(Self::Directory(path)),
            Source::Path(path) => {
                let file = File::open(&path).at("open", &path)?;
                Ok(Self::Archive(Archive::open(file, &path, store)?))
            }
            Source::Stream(stream) => {
                Ok(Self::Archive(Archive::spool(stream, "standard input".into(), store)?))
            }
        }
    }

    /// What messages call it.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Archive(archive) => archive.label.clone(),
        }
    }

    /// Opens the file `name`; `None` where there is none.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Blob>, Error> {
        match self {
            Self::Archive(archive) => archive.file(name),
            // Names come from documents, which must not lead out of the directory.
            Self::Directory(_)
                if Path::new(name).components().any(|c| !matches!(c, Component::Normal(_))) =>
            {
                Ok(None)
            }
            Self::Directory(directory) => {
                let path = directory.join(name);
                let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
                // Asked first, because opening a pipe waits for somebody to write to it.
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

    /// Reads the document `name`, which must not be large.
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
    /// What the manifest says of it; `docker save` of old says nothing.
    pub(crate) descriptor: Option<Descriptor>,
    /// The file it is in.
    pub(crate) file: String,
}

/// An image in a container: its documents, checked against their digests.
pub(crate) struct FoundImage {
    /// How it is called there.
    pub(crate) names: Vec<String>,
    /// The manifest, unless it comes from `docker save`.
    pub(crate) manifest: Option<(Digest, Vec<u8>)>,
    pub(crate) config: (Digest, Vec<u8>),
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
            _ => Err(Error::MissingBlob { path, what: format!("layer {}", layer.file) }),
        }
    }
}

/// Which of several images to take.
pub(crate) struct Wanted<'a> {
    pub(crate) reference: Option<&'a Reference>,
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) force: bool,
}

/// Finds the image that is wanted.
pub(crate) fn find(container: &Container, wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let found = match container.document("index.json")? {
        Some(index) => oci_layout::find(container, &index, wanted)?,
        None => match container.document("manifest.json")? {
            Some(manifest) => docker_archive::find(container, &manifest, wanted)?,
            None => return Err(Error::NotAnImage { path: container.label() }),
        },
    };
    let os = Config::parse(&found.config.1)?.platform.os;
    if os != "windows" && !wanted.force {
        return Err(Error::NotWindows { os: if os.is_empty() { "no named system".into() } else { os } });
    }
    Ok(found)
}

/// One of several images, before its layers are looked at.
struct Candidate<T> {
    names: Vec<String>,
    platform: PlatformFields,
    /// Whether its manifest is there.
    present: bool,
    image: T,
}

/// Whether this is only a tag of some image, or at least need not be more. containerd takes it for that (`core/images/archive/reference.go`,
/// `refTranslator`), umoci and users of skopeo (`oci:DIRECTORY:TAG`) write it; Podman makes a name of it.
fn is_tag(name: &str) -> bool {
    !name.contains(['/', ':', '@'])
}

/// Leaves what `wanted` names, if there is any: by its whole name, else by its tag.
fn retain_named<T>(all: &mut Vec<Candidate<T>>, wanted: &Reference) -> bool {
    let same = |name: &str| Reference::parse(name).is_ok_and(|reference| reference == *wanted);
    let same_tag = |name: &str| wanted.tag() == Some(name);
    for is_wanted in [&same as &dyn Fn(&str) -> bool, &same_tag] {
        let named = |c: &Candidate<T>| c.names.iter().any(|name| is_wanted(name));
        if all.iter().any(named) {
            all.retain(named);
            return true;
        }
    }
    false
}

/// Chooses: by name if that names one of them, what is there before what is not, by platform, else the first for Windows. Never between
/// different names.
fn choose<T>(
    container: &Container,
    mut all: Vec<Candidate<T>>,
    wanted: &Wanted<'_>,
) -> Result<Candidate<T>, Error> {
    let path = container.label();
    if all.is_empty() {
        return Err(Error::NoManifest { path });
    }
    let by_name = wanted.reference.is_some_and(|reference| retain_named(&mut all, reference));
    // Archives of containerd and Docker name the manifests of every platform, and have those of some.
    if all.iter().any(|c| c.present) {
        all.retain(|c| c.present);
    }
    let available: Vec<String> = all.iter().map(|c| c.platform.to_string()).collect();
    match wanted.platform {
        Some(platform) => all.retain(|c| platform.accepts(&c.platform)),
        // A single image speaks for itself: whether it will do is decided by its config.
        None if all.len() > 1 => {
            let windows = |c: &Candidate<T>| c.platform.os == "windows";
            if !wanted.force || all.iter().any(windows) {
                all.retain(windows);
            }
        }
        None => {}
    }
    let first_names = all.first().map(|c| c.names.clone()).unwrap_or_default();
    if !by_name && all.iter().any(|c| c.names != first_names) {
        let written = |name: &String| if is_tag(name) { format!("NAME:{name}") } else { name.clone() };
        let names = all.iter().flat_map(|c| c.names.iter().map(written)).collect();
        return Err(Error::SeveralImages { path, names });
    }
    all.into_iter().next().ok_or_else(|| Error::NoSuchPlatform {
        path,
        wanted: wanted.platform.map_or_else(|| "windows".into(), ToString::to_string),
        available,
    })
}
