//! Looking into a home of Docker's own `windowsfilter`: what its layers are, what needs them, and what
//! nothing needs.
//!
//! ```text
//! <data root>/windowsfilter/<id>/            layers and sandboxes: Files/, sandbox.vhdx, layerchain.json
//!                           <id>-removing/   what Docker has begun to remove
//!             image/windowsfilter/
//!               repositories.json            names of images
//!               imagedb/content/sha256/<id>  their configs, with the diffIDs that make their chain IDs
//!               layerdb/sha256/<chain ID>/   cache-id: this layer's directory; parent: the chain ID below
//!               layerdb/sha256/<chain ID>-<number>-removing/
//!               layerdb/mounts/<container>/  mount-id, init-id: its directories; parent: the chain ID below
//! ```
//!
//! containerd's stores are listed as well (`containerd`).
//!
//! Always true: nothing is written; no link is followed, so nothing outside of the path is read; whatever the
//! files say, memory is bounded by limits on what is looked at (`MAX_ENTRIES`) and read at once. A record
//! that cannot be read makes what it could have needed [`State::Unknown`], never an orphan.
//!
//! Source: moby `daemon/graphdriver/windows/windows.go` for the layers (`getLayerChain`, `Remove`,
//! `Cleanup`), `layer/filestore.go` for layerdb, `image/fs.go` and `reference/store.go` for the images.
//! moby#39193 added the `-removing` entries of layerdb.

mod containerd;
mod judge;
mod layers;
mod place;
mod plan;
mod records;
mod walk;

use std::path::{Path, PathBuf};

use serde::Serialize;
use windowsfilter::import::Progress;

use crate::error::{Error, IoContext};
pub use containerd::Snapshotter;
use place::Place;
pub use plan::Plan;
use records::Records;

/// Entries of one directory that are looked at. The largest home that users have told of has 4,204 layers
/// (moby#31253).
const MAX_ENTRIES: usize = 20_000;
/// The driver's name, and that of its directories.
const DRIVER: &str = "windowsfilter";

/// What is in a home of Docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DockerStore {
    /// The directory of layers.
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    pub home: PathBuf,
    /// Whether Docker's records of images and containers were there to be read.
    pub has_records: bool,
    /// Layers and sandboxes, by name.
    pub layers: Vec<Layer>,
    /// Images, by name; those without a name last.
    pub images: Vec<Image>,
    /// Records whose layer is not there.
    pub lost: Vec<LostLayer>,
    /// containerd's snapshots, if there are any: of Docker's own containerd, or of one by itself.
    pub containerd: Vec<Snapshotter>,
    /// What could not be read, or is not as it should be.
    pub problems: Vec<Problem>,
    /// Sums over the layers, containerd's too.
    pub summary: Summary,
}

/// A directory of the home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The directory's name.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Whether something needs it.
    pub state: State,
    /// Why that is so, in a sentence.
    pub why: String,
    /// Bytes that its files take; a hard link counts once.
    pub size: u64,
    /// Names of its parents' directories, nearest first.
    pub parents: Vec<String>,
    /// Its chain IDs in layerdb; mostly one, or none.
    pub chain_ids: Vec<String>,
    /// The entries of layerdb that name it; they are called as its chain IDs, or as Docker calls them while
    /// it removes them.
    pub records: Vec<String>,
    /// Images that have it, by [`Image::label`].
    pub images: Vec<String>,
    /// Containers that have it as their own.
    pub containers: Vec<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// Whether what it stands on could not be read.
    #[serde(skip)]
    unread_chain: bool,
    /// Whether it does not say what it stands on.
    #[serde(skip)]
    no_chain: bool,
}

/// What a directory of the home is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Has files and no parents.
    Base,
    /// Has files on top of others.
    Layer,
    /// Has a `sandbox.vhdx`: a container's.
    Sandbox,
    /// What older versions put below a sandbox.
    Init,
    /// What Docker has begun to remove.
    Removing,
    /// None of these.
    #[default]
    Empty,
}

impl Kind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Layer => "layer",
            Self::Sandbox => "sandbox",
            Self::Init => "init",
            Self::Removing => "removing",
            Self::Empty => "empty",
        }
    }
}

/// Whether something needs a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// An image, a container, or a layer that is in use.
    InUse,
    /// Nothing does, and Docker will never remove it.
    Orphan,
    /// It was removed or made by half.
    HalfRemoved,
    /// Records that would say so could not be read.
    #[default]
    Unknown,
}

impl State {
    /// Its words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Orphan => "orphan",
            Self::HalfRemoved => "half removed",
            Self::Unknown => "unknown",
        }
    }
}

/// An image of Docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Digits of its ID.
    pub id: String,
    /// What it is called.
    pub names: Vec<String>,
    /// The directories of its layers, base first; none where one is missing.
    pub layers: Vec<Option<String>>,
}

impl Image {
    /// Its first name, or else its ID.
    pub fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| format!("sha256:{}", self.id))
    }
}

/// An entry of layerdb, or of a container, whose directory is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostLayer {
    /// Where it is recorded.
    pub record: String,
    /// The directory that is missing.
    pub id: String,
    /// What that means, in a sentence.
    pub why: String,
}

/// Something that could not be read, or is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    pub path: PathBuf,
    /// What.
    pub problem: String,
    /// Whether something that could say what is needed was not read because of it.
    pub unread: bool,
}

impl Problem {
    /// Something that was not read.
    fn unread(path: PathBuf, problem: String) -> Self {
        Self { path, problem, unread: true }
    }

    /// Something that says nothing of what is needed.
    fn other(path: PathBuf, problem: String) -> Self {
        Self { path, problem, unread: false }
    }
}

/// Number and size of some layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How many.
    pub layers: u64,
    /// Bytes they take.
    pub bytes: u64,
}

/// Sums over the layers of a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Those in use.
    pub in_use: Sum,
    /// Those that nothing needs.
    pub orphan: Sum,
    /// Those that were removed or made by half.
    pub half_removed: Sum,
    /// Those of which it cannot be told.
    pub unknown: Sum,
    /// Bytes that orphans and half-removed layers take.
    pub reclaimable: u64,
}

impl Summary {
    fn of(layers: &[Layer], containerd: &[Snapshotter]) -> Self {
        let all = || layers.iter().chain(containerd.iter().flat_map(|snapshotter| &snapshotter.snapshots));
        let sum = |state| {
            let of_state = all().filter(|layer| layer.state == state);
            of_state.fold(Sum::default(), |sum, layer| Sum {
                layers: sum.layers + 1,
                bytes: sum.bytes.saturating_add(layer.size),
            })
        };
        let (orphan, half_removed) = (sum(State::Orphan), sum(State::HalfRemoved));
        Self {
            in_use: sum(State::InUse),
            orphan,
            half_removed,
            unknown: sum(State::Unknown),
            reclaimable: orphan.bytes.saturating_add(half_removed.bytes),
        }
    }
}

/// Reads the home at `path`, which is Docker's data root or its directory `windowsfilter`, or a root of
/// containerd's on Windows. `progress` is told the bytes of the layers' files as they are counted.
///
/// # Errors
/// [`Error::NotADockerStore`]; when the directory cannot be read at all. Whatever is wrong below it is told
/// in the result.
pub fn read(path: &Path, progress: &dyn Progress) -> Result<DockerStore, Error> {
    let root = Place::open(path).at("open", path)?;
    let mut problems = Vec::new();
    let snapshotters = containerd::find(&root);
    let (home, data_root) = match root.subdirectory(DRIVER.as_ref()) {
        Ok(home) => (Some(home), Some(&root)),
        Err(_) if layers::is_home(&root) => (Some(Place::open(path).at("open", path)?), None),
        Err(_) if !snapshotters.is_empty() => (None, None),
        Err(_) => return Err(Error::NotADockerStore { path: path.to_owned() }),
    };
    let directories = match &home {
        Some(home) => layers::list(home, &mut problems, progress).at("list", home.path())?,
        None => Vec::new(),
    };
    let records = data_root.map(|root| Records::read(root, &mut problems));
    let (layers, images, lost) = judge::judge(directories, records.as_ref());
    let containerd: Vec<Snapshotter> =
        snapshotters.into_iter().map(|found| containerd::read(found, &mut problems, progress)).collect();
    let home = home.map(|home| home.path().to_owned());
    Ok(DockerStore {
        home: home.or_else(|| containerd.first().map(|first| first.path.clone())).unwrap_or_default(),
        has_records: records.is_some_and(|records| records.found),
        summary: Summary::of(&layers, &containerd),
        layers,
        images,
        lost,
        containerd,
        problems,
    })
}

/// The key by which directories are found: Windows does not care for case.
fn key(name: &str) -> String {
    name.to_lowercase()
}
