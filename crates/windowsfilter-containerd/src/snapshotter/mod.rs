//! containerd's snapshots on top of the layer store.
//!
//! | snapshot | in the store | its mount |
//! | --- | --- | --- |
//! | to unpack into | a staged layer, once Apply is done | of our own type |
//! | committed | a layer under its chain ID, which it owns | none |
//! | view | a layer, held mounted | a bind, read-only |
//! | sandbox | a sandbox, held mounted | a bind |
//!
//! The record comes last when something is made and goes first when something is removed. So whatever is in the store without a record
//! belongs to nobody, and `restore` removes it at the next start; a record without what it needs exists only if somebody else took it away.
//! Everything in here blocks: it is called on threads that may.

mod claims;
mod commit;
mod create;
mod difference;
mod remove;
mod restore;
mod unpack;
mod unpacks;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use windowsfilter::{Driver, LayerId, LayerStore};
use windowsfilter_image::ImageStore;

pub(crate) use create::New;
pub(crate) use unpacks::Cancel;

use crate::api::types::Mount;
use crate::error::{Error, IoContext};
use crate::key;
use crate::labels;
use crate::mounts::Sources;
use crate::records::{Kind, Record, Records, Usage};
use claims::Claims;
use unpacks::Unpacks;

/// Owners, holders and sandboxes begin with this, the set's name and a dash.
const PREFIX: &str = "containerd-";

/// Name of the records in the directory of a set.
pub(crate) const RECORDS: &str = "snapshots.redb";

/// Where the sets of snapshots are, a directory each.
pub(crate) fn sets_dir(store: &LayerStore) -> PathBuf {
    store.root().join("containerd")
}

/// What everything in the layer store that belongs to a snapshot of this set is called.
pub(crate) fn owner(set: &str, number: u64) -> String {
    format!("{PREFIX}{set}-{number}")
}

/// What may be chosen for a set of snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotterOptions {
    /// Name of the set. A containerd has a set of its own: it removes all snapshots it does not know.
    pub set: String,
    /// Whether layers that are in the store are neither downloaded nor unpacked again.
    pub skip_existing: bool,
}

/// One containerd's snapshots.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    store: &'static LayerStore,
    set: String,
    /// An empty directory, for views of nothing.
    nothing: PathBuf,
    sources: Sources,
    records: Records,
    claims: Claims,
    unpacks: Unpacks,
    /// Records that are gone, but not all that they needed.
    remains: Mutex<Vec<Record>>,
    skip_existing: bool,
}

impl Snapshotter {
    /// Opens a set of snapshots and makes the store and its mounts what the records say. The store is never closed again: layers that wait for
    /// their name are part of it.
    ///
    /// # Errors
    /// Another server has the set; the store or the records cannot be read.
    pub(crate) fn open(store: LayerStore, options: SnapshotterOptions) -> Result<Self, Error> {
        let SnapshotterOptions { set, skip_existing } = options;
        check_set(&set)?;
        let store: &'static LayerStore = Box::leak(Box::new(store));
        let dir = sets_dir(store).join(&set);
        let (nothing, mounts) = (dir.join("nothing"), dir.join("mounts"));
        for dir in [&nothing, &mounts] {
            fs::create_dir_all(dir).at("create directory", dir)?;
        }
        let snapshotter = Self {
            store,
            records: Records::open(&dir.join(RECORDS))?,
            set,
            nothing,
            sources: Sources::new(mounts),
            claims: Claims::default(),
            unpacks: Unpacks::default(),
            remains: Mutex::default(),
            skip_existing,
        };
        snapshotter.restore()?;
        Ok(snapshotter)
    }

    /// The layer store.
    pub(crate) fn store(&self) -> &'static LayerStore {
        self.store
    }

    fn images(&self) -> Result<ImageStore<'static>, Error> {
        Ok(ImageStore::open(self.store)?)
    }

    /// What everything in the layer store that belongs to a snapshot is called.
    fn owner(&self, number: u64) -> String {
        owner(&self.set, number)
    }

    /// The snapshot that something called `owner` belongs to, if it is of this set.
    fn owned_by(&self, owner: &str) -> Option<u64> {
        owner.strip_prefix(PREFIX)?.strip_prefix(&self.set)?.strip_prefix('-')?.parse().ok()
    }

    /// The ID of a snapshot's sandbox or staged layer.
    pub(crate) fn layer_id(&self, number: u64) -> Result<LayerId, Error> {
        Ok(LayerId::new(self.owner(number))?)
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub(crate) fn stat(&self, key: &str) -> Result<Arc<Record>, Error> {
        self.records.get(key)
    }

    /// All records, by key: what this containerd made, and nothing else that is in the store.
    pub(crate) fn list(&self) -> Vec<Arc<Record>> {
        self.records.all()
    }

    /// The snapshot that these mounts belong to.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`] if they are ours but it is gone. `None`: they are not ours.
    pub(crate) fn of_mounts(&self, mounts: &[Mount]) -> Result<Option<Arc<Record>>, Error> {
        let Some(number) = self.sources.number(mounts) else { return Ok(None) };
        match self.records.numbered(number) {
            Some(record) => Ok(Some(record)),
            None => Err(Error::NoSuchSnapshot { key: mounts[0].source.as_str().into() }),
        }
    }

    /// The mounts of a view or active snapshot; mounts what is not mounted any more.
    ///
    /// # Errors
    /// A committed snapshot; what cannot be mounted and why.
    pub(crate) fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        let _claim = self.claims.claim(&[key]);
        let record = self.records.get(key)?;
        if record.kind == Kind::Committed {
            return Err(Error::WrongKind { action: "mount", key: key.into(), kind: record.kind });
        }
        self.shown(&record)?;
        Ok(self.mounts_of(&record))
    }

    fn mounts_of(&self, record: &Record) -> Vec<Mount> {
        vec![match record.kind {
            Kind::Unpack | Kind::Committed => self.sources.unpack(record.number),
            Kind::View => self.sources.bind(record.number, true),
            Kind::Sandbox => self.sources.bind(record.number, false),
        }]
    }

    /// Sees to it that what a view or sandbox shows is mounted, and returns where.
    fn show(&self, record: &Record) -> Result<Option<PathBuf>, Error> {
        let path = match self.held(record)? {
            Some(layer) => self.store.hold(&layer, &self.owner(record.number))?,
            None if record.kind == Kind::View => self.nothing.clone(),
            None => return Ok(None),
        };
        self.sources.link(record.number, &path)?;
        Ok(Some(path))
    }

    /// As [`Self::show`], but waits for nobody who reads what is mounted already. A Diff does so for minutes, and would else let Mounts and Usage wait,
    /// these Remove, and that all of containerd's garbage collection.
    fn shown(&self, record: &Record) -> Result<Option<PathBuf>, Error> {
        let Some(layer) = self.held(record)? else { return self.show(record) };
        let path = self.store.hold_or_find(&layer, &self.owner(record.number))?;
        self.sources.link(record.number, &path)?;
        Ok(Some(path))
    }

    /// The layer or sandbox that has to be mounted for a snapshot.
    fn held(&self, record: &Record) -> Result<Option<LayerId>, Error> {
        Ok(match record.kind {
            Kind::Unpack | Kind::Committed => None,
            Kind::Sandbox => Some(self.layer_id(record.number)?),
            Kind::View => record.layer.clone(),
        })
    }

    /// Changes labels, as `paths` say; all of them without paths.
    ///
    /// # Errors
    /// A path that is not of labels.
    pub(crate) fn update(
        &self,
        key: &str,
        given: &BTreeMap<String, String>,
        paths: &[String],
    ) -> Result<Record, Error> {
        let _claim = self.claims.claim(&[key]);
        let record = self.records.get(key)?;
        let labels = labels::updated(&record.labels, given, paths)?;
        let updated = Record { labels, updated: now(), ..Record::clone(&record) };
        self.records.change(Some(key), Some(updated.clone()), |_| Ok(()))?;
        Ok(updated)
    }

    /// What the snapshot takes, without its parents.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub(crate) fn usage(&self, key: &str) -> Result<Usage, Error> {
        let _claim = self.claims.claim(&[key]);
        let record = self.records.get(key)?;
        match (record.kind, &record.layer) {
            (Kind::Committed, Some(layer)) => {
                let layer = self.store.record(layer)?;
                Ok(Usage { size: layer.tar_size, inodes: layer.entries })
            }
            (Kind::Unpack, _) => {
                let usage = |size, inodes| Usage { size, inodes };
                let staged = self
                    .unpacks
                    .look(record.number, |layer| usage(layer.imported.tar_size, layer.imported.entries));
                Ok(staged.unwrap_or_default())
            }
            (Kind::Sandbox, _) => {
                let Some(path) = self.shown(&record)? else { return Ok(Usage::default()) };
                let (now, empty) = (used(&path)?, record.empty.unwrap_or_default());
                Ok(Usage {
                    size: now.size.saturating_sub(empty.size),
                    inodes: now.inodes.saturating_sub(empty.inodes),
                })
            }
            (Kind::View | Kind::Committed, _) => Ok(Usage::default()),
        }
    }

    /// Finishes what could not be removed before.
    ///
    /// # Errors
    /// A store that cannot be listed.
    pub(crate) fn cleanup(&self) -> Result<(), Error> {
        self.tidy();
        Ok(self.store.cleanup()?)
    }

    /// Key and namespace, for messages and for what is asked of containerd.
    pub(crate) fn namespace_of(&self, record: &Record) -> Option<String> {
        let known = Some(record.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        known.or_else(|| key::namespace(&record.key)).map(str::to_owned)
    }
}

fn check_set(set: &str) -> Result<(), Error> {
    let fits = (1..=32).contains(&set.len());
    if fits && set.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(Error::Name { name: set.chars().take(80).collect() })
    }
}

/// What is used of the file system at `path`. Of a sandbox's view, overlayfs answers for the sandbox's own.
fn used(path: &Path) -> Result<Usage, Error> {
    let stat = rustix::fs::statvfs(path).at("ask for the space at", path)?;
    Ok(Usage { size: (stat.f_blocks - stat.f_bfree) * stat.f_frsize, inodes: stat.f_files - stat.f_ffree })
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Until the year 2262.
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
