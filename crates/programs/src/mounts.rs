//! What is mounted below a directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::output;

/// Unmounts everything below `dir`, innermost first.
pub fn unmount_below(dir: &Path) {
    // Mounts of others may have any bytes in their names.
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut points: Vec<&Path> = points.filter(|point| point.starts_with(dir)).collect();
    points.reverse();
    for point in points {
        if let Err(error) = output(Command::new("umount").arg(point)) {
            eprintln!("{error}; detaching it instead");
            _ = output(Command::new("umount").arg("--lazy").arg(point));
        }
    }
}
