//! A store's content as facts, to compare the states before, after and in the middle of an operation.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use windowsfilter::{Digest, Driver, LayerKind, LayerStore, StorageOptions};
use windowsfilter_image::ImageStore;

use programs::error::{Error, IoContext, Result, chain};

/// Facts by name: `layer x`, `image x`, `mounted x`.
pub type State = BTreeMap<String, String>;

fn failed(error: &dyn std::error::Error) -> Error {
    Error::Unexpected(chain(error))
}

/// Opens the store, as every process does.
///
/// # Errors
/// If it cannot be opened.
pub fn open(root: &Path) -> Result<LayerStore> {
    LayerStore::open(root, StorageOptions::default()).map_err(|e| failed(&e))
}

/// The facts, including each sandbox's contents if `contents`.
///
/// # Errors
/// If the store cannot be read, which counts as broken.
pub fn read(root: &Path, contents: bool) -> Result<State> {
    let store = open(root)?;
    let mut state = State::new();
    for id in store.layers().map_err(|e| failed(&e))? {
        let record = store.record(&id).map_err(|e| failed(&e))?;
        let parents = store.chain_ids(&id).map_err(|e| failed(&e))?;
        let parents: Vec<_> = parents.iter().map(windowsfilter::LayerId::as_str).collect();
        let content = record.diff_id.map_or_else(String::new, |diff_id| diff_id.to_string());
        state.insert(format!("layer {id}"), format!("{} {content} on {parents:?}", record.kind.as_str()));
        if store.mounts(&id).map_err(|e| failed(&e))?.users() > 0 {
            state.insert(format!("mounted {id}"), "yes".into());
        }
        if record.kind == LayerKind::Sandbox {
            state.insert(format!("recorded size of {id}"), format!("{:?}", record.sandbox_size));
            let size = file_system_size(&root.join("layers").join(id.as_str()).join("sandbox.img"))?;
            state.insert(format!("size of {id}"), size.to_string());
            if contents {
                let mut diff = store.diff(&id, None).map_err(|e| failed(&e))?;
                let (digest, _) = Digest::of_reader(&mut diff).at(root)?;
                state.insert(format!("contents {id}"), digest.to_string());
            }
        }
    }
    for record in
        ImageStore::open(store.clone()).and_then(|images| images.records()).map_err(|e| failed(&e))?
    {
        let text = format!("{} {:?} of {:?}", record.image_id, record.manifest, record.layers);
        state.insert(format!("image {}", record.reference), text);
    }
    Ok(state)
}

/// Size of the file system in a sandbox's image, bytes. Source: `struct ext4_super_block` of
/// `fs/ext4/ext4.h`.
fn file_system_size(image: &Path) -> Result<u64> {
    let mut file = fs::File::open(image).at(image)?;
    let mut blocks = [0; 4];
    file.seek(SeekFrom::Start(1024 + 4)).and_then(|_| file.read_exact(&mut blocks)).at(image)?;
    Ok(u64::from(u32::from_le_bytes(blocks)) * 4096)
}

/// Reads every layer and compares it with its digests.
///
/// # Errors
/// The first damaged layer.
pub fn verify(root: &Path) -> Result<()> {
    let store = open(root)?;
    for id in store.layers().map_err(|e| failed(&e))? {
        let kind = store.record(&id).map_err(|e| failed(&e))?.kind;
        if kind == LayerKind::Layer {
            store.verify(&id).map_err(|e| failed(&e))?;
        }
    }
    Ok(())
}

/// Facts that match neither `before` nor `after`.
#[must_use]
pub fn neither(state: &State, before: &State, after: &State) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> =
        state.keys().chain(before.keys()).chain(after.keys()).collect();
    let wrong = names.into_iter().filter(|name| {
        let fact = state.get(*name);
        fact != before.get(*name) && fact != after.get(*name)
    });
    wrong
        .map(|name| {
            let fact = |state: &State| state.get(name).cloned().unwrap_or_else(|| "nothing".into());
            format!("{name} is {}, was {}, should become {}", fact(state), fact(before), fact(after))
        })
        .collect()
}

/// Facts in which two states differ.
#[must_use]
pub fn difference(state: &State, wanted: &State) -> Vec<String> {
    neither(state, wanted, wanted)
}

/// Every file and directory of the store, with the size of those whose content is the same in every run.
///
/// # Errors
/// If the store cannot be listed.
pub fn files(root: &Path) -> Result<State> {
    let mut files = State::new();
    let mut directories = vec![root.to_owned()];
    while let Some(dir) = directories.pop() {
        for entry in fs::read_dir(&dir).at(&dir)? {
            let entry = entry.at(&dir)?;
            let path = entry.path();
            let metadata = entry.metadata().at(&path)?;
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if is_lock_of_a_layer(root, &name) {
                continue;
            }
            let varies = ["layer.json", "sandbox.img"].iter().any(|file| name.ends_with(file));
            let fact = match metadata.is_dir() {
                true => "directory".to_owned(),
                false if varies => "file".to_owned(),
                false => format!("file of {} bytes", metadata.len()),
            };
            files.insert(name, fact);
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
    Ok(files)
}

/// A layer gets a lock on first use.
fn is_lock_of_a_layer(root: &Path, name: &str) -> bool {
    let id = name.strip_prefix("mounts/").and_then(|name| name.strip_suffix(".lock"));
    id.is_some_and(|id| root.join("layers").join(id).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_may_be_old_or_new_and_nothing_else() {
        let state = |facts: &[(&str, &str)]| -> State {
            facts.iter().map(|&(name, fact)| (name.to_owned(), fact.to_owned())).collect()
        };
        let (before, after) = (state(&[("a", "1"), ("b", "1")]), state(&[("a", "2"), ("c", "1")]));
        assert!(neither(&state(&[("a", "2"), ("b", "1")]), &before, &after).is_empty());
        assert_eq!(neither(&state(&[("a", "3"), ("c", "1")]), &before, &after).len(), 1);
        assert_eq!(difference(&before, &after).len(), 3);
    }
}
