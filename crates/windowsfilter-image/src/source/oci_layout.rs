//! OCI image layouts: `index.json`, and blobs by digest. Source: image-spec `image-layout.md`.
//!
//! `docker save` since Docker 25 writes this too, beside its own `manifest.json`.

use std::collections::HashSet;

use serde::Deserialize;
use windowsfilter::Digest;

use super::{Candidate, Container, FoundImage, FoundLayer, Wanted, choose, is_tag};
use crate::error::Error;
use crate::oci::{
    ATTACHED, Config, Descriptor, Index, Manifest, PlatformFields, is_image_config, is_manifest, parse,
};
use crate::reference::Reference;

/// Indexes in indexes: Docker writes one level. The format sets no bound, and this is untrusted.
const MAX_DEPTH: usize = 4;
/// Manifests in one layout; the largest official images have some dozens.
const MAX_MANIFESTS: usize = 10_000;

pub(super) fn find(container: &Container, index: &[u8], wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let what = format!("index.json of {}", container.label());
    let mut search = Search { container, seen: HashSet::new(), read: 0, found: Vec::new() };
    search.index(parse(&what, index)?, None, &[])?;
    let chosen = choose(container, search.found, wanted)?;
    let names = whole_names(container, chosen.names, wanted)?;
    let pointer = chosen.image;
    if let Some(name) = wanted.reference.cloned().or_else(|| Reference::parse(names.first()?).ok()) {
        pointer.check_name(&name)?;
    }
    let (digest, bytes) = (pointer.manifest.digest, read(container, "manifest", &pointer.manifest)?);
    let manifest: Manifest = parse(&format!("manifest {digest}"), &bytes)?;
    let config = read(container, "config", &manifest.config)?;
    let layers = manifest
        .layers
        .into_iter()
        .map(|descriptor| FoundLayer { file: blob_name(&descriptor.digest), descriptor: Some(descriptor) });
    Ok(FoundImage {
        names,
        manifest: Some((digest, bytes)),
        config: (manifest.config.digest, config),
        layers: layers.collect(),
    })
}

/// What an image may be called without being asked: not by a tag alone.
fn whole_names(container: &Container, names: Vec<String>, wanted: &Wanted<'_>) -> Result<Vec<String>, Error> {
    let (tags, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| is_tag(name));
    match tags.first() {
        Some(tag) if wanted.reference.is_none() => {
            Err(Error::NoName { path: format!("{} (tag {tag})", container.label()) })
        }
        _ => Ok(names),
    }
}

/// Where a manifest is.
struct Pointer {
    manifest: Descriptor,
    /// The indexes on the way to it.
    indexes: Vec<Digest>,
}

impl Pointer {
    /// A name with a digest says which manifest it means, or, as registries do, which index with manifests for several platforms.
    fn check_name(&self, name: &Reference) -> Result<(), Error> {
        let actual = self.manifest.digest;
        match name.digest() {
            Some(expected) if expected != actual && !self.indexes.contains(&expected) => {
                Err(Error::DigestMismatch { what: format!("the manifest of {name}"), expected, actual })
            }
            _ => Ok(()),
        }
    }
}

struct Search<'a> {
    container: &'a Container,
    seen: HashSet<(Digest, Option<String>)>,
    /// Descriptors so far. One index under many names counts each time: else a few of them, nested, would be billions.
    read: usize,
    found: Vec<Candidate<Pointer>>,
}

impl Search<'_> {
    /// Collects the manifests of `index`, which is called `name` and lies in `indexes`.
    fn index(&mut self, index: Index, name: Option<&str>, indexes: &[Digest]) -> Result<(), Error> {
        self.read += index.manifests.len();
        if indexes.len() > MAX_DEPTH || self.read > MAX_MANIFESTS {
            let reason = "it has too many manifests, or indexes in indexes".to_owned();
            return Err(Error::Malformed { what: self.container.label(), reason });
        }
        for descriptor in index.manifests {
            let name = descriptor.name().or(name).map(str::to_owned);
            if may_be_image(&descriptor) && self.seen.insert((descriptor.digest, name.clone())) {
                self.descriptor(descriptor, name, indexes)?;
            }
        }
        Ok(())
    }

    fn descriptor(
        &mut self,
        descriptor: Descriptor,
        name: Option<String>,
        indexes: &[Digest],
    ) -> Result<(), Error> {
        let present = self.container.file(&blob_name(&descriptor.digest))?.is_some();
        let known = descriptor.platform.clone().filter(|p| !p.os.is_empty());
        let platform = match known {
            // An archive need not have the images of other platforms, so nothing is read that need not be.
            Some(platform) if !is_index(&descriptor) => platform,
            _ if !present => PlatformFields::default(),
            _ => match self.look_inside(&descriptor)? {
                Inside::Index(index) => {
                    return self.index(index, name.as_deref(), &[indexes, &[descriptor.digest]].concat());
                }
                Inside::Image(platform) => platform,
                Inside::Artifact => return Ok(()),
            },
        };
        self.found.push(Candidate {
            names: name.into_iter().collect(),
            platform,
            present,
            image: Pointer { manifest: descriptor, indexes: indexes.to_vec() },
        });
        Ok(())
    }

    fn look_inside(&self, descriptor: &Descriptor) -> Result<Inside, Error> {
        /// Either of the two: some tools leave media types out.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            artifact_type: Option<String>,
        }
        let what = format!("manifest {}", descriptor.digest);
        let either: Either = parse(&what, &read(self.container, "manifest", descriptor)?)?;
        if is_artifact(either.artifact_type.as_deref()) {
            return Ok(Inside::Artifact);
        }
        match (either.manifests, either.config) {
            (Some(manifests), None) => Ok(Inside::Index(Index { manifests })),
            (None, Some(config)) if !is_image_config(&config.media_type) => Ok(Inside::Artifact),
            (None, Some(config)) => {
                Ok(Inside::Image(Config::parse(&read(self.container, "config", &config)?)?.platform))
            }
            _ => {
                Err(Error::Malformed { what, reason: "it is neither an index nor an image manifest".into() })
            }
        }
    }
}

enum Inside {
    Index(Index),
    Image(PlatformFields),
    Artifact,
}

/// Whether a descriptor of an index may lead to an image; signatures, attestations and anything else may stand beside it.
fn may_be_image(descriptor: &Descriptor) -> bool {
    is_manifest(&descriptor.media_type)
        && !is_artifact(descriptor.artifact_type.as_deref())
        && descriptor.annotation(ATTACHED).is_none()
        && descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// Whether a manifest of this `artifactType` is no image's. An image's may have that of its config. Source: image-spec `manifest.md`, "Guidelines
/// for Artifact Usage"; distribution-spec, "Listing Referrers".
fn is_artifact(artifact_type: Option<&str>) -> bool {
    artifact_type.is_some_and(|artifact_type| !is_image_config(artifact_type))
}

fn is_index(descriptor: &Descriptor) -> bool {
    descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list")
}

pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a document that `descriptor` points to, checked.
fn read(container: &Container, kind: &str, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let what = format!("{kind} {}", descriptor.digest);
    let Some(bytes) = container.document(&blob_name(&descriptor.digest))? else {
        return Err(Error::MissingBlob { path: container.label(), what });
    };
    let actual = bytes.len() as u64;
    if actual != descriptor.size {
        return Err(Error::SizeMismatch { what, expected: descriptor.size, actual });
    }
    let actual = Digest::of(&bytes);
    if actual != descriptor.digest {
        return Err(Error::DigestMismatch { what, expected: descriptor.digest, actual });
    }
    Ok(bytes)
}
