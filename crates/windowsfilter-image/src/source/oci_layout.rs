//! OCI image layouts: `index.json`, and blobs by digest. Source: image-spec `image-layout.md`.
//!
//! `docker save` since Docker 25 writes this too, beside its own `manifest.json`.

use std::collections::HashSet;

use serde::Deserialize;
use windowsfilter::Digest;

use super::{Candidate, Container, FoundImage, FoundLayer, Wanted, choose};
use crate::error::Error;
use crate::oci::{ATTACHED, Config, Descriptor, Index, Manifest, PlatformFields, parse};

/// Indexes in indexes: Docker writes one level. The format sets no bound, and this is untrusted.
const MAX_DEPTH: usize = 4;
/// Manifests in one layout; the largest official images have some dozens.
const MAX_MANIFESTS: usize = 10_000;

pub(super) fn find(container: &Container, index: &[u8], wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let what = format!("index.json of {}", container.label());
    let mut search = Search { container, seen: HashSet::new(), read: 0, found: Vec::new() };
    search.index(parse(&what, index)?, None, 0)?;
    let chosen = choose(container, search.found, wanted)?;
    let (digest, bytes) = chosen.image.read(container)?;
    let manifest: Manifest = parse(&format!("manifest {digest}"), &bytes)?;
    let config = read(container, "config", &manifest.config)?;
    let layers = manifest
        .layers
        .into_iter()
        .map(|descriptor| FoundLayer { file: blob_name(&descriptor.digest), descriptor: Some(descriptor) });
    Ok(FoundImage {
        names: chosen.names,
        manifest: Some((digest, bytes)),
        config: (manifest.config.digest, config),
        layers: layers.collect(),
    })
}

/// A manifest: read already, if that was the only way to know what it is for.
struct Pointer(Descriptor);

impl Pointer {
    fn read(&self, container: &Container) -> Result<(Digest, Vec<u8>), Error> {
        Ok((self.0.digest, read(container, "manifest", &self.0)?))
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
    fn index(&mut self, index: Index, name: Option<&str>, depth: usize) -> Result<(), Error> {
        self.read += index.manifests.len();
        if depth > MAX_DEPTH || self.read > MAX_MANIFESTS {
            let reason = "it has too many manifests, or indexes in indexes".to_owned();
            return Err(Error::Malformed { what: self.container.label(), reason });
        }
        for descriptor in index.manifests {
            let name = descriptor.name().or(name).map(str::to_owned);
            if self.seen.insert((descriptor.digest, name.clone()))
                && descriptor.annotation(ATTACHED).is_none()
            {
                self.descriptor(descriptor, name, depth)?;
            }
        }
        Ok(())
    }

    fn descriptor(
        &mut self,
        descriptor: Descriptor,
        name: Option<String>,
        depth: usize,
    ) -> Result<(), Error> {
        if descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown") {
            return Ok(());
        }
        let known = descriptor.platform.clone().filter(|p| !p.os.is_empty());
        let platform = match known {
            // An archive need not have the images of other platforms, so nothing is read that need not be.
            Some(platform) if !is_index(&descriptor) => platform,
            _ => match self.look_inside(&descriptor)? {
                Inside::Index(index) => return self.index(index, name.as_deref(), depth + 1),
                Inside::Image(platform) => platform,
            },
        };
        self.found.push(Candidate {
            names: name.into_iter().collect(),
            platform,
            image: Pointer(descriptor),
        });
        Ok(())
    }

    fn look_inside(&self, descriptor: &Descriptor) -> Result<Inside, Error> {
        /// Either of the two: some tools leave media types out.
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
        }
        let what = format!("manifest {}", descriptor.digest);
        let either: Either = parse(&what, &read(self.container, "manifest", descriptor)?)?;
        match (either.manifests, either.config) {
            (Some(manifests), None) => Ok(Inside::Index(Index { manifests })),
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
