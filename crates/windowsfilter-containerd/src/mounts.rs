//! The mounts that the server returns to containerd, and receives back in Apply and Diff.
//!
//! Clients pass each mount to mount(2), so a view or sandbox is one bind mount of a directory that this
//! server mounted. A snapshot to unpack into has a mount type of its own, which mount(2) does not know:
//! only our differ accepts it. With a bind, another differ would succeed and lose all metadata that POSIX
//! lacks.
//!
//! The source is always `<root>/containerd/<set>/mounts/<number>`, which identifies the snapshot. For views
//! and sandboxes it is a symbolic link to the mounted directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::api::types::Mount;
use crate::error::{Error, IoContext};

/// The mount type that only our differ accepts.
pub(crate) const OWN_TYPE: &str = "windowsfilter";

/// The directory of the mounts' sources.
#[derive(Debug)]
pub(crate) struct Sources {
    dir: PathBuf,
}

impl Sources {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn source(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    /// The mount of a snapshot to unpack into. If the layer is already there (`staged`), it is read-only,
    /// which tells containerd to skip the unpacking.
    pub(crate) fn unpack(&self, number: u64, staged: bool) -> Mount {
        let source = self.source(number).display().to_string();
        let options = if staged { vec!["ro".to_owned()] } else { Vec::new() };
        Mount { r#type: OWN_TYPE.to_owned(), source, target: String::new(), options }
    }

    /// The mount of a view or sandbox. Its type is `rbind`, which mount(2) treats like `bind`: for a mount
    /// of type `bind` BuildKit would walk the source itself, which is a link here, and find nothing
    /// (`GetUpperdir` of its `util/overlay`). For other types it asks for a diff.
    pub(crate) fn bind(&self, number: u64, read_only: bool) -> Mount {
        let access = if read_only { "ro" } else { "rw" };
        let options = ["rbind", access].map(str::to_owned).into();
        Mount { r#type: "rbind".to_owned(), options, ..self.unpack(number, false) }
    }

    /// The snapshot that these mounts belong to; `None` if they are not ours.
    pub(crate) fn number(&self, mounts: &[Mount]) -> Option<u64> {
        let [mount] = mounts else { return None };
        if !matches!(mount.r#type.as_str(), OWN_TYPE | "rbind" | "bind") {
            return None;
        }
        let name = Path::new(&mount.source).strip_prefix(&self.dir).ok()?;
        name.to_str()?.parse().ok()
    }

    /// Points the source of a snapshot to `path`.
    pub(crate) fn link(&self, number: u64, path: &Path) -> Result<(), Error> {
        let source = self.source(number);
        if fs::read_link(&source).is_ok_and(|present| present == path) {
            return Ok(());
        }
        self.unlink(number)?;
        symlink(path, &source).at("create a link at", source)
    }

    /// Removes the link of [`Self::link`]; no-op if there is none.
    pub(crate) fn unlink(&self, number: u64) -> Result<(), Error> {
        let source = self.source(number);
        match fs::remove_file(&source) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", source),
            _ => Ok(()),
        }
    }

    /// Numbers of the snapshots that have a link.
    pub(crate) fn linked(&self) -> Result<Vec<u64>, Error> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)? {
            let name = entry.at("list", &self.dir)?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_leads_back_to_its_snapshot_and_others_do_not() {
        let sources = Sources::new("/var/lib/windowsfilter/containerd/default/mounts".into());
        let bind = sources.bind(17, true);
        assert_eq!(
            (bind.r#type.as_str(), bind.options.as_slice()),
            ("rbind", ["rbind", "ro"].map(String::from).as_slice())
        );
        assert_eq!(sources.number(std::slice::from_ref(&bind)), Some(17));
        assert_eq!(sources.number(&[sources.unpack(3, false)]), Some(3));
        assert_eq!(sources.unpack(3, false).options, [""; 0]);
        assert_eq!(sources.number(&[]), None);
        assert_eq!(sources.number(&[bind.clone(), bind.clone()]), None);
        let changed = |change: fn(&mut Mount)| {
            let mut mount = bind.clone();
            change(&mut mount);
            sources.number(&[mount])
        };
        // An earlier version returned this, and clients may still hold it.
        assert_eq!(changed(|m| m.r#type = "bind".into()), Some(17));
        assert_eq!(changed(|m| m.r#type = "overlay".into()), None);
        assert_eq!(changed(|m| m.source += "/x"), None);
        assert_eq!(changed(|m| m.source += "/../18"), None);
        assert_eq!(changed(|m| m.source = "/var/lib/other/17".into()), None);
        assert_eq!(changed(|m| m.source = m.source.replace("17", "x")), None);
    }

    #[test]
    fn links_are_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources::new(dir.path().to_owned());
        sources.link(1, Path::new("/a")).unwrap();
        sources.link(1, Path::new("/b")).unwrap();
        assert_eq!(fs::read_link(dir.path().join("1")).unwrap(), Path::new("/b"));
        assert_eq!(sources.linked().unwrap(), [1]);
        sources.unlink(1).unwrap();
        sources.unlink(1).unwrap();
        assert_eq!(sources.linked().unwrap(), [0_u64; 0]);
    }
}
