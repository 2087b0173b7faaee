//! Times of directories. They change whenever an entry is added, so they are set again at the end (moby issue
//! 41066).

use hcs::{BasicInfo, RelativePath, Tree};

/// Directories in the order of the tar, parents before their children.
#[derive(Debug, Default)]
pub(super) struct DirectoryTimes(Vec<(RelativePath, BasicInfo)>);

impl DirectoryTimes {
    pub(super) fn remember(&mut self, path: RelativePath, info: BasicInfo) {
        self.0.push((path, info));
    }

    /// Forgets paths that are no longer directories.
    pub(super) fn retain(&mut self, is_directory: impl Fn(&RelativePath) -> bool) {
        self.0.retain(|(path, _)| is_directory(path));
    }

    /// Sets the times, children first.
    pub(super) fn apply<T: Tree>(&self, tree: &T) -> hcs::Result<()> {
        self.0.iter().rev().try_for_each(|(path, info)| tree.set_directory_info(path, info))
    }
}
