//! containerd's snapshots on top of the layer store.
//!
//! | snapshot | in the store | its mount |
//! | --- | --- | --- |
//! | to unpack into | a staged layer, once Apply is done | of our own type |
//! | committed | a layer under its chain ID, which it owns | none |
//! | view | a layer, held mounted | a bind, read-only |
//! | sandbox | a sandbox, held mounted | a bind |
//!
//! Creating writes the record last and removing deletes it first, and around both the records list its
//! number as pending. So anything under a pending number without a record is unneeded, and `restore`
//! removes it at the next start; anything under another number without a record means that the records do
//! not match this store (`health`). A record can lack what it needs only if something else removed that.
//! Everything here blocks: call it on threads that may.

mod claims;
mod commit;
mod create;
mod difference;
pub(crate) mod health;
mod link_targets;
pub(crate) mod naming;
mod remove;
mod restore;
mod thrown;
pub(crate) mod traces;
mod unpack;
mod unpacks;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use windowsfilter::{LayerId, LayerStore};
use windowsfilter_image::ImageStore;

pub(crate) use create::New;
pub(crate) use thrown::Wanted;
pub(crate) use unpack::LayerBlob;
pub(crate) use unpacks::Cancel;

use crate::api::types::Mount;
use crate::error::{Error, IoContext};
use crate::key;
use crate::labels;
use crate::mounts::Sources;
use crate::records::{Kind, Record, Records, Usage};
use crate::stop::Stop;
use claims::Claims;
use health::Set;
use naming::check_set;
use unpacks::Unpacks;

/// Options of a set of snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotterOptions {
    /// Name of the set. Each containerd needs a set of its own: it removes all snapshots it does not know.
    pub set: String,
    /// Whether to let containerd skip downloading and unpacking layers that the store has.
    pub skip_existing: bool,
    /// containerd's namespace of a client, such as BuildKit, that unpacks layers by itself and gets them
    /// from the store instead.
    pub buildkit: Option<String>,
    /// Whether to give up lost, old or damaged records, with everything that the store has under this set's
    /// name.
    pub start_anew: bool,
}

/// One containerd's snapshots.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    store: LayerStore,
    images: ImageStore,
    set: String,
    /// The set's directory.
    dir: PathBuf,
    /// An empty directory, mounted for views of nothing.
    nothing: PathBuf,
    sources: Sources,
    records: Records,
    claims: Claims,
    unpacks: Unpacks,
    /// Records that were removed while something they needed could not be.
    remains: Mutex<Vec<Record>>,
    skip_existing: bool,
    buildkit: Option<String>,
}

impl Snapshotter {
    /// Opens a set of snapshots, and brings store and mounts in line with the records.
    ///
    /// # Errors
    /// Another server has the set open; the store or the records cannot be read; [`Error::RecordsLost`],
    /// [`Error::RecordsOld`].
    pub(crate) fn open(store: LayerStore, options: SnapshotterOptions) -> Result<Self, Error> {
        let SnapshotterOptions { set, skip_existing, buildkit, start_anew } = options;
        check_set(&set)?;
        let images = ImageStore::open(store.clone())?;
        let on_disk = Set::new(&store, &set);
        let (nothing, mounts) = (on_disk.dir().join("nothing"), on_disk.mounts());
        fs::create_dir_all(on_disk.dir()).at("create directory", on_disk.dir())?;
        let records = if start_anew { on_disk.start_anew()? } else { on_disk.open()? };
        for dir in [&nothing, &mounts] {
            fs::create_dir_all(dir).at("create directory", dir)?;
        }
        let dir = on_disk.dir().to_owned();
        let snapshotter = Self {
            store,
            records,
            dir,
            images,
            set,
            nothing,
            sources: Sources::new(mounts),
            claims: Claims::default(),
            unpacks: Unpacks::default(),
            remains: Mutex::default(),
            skip_existing,
            buildkit,
        };
        snapshotter.restore()?;
        Ok(snapshotter)
    }

    /// The layer store.
    pub(crate) fn store(&self) -> &LayerStore {
        &self.store
    }

    /// The ID of a snapshot's sandbox or staged layer.
    pub(crate) fn layer_id(&self, number: u64) -> Result<LayerId, Error> {
        naming::id(&self.set, number)
    }

    /// A snapshot's name as an owner and holder of layers.
    fn owner(&self, number: u64) -> Result<String, Error> {
        Ok(self.layer_id(number)?.into())
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub(crate) fn stat(&self, key: &str) -> Result<Arc<Record>, Error> {
        self.records.get(key)
    }

    /// All records, by key: the snapshots this containerd made, nothing else of the store.
    pub(crate) fn list(&self) -> Vec<Arc<Record>> {
        self.records.all()
    }

    /// The snapshot that these mounts belong to.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`] if the mounts are ours but the snapshot is gone. `None` if they are not
    /// ours.
    pub(crate) fn of_mounts(&self, mounts: &[Mount]) -> Result<Option<Arc<Record>>, Error> {
        let Some(number) = self.sources.number(mounts) else { return Ok(None) };
        match self.records.numbered(number) {
            Some(record) => Ok(Some(record)),
            None => Err(Error::NoSuchSnapshot { key: mounts[0].source.as_str().into() }),
        }
    }

    /// The mounts of a view or active snapshot; mounts its layer or sandbox again if needed.
    ///
    /// # Errors
    /// The snapshot is committed; mounting fails, and the error says why.
    pub(crate) fn mounts(&self, key: &str, stop: &Stop) -> Result<Vec<Mount>, Error> {
        let _claim = self.claims.claim(&[key], stop)?;
        let record = self.records.get(key)?;
        if record.kind == Kind::Committed {
            return Err(Error::WrongKind { action: "mount", key: key.into(), kind: record.kind });
        }
        if record.is_thrown() {
            self.make_thrown(&record, stop)?;
        }
        self.shown(&record)?;
        Ok(self.mounts_of(&record))
    }

    fn mounts_of(&self, record: &Record) -> Vec<Mount> {
        vec![match record.kind {
            Kind::Unpack if record.thrown => self.sources.bind(record.number, false),
            Kind::Unpack | Kind::Committed => {
                self.sources.unpack(record.number, record.layer.is_some() && !record.applied)
            }
            Kind::View => self.sources.bind(record.number, true),
            Kind::Sandbox => self.sources.bind(record.number, false),
        }]
    }

    /// Mounts a view's or sandbox's content, if needed, and returns the path.
    fn show(&self, record: &Record) -> Result<Option<PathBuf>, Error> {
        let path = match self.held(record)? {
            Some(layer) => self.store.hold(&layer, &self.owner(record.number)?)?,
            None if record.kind == Kind::View => self.nothing.clone(),
            None => match self.thrown(record.number).filter(|_| record.thrown) {
                Some(dir) => dir,
                None => return Ok(None),
            },
        };
        self.sources.link(record.number, &path)?;
        Ok(Some(path))
    }

    /// Like [`Self::show`], but does not wait for readers of an existing mount. A Diff reads for minutes;
    /// waiting for it would block Mounts and Usage, these would block Remove, and that all of containerd's
    /// garbage collection.
    fn shown(&self, record: &Record) -> Result<Option<PathBuf>, Error> {
        let Some(layer) = self.held(record)? else { return self.show(record) };
        let path = self.store.hold_or_find(&layer, &self.owner(record.number)?)?;
        self.sources.link(record.number, &path)?;
        Ok(Some(path))
    }

    /// The layer or sandbox to hold mounted for a snapshot.
    fn held(&self, record: &Record) -> Result<Option<LayerId>, Error> {
        Ok(match record.kind {
            Kind::Unpack | Kind::Committed => None,
            Kind::Sandbox => Some(self.layer_id(record.number)?),
            Kind::View => record.layer.clone(),
        })
    }

    /// Updates the labels that `paths` name; all of them if empty.
    ///
    /// # Errors
    /// A path that does not name labels.
    pub(crate) fn update(
        &self,
        key: &str,
        given: &BTreeMap<String, String>,
        paths: &[String],
        stop: &Stop,
    ) -> Result<Record, Error> {
        let _claim = self.claims.claim(&[key], stop)?;
        let record = self.records.get(key)?;
        let labels = labels::updated(&record.labels, given, paths)?;
        let updated = Record { labels, updated: now(), ..Record::clone(&record) };
        self.records.change(Some(key), Some(updated.clone()), |_| Ok(()))?;
        Ok(updated)
    }

    /// The snapshot's disk usage, without its parents.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn usage(&self, key: &str, stop: &Stop) -> Result<Usage, Error> {
        let _claim = self.claims.claim(&[key], stop)?;
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

    /// Retries removals that failed before.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub(crate) fn cleanup(&self) -> Result<(), Error> {
        self.tidy();
        Ok(self.store.clean_up()?)
    }

    /// The snapshot's namespace, for calls to containerd.
    pub(crate) fn namespace_of(&self, record: &Record) -> Option<String> {
        let known = Some(record.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        known.or_else(|| key::namespace(&record.key)).map(str::to_owned)
    }
}

/// The usage of the file system at `path`. For a sandbox's overlayfs this is that of the sandbox's own file
/// system.
fn used(path: &Path) -> Result<Usage, Error> {
    let stat = rustix::fs::statvfs(path).at("ask for the space at", path)?;
    Ok(Usage { size: (stat.f_blocks - stat.f_bfree) * stat.f_frsize, inodes: stat.f_files - stat.f_ffree })
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Fits until the year 2262.
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
