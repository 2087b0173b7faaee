//! `reclaim`: deletes the bytes of a removed layer, in a process of its own.
//!
//! Removing a layer takes a rename; freeing its gigabytes takes a file system tenths of seconds. So the
//! command that removes starts this one for the bytes and ends. It inherits the locked directory as its
//! standard input, which keeps cleanup and fsck away until it ends, however it ends. Whatever it leaves,
//! cleanup removes.

#[cfg(unix)]
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
#[cfg(unix)]
use std::process::{Command, Stdio};

use windowsfilter::Doomed;

use crate::error::Error;

/// Delete a removed layer's directory; started by the commands that remove
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The directory, whose name ends in -removing
    dir: PathBuf,
}

/// Deletes the directory.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let removed = args.dir.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b"-removing"));
    if !removed {
        return Err(Error::NotRemoved { dir: args.dir.clone() });
    }
    windowsfilter::remove_tree(&args.dir).map_err(|source| Error::Io {
        action: "remove",
        path: args.dir.clone(),
        source,
    })
}

/// Whether what a directory holds is known to be little.
#[cfg(unix)]
fn is_small(dir: &std::path::Path) -> bool {
    let sizes = || -> std::io::Result<u64> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
    };
    sizes().is_ok_and(|bytes| bytes <= SMALL)
}

/// Deletes the bytes here: a lock of this system cannot be passed on to another process.
#[cfg(not(unix))]
pub(crate) fn in_background(doomed: Doomed) -> Result<(), windowsfilter::Error> {
    doomed.destroy()
}

/// Bytes of files that take no longer to free than a process to start: of a small image with many layers,
/// that would be many processes.
#[cfg(unix)]
const SMALL: u64 = 16 << 20;

/// Starts the process for a layer; where it cannot be started or is not worth it, deletes the bytes here.
#[cfg(unix)]
pub(crate) fn in_background(doomed: Doomed) -> Result<(), windowsfilter::Error> {
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
        return windowsfilter::remove_tree(&dir).map_err(|source| windowsfilter::Error::Leftover {
            source: Box::new(windowsfilter::Error::Io { action: "remove", path: dir.clone(), source }),
            dir,
        });
    }
    Ok(())
}
