//! Finds the users of a path, device or file: processes and mounts, in all mount namespaces that `/proc`
//! shows.
//!
//! For messages only: it does not see processes of other PID namespaces, or namespaces without processes. To
//! decide whether something is in use, [`super::in_use`] asks the kernel.

use super::error::Holder;
use super::mount_table::{self, Mount};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The holders that keep the mount at `path` busy: mounts below it, and processes by their working directory,
/// root, program and open files. Best effort: unreadable entries of `/proc` are skipped.
pub(super) fn of_path(path: &Path) -> Vec<Holder> {
    let Ok(path) = std::fs::canonicalize(path) else { return Vec::new() };
    let mounts = mount_table::read().unwrap_or_default();
    let below = mounts.into_iter().filter(|m| m.mount_point != path && m.mount_point.starts_with(&path));
    let mut holders: Vec<_> = below.map(|mount| Holder::Mount { mount_point: mount.mount_point }).collect();
    let is_below = |link: &Path| std::fs::read_link(link).is_ok_and(|target| target.starts_with(&path));
    holders.extend(processes_that_use(is_below));
    holders
}

/// The mounts of file systems on these devices (major and minor) or, if there are none, the processes that
/// use them.
pub(super) fn of_devices(devices: &[(u32, u32)]) -> Vec<Holder> {
    let holders = mounts_of(|mount| devices.contains(&mount.device));
    if !holders.is_empty() {
        return holders;
    }
    let is_on_device = |link: &Path| {
        std::fs::metadata(link).is_ok_and(|file| {
            devices.contains(&(rustix::fs::major(file.dev()), rustix::fs::minor(file.dev())))
        })
    };
    processes_that_use(is_on_device).collect()
}

/// The processes that have this very file open.
pub(super) fn of_file(path: &Path) -> Vec<Holder> {
    let Ok(wanted) = std::fs::metadata(path) else { return Vec::new() };
    let is_it = |link: &Path| {
        std::fs::metadata(link).is_ok_and(|file| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()))
    };
    processes_that_use(is_it).collect()
}

/// The mounts that are `wanted`: all of our own namespace, and one of each other namespace.
pub(super) fn mounts_of(wanted: impl Fn(&Mount) -> bool) -> Vec<Holder> {
    let ours = mount_table::read().unwrap_or_default();
    let mut holders: Vec<_> = ours
        .into_iter()
        .filter(|mount| wanted(mount))
        .map(|mount| Holder::Mount { mount_point: mount.mount_point })
        .collect();
    for (namespace, processes) in other_namespaces() {
        let table = processes.iter().find_map(|pid| std::fs::read(process(*pid).join("mountinfo")).ok());
        let mounts = table.and_then(|table| mount_table::parse(&table).ok()).unwrap_or_default();
        let Some(mount) = mounts.into_iter().find(&wanted) else { continue };
        let Some(pid) = likeliest(&processes, &mount.mount_point) else { continue };
        holders.push(Holder::Namespace {
            namespace,
            pid,
            name: process_name(&process(pid)),
            others: processes.len() - 1,
            mount_point: mount.mount_point,
        });
    }
    holders
}

/// The process of a namespace to name in messages: one that uses a path next to the mount (a sandbox has
/// several mounts), else the first that is not a kernel thread.
fn likeliest(processes: &[u32], mount_point: &Path) -> Option<u32> {
    let beside = mount_point.parent().unwrap_or(mount_point);
    let is_there = |link: &Path| std::fs::read_link(link).is_ok_and(|target| target.starts_with(beside));
    let is_program = |pid: &&u32| std::fs::read_link(process(**pid).join("exe")).is_ok();
    let user = processes.iter().find(|pid| uses(&process(**pid), is_there));
    user.or_else(|| processes.iter().find(is_program)).or(processes.first()).copied()
}

/// The mount namespaces other than ours, with their processes.
fn other_namespaces() -> BTreeMap<u64, Vec<u32>> {
    let mut namespaces = BTreeMap::<u64, Vec<u32>>::new();
    for pid in processes() {
        if let Some(namespace) = namespace_of(&process(pid)) {
            namespaces.entry(namespace).or_default().push(pid);
        }
    }
    if let Some(ours) = namespace_of(Path::new("/proc/self")) {
        namespaces.remove(&ours);
    }
    namespaces
}

fn namespace_of(process: &Path) -> Option<u64> {
    Some(std::fs::metadata(process.join("ns/mnt")).ok()?.ino())
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// The processes for which `is_it` holds of a link in `/proc`.
fn processes_that_use(is_it: impl Fn(&Path) -> bool) -> impl Iterator<Item = Holder> {
    processes().into_iter().filter_map(move |pid| {
        let folder = process(pid);
        uses(&folder, &is_it).then(|| Holder::Process { pid, name: process_name(&folder) })
    })
}

/// Whether `is_it` holds for the working directory, root, program or an open file of a process.
fn uses(process: &Path, is_it: impl Fn(&Path) -> bool) -> bool {
    let mut files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    ["cwd", "root", "exe"].iter().any(|name| is_it(&process.join(name)))
        || files.any(|file| is_it(&file.path()))
}

fn process_name(process: &Path) -> String {
    std::fs::read_to_string(process.join("comm")).map_or_else(|_| "?".into(), |name| name.trim_end().into())
}
