//! Rows about the life of layers and sandboxes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use hcs::{Host as _, Privilege};
use windowsfilter::driver::{ChangeKind, Presence};
use windowsfilter::hcs_engine::ImportProcess;
use windowsfilter::{Driver, LayerStore, StorageOptions};

use super::check::{Check, Failure, SIZE, Verdict, expect, id};
use super::layers;

/// A file to put into the sandbox.
const MADE: &str = "windowsfilter-made.txt";
/// Functions bound for other users of the crate, which the engine never calls.
const NEVER_CALLED: [&str; 2] = ["GetBaseImages", "GrantVmAccess"];

impl Check {
    pub(super) fn functions(&self) -> Verdict {
        let mut missing = self.host.system.missing_functions();
        missing.retain(|name| !NEVER_CALLED.contains(name));
        expect(missing.is_empty(), format!("missing: {}", missing.join(", ")))?;
        Ok("all that the engine calls are found".into())
    }

    pub(super) fn privileges(&self) -> Verdict {
        let all = [Privilege::Security, Privilege::Backup, Privilege::Restore];
        drop(self.host.system.thread_privileges(&all)?);
        // Again: the first call's guard has released them.
        drop(self.host.system.thread_privileges(&all)?);
        Ok("on and off, twice".into())
    }

    pub(super) fn file_system(&self) -> Verdict {
        let name = self.host.system.file_system(&self.dir)?;
        expect(!name.eq_ignore_ascii_case("refs"), "it is ReFS")?;
        Ok(name)
    }

    pub(super) fn guid(&self) -> Verdict {
        let system = &self.host.system;
        let (one, again) = (system.name_to_guid("base")?, system.name_to_guid("base")?);
        expect(one == again && one != system.name_to_guid("other")?, "it is another every time")?;
        Ok(one.to_string())
    }

    pub(super) fn base_layer(&self) -> Verdict {
        let applied = self.host.store()?.apply_diff(&id("base")?, None, &mut File::open(&self.base)?)?;
        let layer = self.host.home().join("base");
        for name in ["blank-base.vhdx", "blank.vhdx", "layout", "Files"] {
            expect(layer.join(name).exists(), format!("{name} is missing"))?;
        }
        Ok(format!("{} bytes, {}", applied.size, applied.diff_id))
    }

    pub(super) fn paths(&self) -> Verdict {
        expect(self.host.store()?.exists(&id("base")?)? == Presence::Present, "the layer is not found")?;
        let found = self.host.system.layer_exists(&self.host.info(), "none")?;
        expect(!found, "a layer is found that is not there")?;
        Ok("flavour 1, an empty home, whole paths".into())
    }

    pub(super) fn sandbox(&self) -> Verdict {
        let store = self.host.sandbox("box", "base")?;
        store.expand(&id("box")?, SIZE + (10 << 30))?;
        let disk = self.host.home().join("box").join("sandbox.vhdx");
        Ok(format!("a disk of {} bytes for {SIZE}, and larger", fs::metadata(disk)?.len()))
    }

    pub(super) fn mount(&self) -> Verdict {
        let store = self.host.store()?;
        let view = store.get(&id("box")?, "")?;
        expect(view.join("Windows").is_dir(), format!("{} shows no Windows", view.display()))?;
        fs::write(view.join(MADE), b"made in the sandbox")?;
        let device = view.to_string_lossy().trim_end_matches('\\').to_owned();
        let answer = match self.host.system.is_directory(Path::new(&device)) {
            Ok(is_directory) => format!("a directory: {is_directory}"),
            Err(error) => format!("refused with {}", error.code),
        };
        Ok(format!("{}; {device} is {answer}", view.display()))
    }

    /// Uses a second store object, like another process, which knows of the first only from the records.
    pub(super) fn second_get(&self) -> Verdict {
        let mounted = self.host.store()?.mounts(&id("box")?)?;
        let store = self.host.store()?;
        let view = store.get(&id("box")?, "")?;
        let users = store.mounts(&id("box")?)?.users();
        store.put(&id("box")?)?;
        let shown = view.join(MADE).exists();
        let first = mounted.path.map(|path| path.display().to_string()).unwrap_or_default();
        expect(first == view.display().to_string(), format!("{first:?}, then {:?}", view.display()))?;
        expect(users == 2, format!("it counts {users} users"))?;
        expect(shown, "the file is not shown any more after the second put")?;
        Ok("the same path, counted twice, and mounted after one put".into())
    }

    /// Reports the service's answer, which is undocumented.
    pub(super) fn second_prepare(&self) -> Verdict {
        let store = self.host.store()?;
        store.put(&id("box")?)?;
        let answers = ["UnprepareLayer", "DeactivateLayer"].map(|call| {
            let result = if call == "UnprepareLayer" {
                self.host.system.unprepare_layer(&self.host.info(), "box")
            } else {
                self.host.system.deactivate_layer(&self.host.info(), "box")
            };
            let answer =
                result.map_or_else(|error| format!("refused with {}", error.code), |()| "accepted".into());
            format!("{call} of what is off is {answer}")
        });
        let view = store.get(&id("box")?, "")?;
        expect(view.join(MADE).exists(), "the file is gone")?;
        Ok(answers.join("; "))
    }

    pub(super) fn expand_while_mounted(&self) -> Verdict {
        let store = self.host.store()?;
        store.expand(&id("box")?, SIZE + (20 << 30))?;
        let path = store.mounts(&id("box")?)?.path.ok_or("it is not mounted any more")?;
        expect(path.join(MADE).exists(), "the file is not shown any more")?;
        fs::write(path.join("larger.txt"), b"written to the larger volume")?;
        Ok("grown, and mounted as before".into())
    }

    pub(super) fn diff(&self) -> Verdict {
        let store = self.host.store()?;
        let mut tar = Vec::new();
        store.diff(&id("box")?, Some(&id("base")?))?.read_to_end(&mut tar)?;
        fs::write(self.dir.join("diff.tar"), &tar)?;
        let view = store.get(&id("box")?, "")?;
        fs::write(view.join("afterwards.txt"), b"still alive")?;
        store.put(&id("box")?)?;
        let name = format!("Files/{MADE}");
        let changes = store.changes(&id("box")?)?;
        let found =
            changes.iter().any(|change| change.path == name.as_bytes() && change.kind == ChangeKind::Modify);
        expect(found, format!("{name} is not among {} changes", changes.len()))?;
        Ok(format!("{} bytes, {} changes", tar.len(), changes.len()))
    }

    pub(super) fn delta(&self) -> Verdict {
        let store = self.host.store()?;
        store.apply_diff(&id("layer")?, Some(&id("base")?), &mut File::open(self.dir.join("diff.tar"))?)?;
        store.apply_diff(&id("delta")?, Some(&id("layer")?), &mut &layers::delta(MADE)?[..])?;
        let files = self.host.home().join("delta").join("Files");
        expect(files.join("linked.txt").exists(), "the link to the file of a parent is missing")?;
        let followed = store.diff_getter(&id("delta")?)?.get(b"Files/junction/notepad.exe").is_ok();
        expect(!followed, "a file is read through a junction that leads out of the layer")?;
        Ok("a diff, and a layer with a link across layers, a deletion and a junction".into())
    }

    pub(super) fn delta_mount(&self) -> Verdict {
        let store = self.host.sandbox("box2", "delta")?;
        let view = store.get(&id("box2")?, "")?;
        let shows = [
            (view.join("linked.txt").exists(), "the link"),
            (!view.join(MADE).exists(), "the deletion"),
            (fs::symlink_metadata(view.join("junction")).is_ok(), "the junction"),
            (view.join("Windows").is_dir(), "the base layer"),
        ];
        store.put(&id("box2")?)?;
        for (holds, what) in shows {
            expect(holds, format!("{what} is not seen"))?;
        }
        Ok("link, deletion, junction and base layer are seen".into())
    }

    pub(super) fn base_diff(&self) -> Verdict {
        let store = self.host.store()?;
        let tar = self.dir.join("base.tar");
        std::io::copy(&mut store.diff(&id("base")?, None)?, &mut File::create(&tar)?)?;
        let applied = store.apply_diff(&id("again")?, None, &mut File::open(&tar)?)?;
        Ok(format!("{} bytes of files again", applied.size))
    }

    /// Docker mounts read-only layers to look for changes in them.
    pub(super) fn read_only_layer(&self) -> Verdict {
        let store = self.host.store()?;
        let path = store.get(&id("base")?, "")?;
        let again = store.get(&id("base")?, "");
        let users = store.mounts(&id("base")?)?.users();
        if again.is_ok() {
            store.put(&id("base")?)?;
        }
        store.put(&id("base")?)?;
        let again = again?;
        expect(
            path == again && users == 2,
            format!("{} and {}, {users} users", path.display(), again.display()),
        )?;
        expect(path.join("Files").is_dir(), format!("{} has no Files", path.display()))?;
        expect(store.mounts(&id("base")?)?.users() == 0, "it is mounted still")?;
        Ok(path.display().to_string())
    }

    pub(super) fn create_then_apply(&self) -> Verdict {
        let store = self.host.store()?;
        let layer = id("created")?;
        store.create(&layer, Some(&id("base")?))?;
        store.apply_diff(&layer, Some(&id("base")?), &mut &layers::one_file("Files/made.txt", 4)?[..])?;
        expect(read(&store, "created", "Files/made.txt")? == b"xxxx", "the file is another")?;
        store.remove(&layer)?;
        Ok("the empty layer is filled".into())
    }

    pub(super) fn no_re_exec(&self) -> Verdict {
        let store = self.host.store_with(ImportProcess::Here)?;
        let layer = id("here")?;
        store.apply_diff(&layer, Some(&id("base")?), &mut &layers::one_file("Files/made.txt", 4)?[..])?;
        expect(read(&store, "here", "Files/made.txt")? == b"xxxx", "the file is another")?;
        store.remove(&layer)?;
        // Acquire them again for this thread.
        drop(self.host.system.thread_privileges(&[Privilege::Backup, Privilege::Restore])?);
        Ok("a layer is filled in this process".into())
    }

    pub(super) fn stuck_disk(&self) -> Verdict {
        let store = self.host.sandbox("stuck", "base")?;
        // The state after a crash: active for the service, unknown to the store.
        self.host.system.activate_layer(&self.host.info(), "stuck")?;
        let removed = store.remove(&id("stuck")?);
        if removed.is_err() {
            // Otherwise it would disturb the next row.
            for name in ["stuck", "stuck-removing"] {
                _ = self.host.system.deactivate_layer(&self.host.info(), name);
            }
        }
        removed?;
        expect(!self.host.home().join("stuck").exists(), "it is still there")?;
        Ok("removed with its disk attached".into())
    }

    /// Removes the rows' layers, sandboxes and children first.
    pub(super) fn removal(&self) -> Verdict {
        let store = self.host.store()?;
        loop {
            let (mut removed, mut failure) = (false, None);
            for layer in store.layers()? {
                // Still counted if a row failed half-way.
                while store.put(&layer).is_ok() {}
                match store.remove(&layer) {
                    Ok(()) => removed = true,
                    Err(error) => failure = Some(error),
                }
            }
            match failure {
                None => break,
                Some(error) if !removed => return Err(error.into()),
                Some(_) => {}
            }
        }
        store.cleanup()?;
        let left: Vec<String> = fs::read_dir(self.host.home())?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != ".windowsfilter")
            .collect();
        expect(left.is_empty(), format!("left: {}", left.join(", ")))?;
        Ok("nothing is left".into())
    }

    /// A store of the portable engine with one layer.
    fn portable(&self) -> Result<LayerStore, Failure> {
        let store = LayerStore::open(&self.portable_root(), StorageOptions::default())?;
        if !store.contains(&id("layer")?) {
            store.apply_diff(&id("layer")?, None, &mut &layers::base()?[..])?;
        }
        Ok(store)
    }

    fn portable_root(&self) -> PathBuf {
        self.dir.join("portable")
    }

    pub(super) fn open_file(&self) -> Verdict {
        let store = self.portable()?;
        let open = store.open_tar(&id("layer")?)?;
        let removed = store.remove(&id("layer")?);
        expect(removed.is_err(), "a layer is removed while its tar is open")?;
        expect(store.contains(&id("layer")?), "a layer that is in use is gone")?;
        drop(open);
        store.remove(&id("layer")?)?;
        Ok("a layer that is read stays, and goes afterwards".into())
    }

    /// Replaces a file the way an index is replaced while another process reads it.
    pub(super) fn replace(&self) -> Verdict {
        let store = self.portable()?;
        let path = self.dir.join("replaced");
        store.files().write(&path, b"one")?;
        let mut old = File::open(&path)?;
        store.files().write(&path, b"two")?;
        let mut text = String::new();
        old.read_to_string(&mut text)?;
        expect(text == "one", format!("who has the old one open reads {text:?}"))?;
        expect(fs::read(&path)? == b"two", "the new one is not there")?;
        Ok("the old one is read to its end, the new one is there".into())
    }
}

/// A file of a layer by its tar name.
pub(super) fn read(store: &LayerStore, layer: &str, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    store.diff_getter(&id(layer)?)?.get(name.as_bytes())?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
