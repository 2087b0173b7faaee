//! Docker's records: which directory is which layer, the layers of images, and the layers of containers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;

use serde::Deserialize;
use windowsfilter::Digest;

use super::place::Place;
use super::{DRIVER, MAX_ENTRIES, Problem};
use crate::json;
use crate::oci::{MAX_JSON, MAX_LAYERS, RootFs, chain_ids};

/// Longest file that holds one ID, bytes.
const MAX_ID: u64 = 1024;
/// Suffix of a layerdb entry that is being removed, after a number (moby#39193).
const REMOVING: &str = "-removing";

/// The records that could be read.
#[derive(Default)]
pub(super) struct Records {
    /// Whether any were found.
    pub(super) found: bool,
    pub(super) layers: Vec<LayerRecord>,
    pub(super) mounts: Vec<MountRecord>,
    pub(super) images: Vec<ImageRecord>,
    /// Whether all records of images' layers could be read.
    pub(super) all_images: bool,
    /// Whether all records of layers' and containers' directories could be read.
    pub(super) all_layers: bool,
}

/// An entry of layerdb.
pub(super) struct LayerRecord {
    /// The entry's name.
    pub(super) entry: String,
    /// Hex digits of its chain ID.
    pub(super) chain_id: String,
    /// The directory of the layer.
    pub(super) cache_id: String,
    /// Hex digits of the parent's chain ID.
    pub(super) parent: Option<String>,
    /// Whether Docker has begun to remove it.
    pub(super) removing: bool,
}

/// A container's layer.
pub(super) struct MountRecord {
    pub(super) container: String,
    pub(super) mount_id: Option<String>,
    pub(super) init_id: Option<String>,
    /// Hex digits of the parent's chain ID.
    pub(super) parent: Option<String>,
}

/// An image.
pub(super) struct ImageRecord {
    pub(super) id: String,
    pub(super) names: Vec<String>,
    /// Hex digits of its layers' chain IDs, base first.
    pub(super) chain_ids: Vec<String>,
}

/// `repositories.json`: maps repository, then reference, to image ID.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Repositories {
    #[serde(default)]
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

/// The fields of a config that are needed.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

/// Opens a directory; `None` if missing. If it cannot be read, that is a problem to report.
fn subdirectory(place: &Place, names: &[&str], problems: &mut Vec<Problem>) -> Result<Option<Place>, ()> {
    let mut found: Option<Place> = None;
    for name in names {
        let above = found.as_ref().unwrap_or(place);
        match above.subdirectory(name.as_ref()) {
            Ok(below) => found = Some(below),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                problems.push(Problem::unread(above.path().join(name), error.to_string()));
                return Err(());
            }
        }
    }
    Ok(found)
}

impl Records {
    /// Reads all records below Docker's data root.
    pub(super) fn read(root: &Place, problems: &mut Vec<Problem>) -> Self {
        let mut records = Self { all_images: true, all_layers: true, ..Self::default() };
        match subdirectory(root, &["image", DRIVER], problems) {
            Ok(Some(place)) => {
                records.found = true;
                records.read_layers(&place, problems);
                records.read_images(&place, problems);
            }
            Ok(None) => {}
            Err(()) => (records.all_images, records.all_layers) = (false, false),
        }
        records
    }

    fn read_layers(&mut self, place: &Place, problems: &mut Vec<Problem>) {
        let mut each = |names: &[&str], read: &mut dyn FnMut(&Place, &str) -> Result<(), String>| {
            let Ok(place) = subdirectory(place, names, problems) else { return false };
            place.is_none_or(|place| for_each_directory(&place, problems, read))
        };
        let mut layers = Vec::new();
        let all = each(&["layerdb", "sha256"], &mut |entry, name| {
            layers.extend(layer_record(entry, name)?);
            Ok(())
        });
        let mut mounts = Vec::new();
        let all_mounts = each(&["layerdb", "mounts"], &mut |entry, name| {
            mounts.push(MountRecord {
                container: name.to_owned(),
                mount_id: id(entry, "mount-id")?,
                init_id: id(entry, "init-id")?,
                parent: digest(entry, "parent")?,
            });
            Ok(())
        });
        (self.layers, self.mounts, self.all_layers) = (layers, mounts, all && all_mounts);
    }

    fn read_images(&mut self, place: &Place, problems: &mut Vec<Problem>) {
        let mut names = names(place, problems);
        let content = match subdirectory(place, &["imagedb", "content", "sha256"], problems) {
            Ok(Some(content)) => content,
            Ok(None) => return,
            Err(()) => return self.all_images = false,
        };
        let (files, more) = match content.list(MAX_ENTRIES) {
            Ok(listed) => listed,
            Err(error) => {
                problems.push(Problem::unread(content.path().to_owned(), error.to_string()));
                return self.all_images = false;
            }
        };
        if more {
            problems.push(too_many(&content));
            self.all_images = false;
        }
        for file in files {
            match image_record(&content, &file) {
                Ok(mut image) => {
                    image.names = names.remove(&image.id).unwrap_or_default();
                    self.images.push(image);
                }
                Err(problem) => {
                    problems.push(Problem::unread(content.path().join(&file), problem));
                    self.all_images = false;
                }
            }
        }
        for (id, names) in names {
            let problem = format!("{} is named, but its config is missing: sha256:{id}", names.join(", "));
            problems.push(Problem::unread(content.path().to_owned(), problem));
        }
    }
}

/// Calls `read` for each directory in `place`. Returns whether all could be read.
fn for_each_directory(
    place: &Place,
    problems: &mut Vec<Problem>,
    read: &mut dyn FnMut(&Place, &str) -> Result<(), String>,
) -> bool {
    let (names, more) = match place.list(MAX_ENTRIES) {
        Ok(listed) => listed,
        Err(error) => {
            problems.push(Problem::unread(place.path().to_owned(), error.to_string()));
            return false;
        }
    };
    let mut all = !more;
    if more {
        problems.push(too_many(place));
    }
    for name in names {
        let result = match (place.subdirectory(&name), name.to_str()) {
            (Ok(entry), Some(name)) => read(&entry, name),
            (Ok(_), None) => Err("its name is not Unicode".to_owned()),
            (Err(error), _) => Err(error.to_string()),
        };
        if let Err(problem) = result {
            problems.push(Problem::unread(place.path().join(&name), problem));
            all = false;
        }
    }
    all
}

fn too_many(place: &Place) -> Problem {
    let problem = format!("there are more than {MAX_ENTRIES} entries; the others are not looked at");
    Problem::unread(place.path().to_owned(), problem)
}

/// Reads an entry of layerdb; `None` for those that Docker ignores too.
fn layer_record(entry: &Place, name: &str) -> Result<Option<LayerRecord>, String> {
    let (digits, removing) = match name.strip_suffix(REMOVING) {
        Some(rest) => (rest.split('-').next().unwrap_or(rest), true),
        None => (name, false),
    };
    if !is_digits(digits) {
        return Err("its name is not a chain ID".to_owned());
    }
    let cache_id = id(entry, "cache-id")?;
    match cache_id {
        // Its files are already removed.
        None if removing => Ok(None),
        None => Err("cache-id is missing".to_owned()),
        Some(cache_id) => {
            let parent = digest(entry, "parent")?;
            Ok(Some(LayerRecord {
                entry: name.to_owned(),
                chain_id: digits.to_owned(),
                cache_id,
                parent,
                removing,
            }))
        }
    }
}

/// Reads a file that holds the name of a layer's directory.
fn id(entry: &Place, file: &str) -> Result<Option<String>, String> {
    let Some(text) = text(entry, file)? else { return Ok(None) };
    let (digits, _) = text.split_once('-').unwrap_or((&text, ""));
    match is_digits(digits) && text.trim_start_matches(digits).trim_start_matches("-init").is_empty() {
        true => Ok(Some(text)),
        false => Err(format!("{file} is no ID of a layer")),
    }
}

/// Reads a file that holds a digest; returns its hex digits.
fn digest(entry: &Place, file: &str) -> Result<Option<String>, String> {
    let Some(text) = text(entry, file)? else { return Ok(None) };
    let digest: Digest = text.parse().map_err(|_| format!("{file} is not a digest"))?;
    Ok(Some(digest.hex()))
}

fn text(entry: &Place, file: &str) -> Result<Option<String>, String> {
    let content = entry.read(file.as_ref(), MAX_ID).map_err(|reason| format!("{file}: {reason}"))?;
    let text = content.map(String::from_utf8).transpose().map_err(|_| format!("{file} is not text"))?;
    Ok(text.map(|text| text.trim().to_owned()))
}

fn is_digits(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Names by the hex digits of the image's ID: tags, or digests for images without tags.
fn names(place: &Place, problems: &mut Vec<Problem>) -> BTreeMap<String, Vec<String>> {
    let file = "repositories.json";
    let mut problem = |problem: String| problems.push(Problem::unread(place.path().join(file), problem));
    let repositories = match place.read(file.as_ref(), MAX_JSON) {
        Ok(Some(content)) => json::read(&content).unwrap_or_else(|error| {
            problem(format!("the images have no names: {error}"));
            Repositories::default()
        }),
        Ok(None) => Repositories::default(),
        Err(reason) => {
            problem(format!("the images have no names: {reason}"));
            Repositories::default()
        }
    };
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let named = repositories.repositories.into_values().flatten().filter(|(_, id)| !id.is_empty());
    for (name, id) in named {
        match id.parse::<Digest>() {
            Ok(id) => names.entry(id.hex()).or_default().push(name),
            Err(_) => problem(format!("{} has an ID that is none", super::layers::shown(&name))),
        }
    }
    for names in names.values_mut() {
        if names.iter().any(|name| !name.contains('@')) {
            names.retain(|name| !name.contains('@'));
        }
        names.sort();
    }
    names
}

fn image_record(content: &Place, file: &OsStr) -> Result<ImageRecord, String> {
    let Some(id) = file.to_str().filter(|name| is_digits(name)) else {
        return Err("its name is not an image ID".to_owned());
    };
    let bytes = content.read(file, MAX_JSON)?.ok_or("it is gone")?;
    if Digest::of(&bytes).hex() != id {
        return Err("its content is not what its name says".to_owned());
    }
    let config: Config = json::read(&bytes).map_err(|error| format!("it is not a config: {error}"))?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() > MAX_LAYERS {
        return Err(format!("it names {} layers; at most {MAX_LAYERS} are looked at", diff_ids.len()));
    }
    let chain_ids = chain_ids(&diff_ids).map_err(|error| error.to_string())?;
    Ok(ImageRecord {
        id: id.to_owned(),
        names: Vec::new(),
        chain_ids: chain_ids.into_iter().map(String::from).collect(),
    })
}
