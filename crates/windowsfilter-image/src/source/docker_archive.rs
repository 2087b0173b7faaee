//! `docker save` archives: `manifest.json`, a config, and for each layer a tar. Source: moby `image/tarexport/save.go`.
//!
//! Nothing here has a size or digest, but the config's name is its digest, and the config has the layers' diffIDs.

use std::collections::BTreeMap;

use windowsfilter::{DiffId, Digest};

use super::{Candidate, Container, FoundImage, FoundLayer, Wanted, choose};
use crate::error::Error;
use crate::oci::{Config, Descriptor, SavedImage, parse};

pub(super) fn find(container: &Container, manifest: &[u8], wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let saved: Vec<SavedImage> = parse(&format!("manifest.json of {}", container.label()), manifest)?;
    let mut found = Vec::new();
    for image in saved {
        let config = read_config(container, &image.config)?;
        let platform = Config::parse(&config.1)?.platform;
        let names = image.repo_tags.clone().unwrap_or_default();
        found.push(Candidate { names, platform, present: true, image: (image, config) });
    }
    if let Some(reference) = wanted.reference.filter(|reference| reference.digest().is_some()) {
        let reason = "the archive has no manifest to compare its digest with; give it a tag".to_owned();
        return Err(Error::Malformed { what: reference.to_string(), reason });
    }
    let chosen = choose(container, found, wanted)?;
    let (image, config) = chosen.image;
    let diff_ids = Config::parse(&config.1)?.rootfs.diff_ids;
    let sources = image.layer_sources.unwrap_or_default();
    let layers = image.layers.into_iter().enumerate().map(|(i, file)| FoundLayer {
        descriptor: diff_ids.get(i).and_then(|id| foreign(&sources, id)),
        file,
    });
    Ok(FoundImage { names: chosen.names, manifest: None, config, layers: layers.collect() })
}

/// What `manifest.json` says of a foreign layer. It describes the blob to fetch, not the file in the archive.
fn foreign(sources: &BTreeMap<String, Descriptor>, diff_id: &DiffId) -> Option<Descriptor> {
    sources.get(&diff_id.to_string()).cloned()
}

fn read_config(container: &Container, name: &str) -> Result<(Digest, Vec<u8>), Error> {
    let Some(bytes) = container.document(name)? else {
        return Err(Error::MissingBlob { path: container.label(), what: format!("config {name}") });
    };
    let actual = Digest::of(&bytes);
    let base = name.rsplit('/').next().unwrap_or(name);
    let digits = base.strip_suffix(".json").unwrap_or(base);
    // Other tools name it otherwise (`config.json`); then there is nothing to compare with.
    let expected = format!("sha256:{digits}").parse::<Digest>();
    if let Some(expected) = expected.ok().filter(|expected| *expected != actual) {
        return Err(Error::DigestMismatch { what: format!("config {name}"), expected, actual });
    }
    Ok((actual, bytes))
}
