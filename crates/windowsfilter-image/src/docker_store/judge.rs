//! Decides which layers are needed, and by what.
//!
//! In use: the layers of images, those of containers, and all their parents. Every other layer is an orphan
//! or half removed, unless a record that could need it could not be read.

use std::collections::HashMap;

use super::layers::LayerDirectory;
use super::records::Records;
use super::{Image, Kind, Layer, LostLayer, State, key};

/// The users of a layer.
#[derive(Default)]
struct Users {
    images: Vec<usize>,
    containers: Vec<usize>,
    /// Entries of layerdb.
    records: Vec<usize>,
    /// A layer in use that has it as parent.
    child: Option<usize>,
    used: bool,
}

struct Judge<'a> {
    layers: &'a [LayerDirectory],
    records: Option<&'a Records>,
    /// Indexes of directories, by key.
    places: HashMap<String, usize>,
    /// Indexes of layerdb entries that are not being removed, by chain ID.
    chains: HashMap<&'a str, usize>,
    users: Vec<Users>,
}

/// Finds out what needs each layer.
pub(super) fn judge(
    layers: Vec<LayerDirectory>,
    records: Option<&Records>,
) -> (Vec<Layer>, Vec<Image>, Vec<LostLayer>) {
    let mut judge = Judge::new(&layers, records);
    judge.mark();
    let images = judge.images();
    let labels: Vec<String> = images.iter().map(Image::label).collect();
    let lost = judge.lost(&labels);
    let judged = (0..layers.len()).map(|place| judge.layer(place, &labels)).collect();
    let mut images = images;
    images.sort_by_cached_key(|image| (image.names.is_empty(), image.label()));
    (judged, images, lost)
}

impl<'a> Judge<'a> {
    fn new(layers: &'a [LayerDirectory], records: Option<&'a Records>) -> Self {
        let places = layers.iter().enumerate().map(|(place, layer)| (key(&layer.name), place)).collect();
        let entries = records.map_or(&[][..], |records| &records.layers).iter().enumerate();
        let chains = entries
            .filter(|(_, record)| !record.removing)
            .map(|(place, record)| (record.chain_id.as_str(), place))
            .collect();
        let users = layers.iter().map(|_| Users::default()).collect();
        Self { layers, records, places, chains, users }
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.places.get(&key(id)).copied()
    }

    /// The directory of a chain ID.
    fn directory(&self, records: &Records, chain_id: &str) -> Option<usize> {
        let record = self.chains.get(chain_id)?;
        self.place(&records.layers[*record].cache_id)
    }

    fn mark(&mut self) {
        let Some(records) = self.records else { return };
        for (number, record) in records.layers.iter().enumerate() {
            if let Some(place) = self.place(&record.cache_id) {
                self.users[place].records.push(number);
            }
        }
        for (number, image) in records.images.iter().enumerate() {
            for chain_id in &image.chain_ids {
                if let Some(place) = self.directory(records, chain_id) {
                    self.users[place].images.push(number);
                    self.use_with_parents(place);
                }
            }
        }
        for (number, mount) in records.mounts.iter().enumerate() {
            for id in [&mount.mount_id, &mount.init_id].into_iter().flatten() {
                if let Some(place) = self.place(id) {
                    self.users[place].containers.push(number);
                    self.use_with_parents(place);
                }
            }
            self.use_chain(records, mount.parent.as_deref());
        }
    }

    /// Marks a chain of layerdb as used, from the top down.
    fn use_chain(&mut self, records: &'a Records, mut chain_id: Option<&'a str>) {
        // Damaged records could form a cycle; no chain is longer than the number of layers.
        for _ in 0..records.layers.len() {
            let Some(record) = chain_id.and_then(|chain_id| self.chains.get(chain_id)) else { return };
            let record = &records.layers[*record];
            if let Some(place) = self.place(&record.cache_id) {
                self.use_with_parents(place);
            }
            chain_id = record.parent.as_deref();
        }
    }

    /// Marks a layer and all its parents as used.
    fn use_with_parents(&mut self, place: usize) {
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            if std::mem::replace(&mut self.users[place].used, true) {
                continue;
            }
            let layer = &self.layers[place];
            for &parent in layer.parents.iter().chain(&layer.alternate) {
                self.users[parent].child.get_or_insert(place);
                open.push(parent);
            }
        }
    }

    fn images(&self) -> Vec<Image> {
        let Some(records) = self.records else { return Vec::new() };
        let directory = |chain_id: &String| {
            self.directory(records, chain_id).map(|place| self.layers[place].name.clone())
        };
        let image = |image: &super::records::ImageRecord| Image {
            id: image.id.clone(),
            names: image.names.clone(),
            layers: image.chain_ids.iter().map(directory).collect(),
        };
        records.images.iter().map(image).collect()
    }

    fn layer(&self, place: usize, labels: &[String]) -> Layer {
        let (layer, users) = (&self.layers[place], &self.users[place]);
        let (state, why) = self.verdict(place, labels);
        let containers = users.containers.iter().map(|&number| self.container(number));
        let chain_ids = users.records.iter().filter_map(|&number| self.records.map(|r| &r.layers[number]));
        let records = chain_ids.clone();
        Layer {
            id: layer.name.clone(),
            kind: layer.kind,
            state,
            why,
            size: layer.size,
            parents: layer.parents.iter().map(|&parent| self.layers[parent].name.clone()).collect(),
            chain_ids: chain_ids.map(|record| format!("sha256:{}", record.chain_id)).collect(),
            records: records.map(|record| record.entry.clone()).collect(),
            images: users.images.iter().map(|&number| labels[number].clone()).collect(),
            containers: containers.collect(),
            problems: layer.problems.clone(),
            unread_chain: layer.unread_chain,
            no_chain: !layer.has_chain,
        }
    }

    fn container(&self, number: usize) -> String {
        self.records.map_or(String::new(), |records| records.mounts[number].container.clone())
    }

    /// A layer's state, and the reason for it.
    fn verdict(&self, place: usize, labels: &[String]) -> (State, String) {
        let (layer, users) = (&self.layers[place], &self.users[place]);
        if layer.kind == Kind::Removing {
            let why =
                "Docker renamed it to remove it and did not get to the end; it tries again when it starts";
            return (State::HalfRemoved, why.to_owned());
        }
        if users.used {
            return (State::InUse, self.use_of(users, labels));
        }
        if let Some(why) = self.doubt(users) {
            return (State::Unknown, why);
        }
        let removing = |&number: &usize| self.records.is_some_and(|records| records.layers[number].removing);
        if users.records.iter().any(removing) {
            let why = "Docker marked its record to remove it and did not get to the end; it tries again when it starts";
            return (State::HalfRemoved, why.to_owned());
        }
        if !layer.has_chain {
            let why = "it has no layerchain.json and nothing refers to it: it was made or removed by half";
            return (State::HalfRemoved, why.to_owned());
        }
        (State::Orphan, self.orphaned(place))
    }

    fn use_of(&self, users: &Users, labels: &[String]) -> String {
        let more = |count: usize| if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        let mut uses = Vec::new();
        if let Some(&image) = users.images.first() {
            uses.push(format!("image {}{}", short(&labels[image]), more(users.images.len())));
        }
        if let Some(&container) = users.containers.first() {
            uses.push(format!(
                "container {}{}",
                short(&self.container(container)),
                more(users.containers.len())
            ));
        }
        match (&uses[..], users.child) {
            ([], Some(child)) => format!("{} stands on it", short(&self.layers[child].name)),
            ([], None) => "a container stands on it".to_owned(),
            _ => format!("{} {} it", uses.join(" and "), if uses.len() > 1 { "have" } else { "has" }),
        }
    }

    /// A reason to doubt that an apparently unneeded layer is unneeded.
    fn doubt(&self, users: &Users) -> Option<String> {
        let Some(records) = self.records.filter(|records| records.found) else {
            return Some(
                "there are no records of images and containers here that could say what needs it".to_owned(),
            );
        };
        if !records.all_layers {
            return Some(
                "some records of layers and containers cannot be read, so one may need it".to_owned(),
            );
        }
        let recorded = users.records.iter().any(|&number| !records.layers[number].removing);
        if recorded && !records.all_images {
            return Some("some records of images cannot be read, so one may need it".to_owned());
        }
        None
    }

    fn orphaned(&self, place: usize) -> String {
        if let (Some(&number), Some(records)) = (self.users[place].records.first(), self.records) {
            let chain_id = &records.layers[number].chain_id;
            return format!(
                "layerdb has it as sha256:{}, but no image and no container needs that",
                short(chain_id)
            );
        }
        let on_it = |layer: &&LayerDirectory| layer.kind != Kind::Removing && layer.parents.contains(&place);
        match self.layers.iter().find(on_it) {
            Some(child) => format!("only {} stands on it, which nothing needs either", short(&child.name)),
            None => "no image, no container and no other layer refers to it".to_owned(),
        }
    }

    /// Records whose directory is missing.
    fn lost(&self, labels: &[String]) -> Vec<LostLayer> {
        let Some(records) = self.records else { return Vec::new() };
        let mut needed: HashMap<&str, usize> = HashMap::new();
        for (number, image) in records.images.iter().enumerate() {
            for chain_id in &image.chain_ids {
                needed.entry(chain_id).or_insert(number);
            }
        }
        let mut lost = Vec::new();
        for record in records.layers.iter().filter(|record| self.place(&record.cache_id).is_none()) {
            let needs = match needed.get(record.chain_id.as_str()) {
                _ if record.removing => "it is being removed".to_owned(),
                Some(&image) => format!("image {} cannot be used", short(&labels[image])),
                None => "no image needs it".to_owned(),
            };
            let why = format!("{}; {needs}", self.absence(&record.cache_id));
            let suffix = if record.removing { " (removing)" } else { "" };
            let place = format!("layerdb sha256:{}{suffix}", short(&record.chain_id));
            lost.push(LostLayer { record: place, id: record.cache_id.clone(), why });
        }
        for mount in &records.mounts {
            for id in [&mount.mount_id, &mount.init_id].into_iter().flatten() {
                if self.place(id).is_none() {
                    let why = format!("{}; the container cannot be started", self.absence(id));
                    let place = format!("container {}", short(&mount.container));
                    lost.push(LostLayer { record: place, id: id.clone(), why });
                }
            }
        }
        lost
    }

    fn absence(&self, id: &str) -> String {
        match self.place(&format!("{id}-removing")) {
            Some(_) => format!("of its directory only {}-removing is left", short(id)),
            None => format!("its directory {} is missing", short(id)),
        }
    }
}

/// An ID shortened for messages: its first 12 digits, and any suffix.
pub(super) fn short(id: &str) -> String {
    let (prefix, rest) = id.strip_prefix("sha256:").map_or(("", id), |rest| ("sha256:", rest));
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    match digits {
        32.. => format!("{prefix}{}{}", &rest[..12], super::layers::shown(&rest[digits..])),
        _ => super::layers::shown(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_and_what_is_appended_stays() {
        let id = "ab".repeat(32);
        assert_eq!(short(&id), "abababababab");
        assert_eq!(short(&format!("sha256:{id}")), "sha256:abababababab");
        assert_eq!(short(&format!("{id}-removing")), "abababababab-removing");
        assert_eq!(short("app:1"), "app:1");
    }
}
