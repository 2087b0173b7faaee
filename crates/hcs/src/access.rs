//! Who may do what with a directory.

use std::fmt::Debug;
use std::path::Path;

use crate::error::Result;

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The SID, as `S-1-5-…`.
    pub sid: String,
    /// Whether it has the rights of the administrators now, and not only could ask for them.
    pub is_administrator: bool,
}

/// Access control of files.
pub trait AccessControl: Debug + Send + Sync {
    /// Makes a directory with a security descriptor (SDDL) from the beginning, so that nobody is ever before
    /// it.
    ///
    /// # Errors
    /// Something is there; no directory to make it in; an owner that this user may not set.
    fn create_directory(&self, path: &Path, sddl: &str) -> Result<()>;

    /// Owner and DACL of what is at `path`, not of what a link leads to: a self-relative security descriptor.
    ///
    /// # Errors
    /// Nothing there, or no right to read it.
    fn security_descriptor(&self, path: &Path) -> Result<Vec<u8>>;

    /// Whom this process runs as.
    ///
    /// # Errors
    /// When its token cannot be read.
    fn user(&self) -> Result<User>;
}
