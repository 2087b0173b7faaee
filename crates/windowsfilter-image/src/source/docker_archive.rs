//! `docker save` archives: `manifest.json`, a config, and for each layer a tar. Source: moby
//! `image/tarexport/save.go`.
//!
//! Nothing in it has a size or digest, but the config is named by its digest, and it has the layers'
//! diffIDs.

use std::collections::{BTreeMap, HashMap};

use windowsfilter::Digest;

use super::choose::{Candidate, choose, references};
use super::documents::Documents;
use super::{Container, FoundImage, FoundLayer, Wanted};
use crate::error::Error;
use crate::json::{self, Lenient, Raw};
use crate::oci::{Config, Descriptor, PlatformFields, SavedImage};

/// Finds the wanted image in `manifest.json`.
pub(super) fn find(container: &Container, manifest: &[u8], wanted: &Wanted<'_>) -> Result<FoundImage, Error> {
    let what = format!("manifest.json of {}", container.label());
    let entries: Vec<Raw> = json::parse(&what, manifest)?;
    let search = Search { documents: Documents::of(container), what };
    let chosen = choose(container, search.images(entries)?, wanted)?;
    if let Some(reference) = wanted.reference.filter(|reference| reference.digest().is_some()) {
        let reason = "the archive has no manifest to compare its digest with; give it a tag".to_owned();
        return Err(Error::Malformed { what: reference.to_string(), reason });
    }
    let names = references(container, &chosen.names, wanted)?;
    let image = search.saved(&chosen.image)?;
    let bytes = container.document(&image.config)?;
    let config = checked_config(container, &image.config, bytes)?;
    let diff_ids = Config::parse(&config.1)?.rootfs.diff_ids;
    let layers = image.layers.into_iter().enumerate().map(|(i, file)| FoundLayer {
        descriptor: diff_ids.get(i).and_then(|id| foreign(&image.layer_sources, &id.to_string())),
        file,
        is_blob: false,
    });
    let layers = layers.collect();
    Ok(FoundImage { names, manifest: None, config, diff_ids, layers })
}

/// The layer files of the image with this config, in an archive that also has `manifest.json`.
pub(super) fn layer_files(manifest: &[u8], config: &Digest) -> Option<Vec<String>> {
    let images: Vec<Lenient<SavedImage>> = json::read(manifest).ok()?;
    let is_its = |image: &SavedImage| named_digest(&image.config).as_ref() == Some(config);
    images.into_iter().filter_map(|image| image.0).find(is_its).map(|image| image.layers)
}

struct Search<'a> {
    documents: Documents<'a>,
    /// The name of `manifest.json` in errors.
    what: String,
}

impl Search<'_> {
    fn saved(&self, entry: &Raw) -> Result<SavedImage, Error> {
        entry.read().map_err(|source| Error::Json { what: format!("an entry of {}", self.what), source })
    }

    /// The images with all their names. Reads each config once and keeps only what identifies the image.
    fn images(&self, entries: Vec<Raw>) -> Result<Vec<Candidate<Raw>>, Error> {
        self.documents.count(entries.len(), 0)?;
        let mut configs: HashMap<String, Option<(Digest, PlatformFields)>> = HashMap::new();
        let mut places: HashMap<(Digest, Vec<String>), usize> = HashMap::new();
        let mut found: Vec<Candidate<Raw>> = Vec::new();
        let only = entries.len() == 1;
        for entry in entries {
            let image = match self.saved(&entry) {
                Ok(image) => image,
                Err(error) if only => return Err(error),
                Err(_) => continue,
            };
            let config = match configs.get(&image.config) {
                Some(config) => config.clone(),
                None => {
                    let config = match self.config(&image.config) {
                        Ok(config) => Some(config),
                        Err(error @ Error::TooManyDocuments { .. }) => return Err(error),
                        // If it is chosen, it is read again, and that returns the error.
                        Err(_) => None,
                    };
                    configs.insert(image.config.clone(), config.clone());
                    config
                }
            };
            let usable = config.is_some();
            let (digest, platform) =
                config.unwrap_or_else(|| (Digest::of(image.config.as_bytes()), PlatformFields::default()));
            let place = *places.entry((digest, image.layers)).or_insert(found.len());
            if place == found.len() {
                let digest = digest.to_string();
                found.push(Candidate { digest, names: Vec::new(), platform, usable, image: entry });
            }
            let names = image.repo_tags.unwrap_or_default();
            self.documents.count(names.len(), 0)?;
            for name in names {
                found[place].call(Some(name));
            }
        }
        Ok(found)
    }

    fn config(&self, name: &str) -> Result<(Digest, PlatformFields), Error> {
        let (digest, bytes) = checked_config(self.documents.container, name, self.documents.read(name)?)?;
        Ok((digest, Config::parse(&bytes)?.platform))
    }
}

/// A foreign layer's descriptor in `manifest.json`. It describes the blob to download, not the file in the
/// archive.
fn foreign(sources: &BTreeMap<String, Raw>, diff_id: &str) -> Option<Descriptor> {
    sources.get(diff_id)?.read().ok()
}

/// The digest in a config's name, if it is one. Other tools use other names (`config.json`); then there is
/// nothing to compare.
fn named_digest(name: &str) -> Option<Digest> {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let digits = base.strip_suffix(".json").unwrap_or(base);
    format!("sha256:{}", digits.strip_prefix("sha256:").unwrap_or(digits)).parse().ok()
}

fn checked_config(
    container: &Container,
    name: &str,
    bytes: Option<Vec<u8>>,
) -> Result<(Digest, Vec<u8>), Error> {
    let Some(bytes) = bytes else {
        return Err(Error::MissingBlob { path: container.label(), what: format!("config {name}") });
    };
    let actual = Digest::of(&bytes);
    match named_digest(name) {
        Some(expected) if expected != actual => {
            Err(Error::DigestMismatch { what: format!("config {name}"), expected, actual })
        }
        _ => Ok((actual, bytes)),
    }
}
