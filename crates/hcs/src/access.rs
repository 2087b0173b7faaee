//! Access control of directories.

use std::fmt::Debug;
use std::path::Path;

use crate::error::Result;

/// The user that a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The SID, as `S-1-5-…`.
    pub sid: String,
    /// Whether it has the rights of the administrators now, not only after elevation.
    pub is_administrator: bool,
}

/// Access control of files.
pub trait AccessControl: Debug + Send + Sync {
    /// Creates a directory with a security descriptor (SDDL), which applies from its first moment.
    ///
    /// # Errors
    /// The path exists, its parent does not, or this user may not set that owner.
    fn create_directory(&self, path: &Path, sddl: &str) -> Result<()>;

    /// Owner and DACL of the file or directory at `path`, not of the target of a link: a self-relative
    /// security descriptor.
    ///
    /// # Errors
    /// The path does not exist, or this user may not read the descriptor.
    fn security_descriptor(&self, path: &Path) -> Result<Vec<u8>>;

    /// The user that this process runs as.
    ///
    /// # Errors
    /// The process's token cannot be read.
    fn user(&self) -> Result<User>;
}
