//! Times of directories, which change whenever something is put into them: set again at the end (moby issue
//! 41066).

use hcs::{BasicInfo, RelativePath, Tree};

/// Directories in the order they were met, parents before their children.
#[derive(Debug, Default)]
pub(super) struct DirectoryTimes(Vec<(RelativePath, BasicInfo)>);

impl DirectoryTimes {
    pub(super) fn remember(&mut self, path: RelativePath, info: BasicInfo) {
        self.0.push((path, info));
    }

    /// Forgets what is no directory any more.
    pub(super) fn retain(&mut self, is_directory: impl Fn(&RelativePath) -> bool) {
        self.0.retain(|(path, _)| is_directory(path));
    }

    /// Sets them, children first.
    pub(super) fn apply<T: Tree>(&self, tree: &T) -> hcs::Result<()> {
        self.0.iter().rev().try_for_each(|(path, info)| tree.set_directory_info(path, info))
    }
}
