//! containerd's stores on Windows, a containerd's own or that of Docker's containerd: which snapshots
//! exist, and how much space they take.
//!
//! ```text
//! <root>/io.containerd.snapshotter.v1.windows/metadata.db     bolt: keys, parents, kinds
//!                                             snapshots/<id>/     Files/, sandbox.vhdx, blank.vhdx
//!                                             snapshots/rm-<id>/  what containerd has begun to remove
//! ```
//!
//! The database is not read, so no snapshot is called an orphan.
//!
//! Source: containerd `plugins/snapshots/windows/common.go` (`newBaseSnapshotter`, `preRemove`), `windows.go`
//! and `cimfs.go`; moby `daemon/command/daemon.go` (`initContainerd`) for where Docker's is.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde::Serialize;
use windowsfilter::import::Progress;

use super::place::{Place, Type};
use super::walk::measure;
use super::{Kind, Layer, MAX_ENTRIES, Problem, State};

/// Prefix of snapshotters' directories.
const PREFIX: &str = "io.containerd.snapshotter.v1.";
/// The snapshotters that hold Windows layers.
const NAMES: [&str; 2] = ["windows", "cimfs"];
const SNAPSHOTS: &str = "snapshots";
const DATABASE: &str = "metadata.db";
/// Prefix that containerd gives a snapshot before removing it.
const REMOVING: &str = "rm-";
/// Paths of a snapshotter's parent below the given directory, which may be containerd's root, the directory
/// above it, Docker's data root, or its directory for containerd.
const ABOVE: [&[&str]; 4] = [&[], &["root"], &["containerd", "daemon"], &["daemon"]];

/// One of containerd's snapshotters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshotter {
    /// `windows` or `cimfs`.
    pub name: String,
    /// Its directory.
    #[serde(serialize_with = "windowsfilter::support::serialize_path")]
    pub path: PathBuf,
    /// Its snapshots, by number. Whether anything needs them is unknown, except for half-removed ones.
    pub snapshots: Vec<Layer>,
}

/// A snapshotter's name and directory.
pub(super) type Found = (String, Place);

/// The snapshotters below `root`, or `root` itself.
pub(super) fn find(root: &Place) -> Vec<Found> {
    let own = root.path().file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix(PREFIX));
    if own.is_some() || root.has(DATABASE, Type::File) && root.has(SNAPSHOTS, Type::Directory) {
        let name = own.unwrap_or(NAMES[0]).to_owned();
        return Place::open(root.path()).map(|place| (name, place)).into_iter().collect();
    }
    let mut found = Vec::new();
    for above in ABOVE {
        for name in NAMES {
            let directory = format!("{PREFIX}{name}");
            let mut path = above.iter().copied().chain([directory.as_str()]);
            let first = path.next().map(|first| root.subdirectory(first.as_ref()));
            let place = path.fold(first, |place, name| {
                place.map(|place| place.and_then(|place| place.subdirectory(name.as_ref())))
            });
            found.extend(place.and_then(Result::ok).map(|place| (name.to_owned(), place)));
        }
    }
    found
}

/// Reads a snapshotter's snapshots.
pub(super) fn read(
    (name, place): Found,
    problems: &mut Vec<Problem>,
    progress: &dyn Progress,
) -> Snapshotter {
    let path = place.path().to_owned();
    let mut problem = |path: PathBuf, problem: String| problems.push(Problem::unread(path, problem));
    let snapshots = place.subdirectory(SNAPSHOTS.as_ref());
    let listed = snapshots.and_then(|place| place.list(MAX_ENTRIES).map(|listed| (place, listed)));
    let (snapshots, (names, more)) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            problem(path.join(SNAPSHOTS), error.to_string());
            return Snapshotter { name, path, snapshots: Vec::new() };
        }
    };
    if more {
        let text = format!("there are more than {MAX_ENTRIES} snapshots; the others are not looked at");
        problem(snapshots.path().to_owned(), text);
    }
    let mut layers = Vec::new();
    for directory in names {
        match (snapshots.subdirectory(&directory), directory.to_str()) {
            (Ok(place), Some(id)) => layers.push(snapshot(&snapshots, &place, id, progress)),
            (Ok(_), None) => {
                problem(snapshots.path().join(&directory), "its name is not Unicode".to_owned());
            }
            (Err(error), _) => problem(snapshots.path().join(&directory), error.to_string()),
        }
    }
    // By number.
    layers.sort_by(|a, b| (a.id.len(), &a.id).cmp(&(b.id.len(), &b.id)));
    Snapshotter { name, path, snapshots: layers }
}

fn snapshot(above: &Place, place: &Place, id: &str, progress: &dyn Progress) -> Layer {
    let measured = measure(above, id.as_ref(), progress);
    // A sandbox keeps its disk when it is committed.
    let kind = if id.starts_with(REMOVING) {
        Kind::Removing
    } else if place.has("blank.vhdx", Type::File) {
        Kind::Base
    } else if place.has("Files", Type::Directory) {
        Kind::Layer
    } else if place.has("sandbox.vhdx", Type::File) {
        Kind::Sandbox
    } else {
        Kind::Empty
    };
    let (state, why) = match kind {
        Kind::Removing => {
            (State::HalfRemoved, "containerd renamed it to remove it and did not get to the end")
        }
        _ => (State::Unknown, "containerd's metadata.db says what needs it, which is not read"),
    };
    Layer {
        id: id.to_owned(),
        kind,
        state,
        why: why.to_owned(),
        size: measured.bytes,
        problems: measured.problem.into_iter().collect(),
        ..Layer::default()
    }
}
