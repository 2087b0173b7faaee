//! Reads a home of Docker's own `windowsfilter`: its layers, what needs them, and which ones nothing needs.
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
//! Also lists containerd's stores (`containerd`).
//!
//! Guarantees: it writes nothing; it follows no link, so it reads nothing outside the path; limits on
//! entries (`MAX_ENTRIES`) and reads bound its memory, whatever the files contain. An unreadable record
//! makes everything it could have needed [`State::Unknown`], never an orphan.
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

/// Most entries of one directory to read. The largest home that users have reported has 4,204 layers
/// (moby#31253).
const MAX_ENTRIES: usize = 20_000;
/// The driver's name and that of its directories.
const DRIVER: &str = "windowsfilter";

/// The content of a Docker home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DockerStore {
    /// The directory with the layers.
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    pub home: PathBuf,
    /// Whether Docker's records of images and containers were found.
    pub has_records: bool,
    /// Layers and sandboxes, by name.
    pub layers: Vec<Layer>,
    /// Images, by name; those without a name last.
    pub images: Vec<Image>,
    /// Records whose layer is missing.
    pub lost: Vec<LostLayer>,
    /// containerd's snapshots, if any: of Docker's containerd or a separate one.
    pub containerd: Vec<Snapshotter>,
    /// Unreadable or unexpected files.
    pub problems: Vec<Problem>,
    /// Sums over the layers, containerd's too.
    pub summary: Summary,
}

/// A directory of the home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The directory's name.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Whether something needs it.
    pub state: State,
    /// The reason, one sentence.
    pub why: String,
    /// Disk usage of its files, bytes; a hard link counts once.
    pub size: u64,
    /// Names of its parents' directories, nearest first.
    pub parents: Vec<String>,
    /// Its chain IDs in layerdb; usually one or none.
    pub chain_ids: Vec<String>,
    /// The layerdb entries that name it: chain IDs, or Docker's names for entries it is removing.
    pub records: Vec<String>,
    /// Images that use it, by [`Image::label`].
    pub images: Vec<String>,
    /// Containers whose own layer it is.
    pub containers: Vec<String>,
    /// Problems with it.
    pub problems: Vec<String>,
    /// Whether its chain could not be read.
    #[serde(skip)]
    unread_chain: bool,
    /// Whether its chain file is missing.
    #[serde(skip)]
    no_chain: bool,
}

/// Kinds of directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Has files and no parents.
    Base,
    /// Has files and parents.
    Layer,
    /// Has a `sandbox.vhdx`: a container's.
    Sandbox,
    /// A layer that older versions put below a sandbox.
    Init,
    /// A layer that Docker has begun to remove.
    Removing,
    /// None of these.
    #[default]
    Empty,
}

impl Kind {
    /// The kind as a word.
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
    /// Needed by an image, a container, or another layer in use.
    InUse,
    /// Nothing needs it, and Docker will never remove it.
    Orphan,
    /// Half removed or half created.
    HalfRemoved,
    /// Records that could need it could not be read.
    #[default]
    Unknown,
}

impl State {
    /// The state as words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Orphan => "orphan",
            Self::HalfRemoved => "half removed",
            Self::Unknown => "unknown",
        }
    }
}

/// An image in Docker's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Hex digits of its ID.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Its layers' directories, base first; `None` where one is missing.
    pub layers: Vec<Option<String>>,
}

impl Image {
    /// Its first name, or else its ID.
    pub fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| format!("sha256:{}", self.id))
    }
}

/// An entry of layerdb, or of a container, whose directory is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostLayer {
    /// The record's place.
    pub record: String,
    /// The directory that is missing.
    pub id: String,
    /// What that means, one sentence.
    pub why: String,
}

/// An unreadable or unexpected file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its path.
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    pub path: PathBuf,
    /// A description.
    pub problem: String,
    /// Whether a record that could need a layer was not read because of it.
    pub unread: bool,
}

impl Problem {
    /// A record that could not be read.
    fn unread(path: PathBuf, problem: String) -> Self {
        Self { path, problem, unread: true }
    }

    /// A problem that leaves no doubt about what is needed.
    fn other(path: PathBuf, problem: String) -> Self {
        Self { path, problem, unread: false }
    }
}

/// Number and size of some layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Number of layers.
    pub layers: u64,
    /// Their disk usage, bytes.
    pub bytes: u64,
}

/// Sums over the layers of a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Layers in use.
    pub in_use: Sum,
    /// Layers that nothing needs.
    pub orphan: Sum,
    /// Layers that are half removed or half created.
    pub half_removed: Sum,
    /// Layers whose state is unknown.
    pub unknown: Sum,
    /// Bytes of orphans and half-removed layers.
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

/// Reads the home at `path`: Docker's data root, its directory `windowsfilter`, or a root of containerd on
/// Windows. `progress` receives the bytes of the layers' files as they are counted.
///
/// # Errors
/// [`Error::NotADockerStore`]; a directory that cannot be read at all. Problems below it are part of the
/// result.
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

/// The map key of a directory's name: Windows ignores case.
fn key(name: &str) -> String {
    name.to_lowercase()
}
