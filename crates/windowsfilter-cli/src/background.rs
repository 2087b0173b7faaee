//! Deletes the bytes of removed layers in a process of their own.
//!
//! Removing a layer takes a rename; freeing its gigabytes takes a file system tenths of seconds. So the
//! command that removes starts `windowsfilter reclaim` for the bytes and ends. That process inherits the
//! locked directory as its standard input, which keeps cleanup and fsck away until it ends, however it ends.
//! If it dies, cleanup removes the rest.

#[cfg(unix)]
use std::os::unix::process::CommandExt;
#[cfg(unix)]
use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Stdio};

use windowsfilter::Error;
use windowsfilter::support::Doomed;

/// Bytes of files that take no longer to free than a process to start: of a small image with many layers,
/// that would be many processes.
#[cfg(unix)]
const SMALL: u64 = 16 << 20;

/// Starts the process for a layer; where it cannot be started or is not worth it, deletes the bytes here.
#[cfg(unix)]
pub(crate) fn reclaim(doomed: Doomed) -> Result<(), Error> {
    if is_small(doomed.dir()) {
        return doomed.destroy();
    }
    let Ok(program) = std::env::current_exe() else { return doomed.destroy() };
    let mut command = Command::new(program);
    command.arg("reclaim").arg(doomed.dir()).stdout(Stdio::null()).stderr(Stdio::null());
    // Not interrupted with the command that the user waits for.
    command.process_group(0);
    let dir = doomed.dir().to_owned();
    // The child is not waited for: when this process ends, it becomes init's.
    if let Err(error) = command.stdin(doomed.into_lock()).spawn() {
        tracing::debug!("{} is deleted here, since no process could be started: {error}", dir.display());
        return windowsfilter::support::remove_tree(&dir).map_err(|source| Error::Leftover {
            source: Box::new(Error::Io { action: "remove", path: dir.clone(), source }),
            dir,
        });
    }
    Ok(())
}

/// Whether the files of a directory are known to be small.
#[cfg(unix)]
fn is_small(dir: &Path) -> bool {
    let sizes = || -> std::io::Result<u64> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
    };
    sizes().is_ok_and(|bytes| bytes <= SMALL)
}

/// Deletes the bytes here: a lock of this system cannot be passed on to another process.
#[cfg(not(unix))]
pub(crate) fn reclaim(doomed: Doomed) -> Result<(), Error> {
    doomed.destroy()
}
