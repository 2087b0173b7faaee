//! Mounts below a directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{IoContext, Result};
use crate::process::output;

/// The mount points below `dir`, outermost first.
///
/// # Errors
/// If the mount table cannot be read.
pub fn below(dir: &Path) -> Result<Vec<String>> {
    let table = Path::new("/proc/self/mountinfo");
    // Foreign mount points may contain any bytes.
    let text = fs::read(table).at(table)?;
    let text = String::from_utf8_lossy(&text);
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.filter(|point| Path::new(point).starts_with(dir)).map(str::to_owned).collect())
}

/// Unmounts everything below `dir`, innermost first.
pub fn unmount_below(dir: &Path) {
    for point in below(dir).unwrap_or_default().iter().rev() {
        if let Err(error) = output(Command::new("umount").arg(point)) {
            eprintln!("{error}; detaching it instead");
            _ = output(Command::new("umount").arg("--lazy").arg(point));
        }
    }
}
