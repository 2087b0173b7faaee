//! OCI image layouts: `index.json`, and blobs by digest. Source: image-spec `image-layout.md`. `docker save`
//! since Docker 25 writes this too, beside its own `manifest.json`.
//!
//! Also reads skopeo's `dir:`, where `manifest.json` is the manifest or an index, with the blobs beside it.
//! Source: containers/image `directory/directory_transport.go`, `manifestPath` and `layerPath`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use serde::Deserialize;
use windowsfilter::Digest;

use super::choose::{Candidate, choose, references};
use super::documents::{Documents, checked};
use super::{Container, FoundImage, FoundLayer, Wanted};
use crate::error::Error;
use crate::json::{self, Lenient, Raw};
use crate::oci::{
    ATTACHED, CONTAINERD_NAME, Config, Descriptor, Manifest, PlatformFields, REF_NAME, is_image_config,
    is_manifest,
};
use crate::reference::Reference;

/// Deepest nesting of indexes: Docker writes one level. The format has no limit, and the input is
/// untrusted.
const MAX_DEPTH: usize = 4;

/// Where a layout has its documents and blobs.
pub(super) enum Layout {
    /// `index.json` and `blobs/sha256/<hex>`.
    Oci,
    /// skopeo's `dir:`, with the digest of its `manifest.json`.
    Skopeo(Digest),
}

impl Layout {
    fn blob(&self, digest: &Digest) -> String {
        match self {
            Self::Oci => format!("blobs/sha256/{}", digest.hex()),
            Self::Skopeo(_) => digest.hex(),
        }
    }

    fn manifest(&self, digest: &Digest) -> String {
        match self {
            Self::Skopeo(top) if top == digest => "manifest.json".to_owned(),
            Self::Skopeo(_) => format!("{}.manifest.json", digest.hex()),
            Self::Oci => self.blob(digest),
        }
    }
}

/// Finds the wanted image from `index.json`.
pub(super) fn find(container: &Container, index: &[u8], wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let what = format!("index.json of {}", container.label());
    let index: Index = json::parse(&what, index)?;
    find_in(container, Layout::Oci, &what, index, wanted)
}

/// Finds the wanted image from the `manifest.json` of skopeo's `dir:`.
pub(super) fn find_skopeo(
    container: &Container,
    manifest: &[u8],
    wanted: &Wanted<'_>,
) -> Result<FoundImage, Error> {
    let what = format!("manifest.json of {}", container.label());
    let digest = Digest::of(manifest);
    let descriptor = Descriptor::new("", digest, manifest.len() as u64);
    let index = Index { manifests: vec![Raw::of(&descriptor)] };
    find_in(container, Layout::Skopeo(digest), &what, index, wanted)
}

fn find_in(
    container: &Container,
    layout: Layout,
    what: &str,
    index: Index,
    wanted: &Wanted<'_>,
) -> Result<FoundImage, Error> {
    let mut search = Search::of(container, layout);
    let entries = entries_of(index);
    search.index(&entries, None, &[])?;
    let chosen = choose(container, search.found, wanted)?;
    let pointer = chosen.image;
    let descriptor: Descriptor =
        pointer.entry.read().map_err(|source| Error::Json { what: format!("an entry of {what}"), source })?;
    let layout = search.layout;
    let read = |kind: &str, name: &str, descriptor: &Descriptor| {
        checked(container, kind, container.document(name)?, descriptor)
    };
    let digest = descriptor.digest;
    let bytes = read("manifest", &layout.manifest(&digest), &descriptor)?;
    let manifest: Manifest = json::parse(&format!("manifest {digest}"), &bytes)?;
    let config = read("config", &layout.blob(&manifest.config.digest), &manifest.config)?;
    let names = references(container, &chosen.names, wanted)?;
    for name in &names {
        check_name(name, &descriptor, &pointer.indexes)?;
    }
    let diff_ids = Config::parse(&config)?.rootfs.diff_ids;
    let layers = manifest.layers.into_iter().map(|descriptor| FoundLayer {
        file: layout.blob(&descriptor.digest),
        descriptor: Some(descriptor),
        is_blob: true,
    });
    Ok(FoundImage {
        names,
        manifest: Some((digest, bytes)),
        config: (manifest.config.digest, config),
        diff_ids,
        layers: layers.collect(),
    })
}

/// A name with a digest must match the manifest or, as in registries, an index with manifests of several
/// platforms.
fn check_name(name: &Reference, manifest: &Descriptor, indexes: &[Digest]) -> Result<(), Error> {
    let actual = manifest.digest;
    match name.digest() {
        Some(expected) if expected != actual && !indexes.contains(&expected) => {
            Err(Error::DigestMismatch { what: format!("the manifest of {name}"), expected, actual })
        }
        _ => Ok(()),
    }
}

/// `index.json`, and every index it points to.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Index {
    manifests: Vec<Raw>,
}

/// The fields of an index entry to look at before it is known to matter. None of them has to be valid.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Glance {
    media_type: Lenient<String>,
    digest: Lenient<String>,
    artifact_type: Lenient<String>,
    annotations: Lenient<BTreeMap<String, Lenient<String>>>,
    platform: Lenient<PlatformFields>,
}

/// An entry of an index that may lead to an image.
struct Entry {
    /// Its digest, of any algorithm.
    digest: String,
    is_index: bool,
    name: Option<String>,
    platform: Option<PlatformFields>,
    /// The whole entry.
    raw: Raw,
}

impl Entry {
    /// `None` if it cannot lead to an image: an index may contain signatures, attestations and other
    /// things.
    fn of(raw: Raw) -> Option<Self> {
        if raw.as_str() == "null" {
            return None;
        }
        let Glance { media_type, digest, artifact_type, annotations, platform } = raw.read().ok()?;
        let media_type = media_type.0.unwrap_or_default();
        let artifact_type = artifact_type.0.unwrap_or_default();
        let annotations = annotations.0.unwrap_or_default();
        let platform = platform.0.filter(|platform| !platform.os.is_empty());
        let may_be_image = is_manifest(&media_type)
            && !is_artifact(&artifact_type)
            && annotation(&annotations, ATTACHED).is_none()
            && platform.as_ref().is_none_or(|platform| platform.os != "unknown");
        may_be_image.then(|| Self {
            digest: digest.0.unwrap_or_default(),
            is_index: media_type.contains("index") || media_type.contains("manifest.list"),
            name: name(&annotations),
            platform,
            raw,
        })
    }
}

/// The entries of an index that may lead to an image.
fn entries_of(index: Index) -> Rc<[Entry]> {
    index.manifests.into_iter().filter_map(Entry::of).collect()
}

fn annotation<'a>(annotations: &'a BTreeMap<String, Lenient<String>>, key: &str) -> Option<&'a str> {
    annotations.get(key)?.0.as_deref().filter(|value| !value.is_empty())
}

/// An entry's name for its image. containerd and BuildKit put only the tag, or tag and digest, into the OCI
/// annotation; umoci changes the tag there and leaves containerd's name unchanged, which then belongs to
/// another image.
fn name(annotations: &BTreeMap<String, Lenient<String>>) -> Option<String> {
    let (name, full) = (annotation(annotations, REF_NAME), annotation(annotations, CONTAINERD_NAME));
    let is_whole = |name: &&str| name.split('@').next().is_some_and(|name| name.contains([':', '/']));
    let has_tag = |full: &&str| {
        let tag = name.and_then(|name| name.split('@').next()).filter(|tag| !tag.is_empty());
        let own = Reference::parse(full).ok();
        tag.is_none_or(|tag| own.and_then(|own| own.tag().map(|own| own == tag)).unwrap_or(true))
    };
    name.filter(is_whole).or_else(|| full.filter(has_tag)).or(name).map(str::to_owned)
}

/// Whether a manifest of this `artifactType` is not an image's. An image's manifest may have its config's
/// type there. Source: image-spec `manifest.md`, "Guidelines for Artifact Usage"; distribution-spec,
/// "Listing Referrers".
fn is_artifact(artifact_type: &str) -> bool {
    !artifact_type.is_empty() && !is_image_config(artifact_type)
}

/// The location of a manifest.
struct Pointer {
    entry: Raw,
    /// The indexes that lead to it.
    indexes: Vec<Digest>,
}

/// The content of a manifest document.
#[derive(Clone)]
enum Inside {
    Index(Rc<[Entry]>),
    Image(PlatformFields),
    Artifact,
    /// It is missing or invalid.
    Unusable,
}

struct Search<'a> {
    documents: Documents<'a>,
    layout: Layout,
    /// Documents by digest: each is read once.
    inside: HashMap<String, Inside>,
    /// Visited indexes, with the name they were visited under.
    walked: HashSet<(String, Option<String>)>,
    found: Vec<Candidate<Pointer>>,
    /// Indexes in `found`, by digest.
    places: HashMap<String, usize>,
}

impl<'a> Search<'a> {
    fn of(container: &'a Container, layout: Layout) -> Self {
        let documents = Documents::of(container);
        let (inside, walked, places) = Default::default();
        Self { documents, layout, inside, walked, found: Vec::new(), places }
    }

    /// Collects the images of an index, which has the name `name` and is nested in `indexes`.
    fn index(&mut self, entries: &Rc<[Entry]>, name: Option<&str>, indexes: &[Digest]) -> Result<(), Error> {
        if indexes.len() > MAX_DEPTH {
            let reason =
                format!("it has too many manifests, or indexes in indexes: more than {MAX_DEPTH} levels");
            return Err(Error::Malformed { what: self.documents.container.label(), reason });
        }
        // Count an index each time it appears under another name: nested ones could otherwise lead to
        // billions of visits.
        self.documents.count(entries.len(), 0)?;
        for entry in entries.iter() {
            self.entry(entry, entry.name.as_deref().or(name), indexes)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, name: Option<&str>, indexes: &[Digest]) -> Result<(), Error> {
        let name = name.map(str::to_owned);
        if let Some(&place) = self.places.get(&entry.digest) {
            let found = &mut self.found[place];
            found.call(name);
            found.image.indexes.extend(indexes);
            return Ok(());
        }
        let inside = match &entry.platform {
            // An archive may lack the images of other platforms, so read only what is necessary.
            Some(platform) if !entry.is_index => match self.is_present(entry)? {
                true => Inside::Image(platform.clone()),
                false => Inside::Unusable,
            },
            _ => self.inside(entry)?,
        };
        let (platform, usable) = match inside {
            Inside::Artifact => return Ok(()),
            Inside::Index(entries) => {
                if !self.walked.insert((entry.digest.clone(), name.clone())) {
                    return Ok(());
                }
                let below: Vec<Digest> = indexes.iter().copied().chain(entry.digest.parse()).collect();
                return self.index(&entries, name.as_deref(), &below);
            }
            Inside::Image(platform) => (platform, true),
            Inside::Unusable => (entry.platform.clone().unwrap_or_default(), false),
        };
        let image = Pointer { entry: entry.raw.clone(), indexes: indexes.to_vec() };
        let names = name.into_iter().collect();
        self.places.insert(entry.digest.clone(), self.found.len());
        self.found.push(Candidate { digest: entry.digest.clone(), names, platform, usable, image });
        Ok(())
    }

    fn is_present(&self, entry: &Entry) -> Result<bool, Error> {
        let Ok(digest) = entry.digest.parse() else { return Ok(false) };
        Ok(self.documents.container.file(&self.layout.manifest(&digest))?.is_some())
    }

    fn inside(&mut self, entry: &Entry) -> Result<Inside, Error> {
        if let Some(inside) = self.inside.get(&entry.digest) {
            return Ok(inside.clone());
        }
        let inside = match self.look_inside(entry) {
            Ok(inside) => inside,
            Err(error @ Error::TooManyDocuments { .. }) => return Err(error),
            // If it is chosen, it is read again, and that returns the error.
            Err(_) => Inside::Unusable,
        };
        self.inside.insert(entry.digest.clone(), inside.clone());
        Ok(inside)
    }

    fn look_inside(&self, entry: &Entry) -> Result<Inside, Error> {
        /// A manifest or an index: some tools leave media types out.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Either {
            manifests: Option<Vec<Raw>>,
            config: Option<Descriptor>,
            #[serde(default)]
            artifact_type: String,
        }
        let failed = |source| Error::Json { what: "an entry of an index".into(), source };
        let descriptor: Descriptor = entry.raw.read().map_err(failed)?;
        let what = format!("manifest {}", descriptor.digest);
        let name = self.layout.manifest(&descriptor.digest);
        let either: Either = json::parse(&what, &self.documents.described("manifest", &name, &descriptor)?)?;
        if is_artifact(&either.artifact_type) {
            return Ok(Inside::Artifact);
        }
        match (either.manifests, either.config) {
            (Some(manifests), None) => Ok(Inside::Index(entries_of(Index { manifests }))),
            (None, Some(config)) if !is_image_config(&config.media_type) => Ok(Inside::Artifact),
            (None, Some(config)) => {
                let name = self.layout.blob(&config.digest);
                let config = self.documents.described("config", &name, &config)?;
                Ok(Inside::Image(Config::parse(&config)?.platform))
            }
            _ => {
                Err(Error::Malformed { what, reason: "it is neither an index nor an image manifest".into() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_no_name_where_containerd_says_the_name() {
        let name = |annotations: &[(&str, &str)]| {
            let owned = annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Lenient(Some((*value).to_owned()))));
            super::name(&owned.collect())
        };
        let digest = format!("v1@{}", Digest::of(b"x"));
        for tag in ["v1", &digest] {
            let annotations = [(REF_NAME, tag), (CONTAINERD_NAME, "docker.io/library/win:v1")];
            assert_eq!(name(&annotations).as_deref(), Some("docker.io/library/win:v1"));
        }
        let annotations = [(REF_NAME, "win:v1"), (CONTAINERD_NAME, "docker.io/library/win:v1")];
        assert_eq!(name(&annotations).as_deref(), Some("win:v1"));
        assert_eq!(name(&[(REF_NAME, "v1")]).as_deref(), Some("v1"));
        assert_eq!(name(&[(CONTAINERD_NAME, "win:v1")]).as_deref(), Some("win:v1"));
        assert_eq!(name(&[]), None);
        // umoci leaves another image's name here.
        let annotations = [(REF_NAME, "v2"), (CONTAINERD_NAME, "docker.io/library/win:v1")];
        assert_eq!(name(&annotations).as_deref(), Some("v2"));
    }
}
