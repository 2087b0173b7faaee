//! The rows, done with the real functions.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use hcs::windows::System;
use hcs::{DriverInfo, Host, Privilege};
use windowsfilter::hcs_engine::ImportProcess;
use windowsfilter::{ChangeKind, Driver, LayerId, LayerStore, Presence, StorageOptions};

use crate::error::{Error, Result, chain};
use crate::process::run as run_command;
use crate::workspace;

use super::{Args, ROWS, layers};

/// What a row has found, or why it does not hold.
type Verdict = std::result::Result<String, Box<dyn std::error::Error>>;

/// A small sandbox is made as fast as a large one, and can be told from it.
const SIZE: u64 = 30 << 30;
/// What is put into the sandbox.
const MADE: &str = "windowsfilter-made.txt";

pub(super) fn run(args: &Args) -> Result<()> {
    let check = Check::new(args)?;
    let mut failed = Vec::new();
    for row in ROWS {
        match check.row(row) {
            Ok(detail) => println!("holds      {row}: {detail}"),
            Err(error) => {
                println!("DOES NOT   {row}: {}", chain(&*error));
                failed.push(row);
            }
        }
    }
    if let Err(error) = fs::remove_dir_all(&args.dir)
        && args.dir.exists()
    {
        println!("{} is left: {error}", args.dir.display());
    }
    if failed.is_empty() {
        println!("all {} rows hold", ROWS.len());
        return Ok(());
    }
    Err(Error::Unexpected(format!(
        "{} of {} rows do not hold: {}",
        failed.len(),
        ROWS.len(),
        failed.join(", ")
    )))
}

struct Check {
    system: System,
    import: ImportProcess,
    base: PathBuf,
    dir: PathBuf,
}

fn id(text: &str) -> std::result::Result<LayerId, windowsfilter::Error> {
    LayerId::new(text)
}

/// Fails with `text` unless `holds`.
fn expect(holds: bool, text: impl Into<String>) -> std::result::Result<(), Box<dyn std::error::Error>> {
    if holds { Ok(()) } else { Err(text.into().into()) }
}

impl Check {
    fn new(args: &Args) -> Result<Self> {
        let program = args.program.clone().map_or_else(built_program, Ok)?;
        let unusable = |error: hcs::Error| Error::Unexpected(error.to_string());
        let system = args.hcs_library.as_deref().map_or_else(|| Ok(System::new()), System::with_stand_in);
        let library = args
            .hcs_library
            .iter()
            .flat_map(|path| ["--hcs-library".to_owned(), path.to_string_lossy().into_owned()]);
        Ok(Self {
            system: system.map_err(unusable)?,
            import: ImportProcess::Child { program, arguments: library.collect() },
            base: args.base.clone(),
            dir: args.dir.clone(),
        })
    }

    fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    fn info(&self) -> DriverInfo {
        DriverInfo::filter(&self.home())
    }

    fn store(&self) -> std::result::Result<LayerStore, windowsfilter::Error> {
        let (system, import) = (self.system.clone(), self.import.clone());
        LayerStore::open_hcs(&self.home(), StorageOptions::default(), system, import)
    }

    fn row(&self, row: &str) -> Verdict {
        match row {
            "functions" => self.functions(),
            "privileges" => self.privileges(),
            "file system" => self.file_system(),
            "guid" => self.guid(),
            "base layer" => self.base_layer(),
            "paths" => self.paths(),
            "sandbox" => self.sandbox(),
            "mount" => self.mount(),
            "second prepare" => self.second_prepare(),
            "diff" => self.diff(),
            "delta" => self.delta(),
            "delta mount" => self.delta_mount(),
            "base diff" => self.base_diff(),
            "stuck disk" => self.stuck_disk(),
            "removal" => self.removal(),
            "open file" => self.open_file(),
            "replace" => self.replace(),
            other => Err(format!("there is no row {other}").into()),
        }
    }

    fn functions(&self) -> Verdict {
        let missing = self.system.missing_functions();
        expect(missing.is_empty(), format!("missing: {}", missing.join(", ")))?;
        Ok("all are found".into())
    }

    fn privileges(&self) -> Verdict {
        let all = [Privilege::Security, Privilege::Backup, Privilege::Restore];
        drop(self.system.thread_privileges(&all)?);
        // Another time, since the first one has given them back.
        drop(self.system.thread_privileges(&all)?);
        Ok("on and off, twice".into())
    }

    fn file_system(&self) -> Verdict {
        let name = self.system.file_system(&self.dir)?;
        expect(!name.eq_ignore_ascii_case("refs"), "it is ReFS")?;
        Ok(name)
    }

    fn guid(&self) -> Verdict {
        let (one, again) = (self.system.name_to_guid("base")?, self.system.name_to_guid("base")?);
        expect(one == again && one != self.system.name_to_guid("other")?, "it is another every time")?;
        Ok(one.to_string())
    }

    fn base_layer(&self) -> Verdict {
        let applied = self.store()?.apply_diff(&id("base")?, None, &mut File::open(&self.base)?)?;
        let layer = self.home().join("base");
        for name in ["blank-base.vhdx", "blank.vhdx", "layout", "Files"] {
            expect(layer.join(name).exists(), format!("{name} is missing"))?;
        }
        Ok(format!("{} bytes, {}", applied.size, applied.diff_id))
    }

    fn paths(&self) -> Verdict {
        expect(self.store()?.exists(&id("base")?)? == Presence::Present, "the layer is not found")?;
        expect(!self.system.layer_exists(&self.info(), "none")?, "a layer is found that is not there")?;
        Ok("flavour 1, an empty home, whole paths".into())
    }

    fn sandbox(&self) -> Verdict {
        let store = self.store()?;
        store.create_read_write(&id("box")?, Some(&id("base")?), StorageOptions { size: Some(SIZE) }, "")?;
        store.expand(&id("box")?, SIZE + (10 << 30))?;
        let disk = self.home().join("box").join("sandbox.vhdx");
        Ok(format!("a disk of {} bytes for {SIZE}, and larger", fs::metadata(disk)?.len()))
    }

    fn mount(&self) -> Verdict {
        let store = self.store()?;
        let view = store.get(&id("box")?, "")?;
        expect(view.join("Windows").is_dir(), format!("{} shows no Windows", view.display()))?;
        fs::write(view.join(MADE), b"made in the sandbox")?;
        Ok(view.display().to_string())
    }

    /// Says what the service answers, which is documented nowhere.
    fn second_prepare(&self) -> Verdict {
        let store = self.store()?;
        store.put(&id("box")?)?;
        let answer = match self.system.unprepare_layer(&self.info(), "box") {
            Ok(()) => "accepted".to_owned(),
            Err(error) => format!("refused with {}", error.code),
        };
        let view = store.get(&id("box")?, "")?;
        expect(view.join(MADE).exists(), "the file is gone")?;
        Ok(format!("unpreparing what is not prepared is {answer}"))
    }

    fn diff(&self) -> Verdict {
        let store = self.store()?;
        let mut tar = Vec::new();
        store.diff(&id("box")?, Some(&id("base")?))?.read_to_end(&mut tar)?;
        fs::write(self.dir.join("diff.tar"), &tar)?;
        let view = store.get(&id("box")?, "")?;
        fs::write(view.join("afterwards.txt"), b"still alive")?;
        store.put(&id("box")?)?;
        let name = format!("Files/{MADE}");
        let changes = store.changes(&id("box")?, None)?;
        let found =
            changes.iter().any(|change| change.path == name.as_bytes() && change.kind == ChangeKind::Modify);
        expect(found, format!("{name} is not among {} changes", changes.len()))?;
        Ok(format!("{} bytes, {} changes", tar.len(), changes.len()))
    }

    fn delta(&self) -> Verdict {
        let store = self.store()?;
        store.apply_diff(&id("layer")?, Some(&id("base")?), &mut File::open(self.dir.join("diff.tar"))?)?;
        store.apply_diff(&id("delta")?, Some(&id("layer")?), &mut &layers::delta(MADE)?[..])?;
        let files = self.home().join("delta").join("Files");
        expect(files.join("linked.txt").exists(), "the link to the file of a parent is missing")?;
        let followed = store.diff_getter(&id("delta")?)?.get(b"Files/junction/notepad.exe").is_ok();
        expect(!followed, "a file is read through a junction that leads out of the layer")?;
        Ok("a diff, and a layer with a link across layers, a deletion and a junction".into())
    }

    fn delta_mount(&self) -> Verdict {
        let store = self.store()?;
        store.create_read_write(
            &id("box2")?,
            Some(&id("delta")?),
            StorageOptions { size: Some(SIZE) },
            "",
        )?;
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

    fn base_diff(&self) -> Verdict {
        let store = self.store()?;
        let tar = self.dir.join("base.tar");
        std::io::copy(&mut store.diff(&id("base")?, None)?, &mut File::create(&tar)?)?;
        let applied = store.apply_diff(&id("again")?, None, &mut File::open(&tar)?)?;
        Ok(format!("{} bytes of files again", applied.size))
    }

    fn stuck_disk(&self) -> Verdict {
        let store = self.store()?;
        store.create_read_write(
            &id("stuck")?,
            Some(&id("base")?),
            StorageOptions { size: Some(SIZE) },
            "",
        )?;
        // What a crash leaves: active for the service, unknown to the store.
        self.system.activate_layer(&self.info(), "stuck")?;
        let removed = store.remove(&id("stuck")?);
        if removed.is_err() {
            // Or it would be in the way of the next row.
            for name in ["stuck", "stuck-removing"] {
                _ = self.system.deactivate_layer(&self.info(), name);
            }
        }
        removed?;
        expect(!self.home().join("stuck").exists(), "it is still there")?;
        Ok("removed with its disk attached".into())
    }

    fn removal(&self) -> Verdict {
        let store = self.store()?;
        for layer in ["box", "box2", "delta", "layer", "again", "base"] {
            if store.contains(&id(layer)?) {
                // Counted once more, should a row have failed half-way.
                while store.put(&id(layer)?).is_ok() {}
                store.remove(&id(layer)?)?;
            }
        }
        store.cleanup()?;
        let left: Vec<String> = fs::read_dir(self.home())?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != ".windowsfilter")
            .collect();
        expect(left.is_empty(), format!("left: {}", left.join(", ")))?;
        Ok("nothing is left".into())
    }

    /// A store of the engine that needs no Windows, with one layer.
    fn portable(&self) -> std::result::Result<LayerStore, Box<dyn std::error::Error>> {
        let store = LayerStore::open(&self.dir.join("portable"), StorageOptions::default())?;
        if !store.contains(&id("layer")?) {
            store.apply_diff(&id("layer")?, None, &mut &layers::base()?[..])?;
        }
        Ok(store)
    }

    fn open_file(&self) -> Verdict {
        let store = self.portable()?;
        let open = store.open_tar(&id("layer")?)?;
        let removed = store.remove(&id("layer")?);
        expect(removed.is_err(), "a layer is removed while its tar is open")?;
        expect(store.contains(&id("layer")?), "a layer that is in use is gone")?;
        drop(open);
        store.remove(&id("layer")?)?;
        Ok("a layer that is read stays, and goes afterwards".into())
    }

    /// As an index is replaced while another process reads it.
    fn replace(&self) -> Verdict {
        let store = self.portable()?;
        let path = self.dir.join("replaced");
        store.write_file(&path, b"one")?;
        let mut old = File::open(&path)?;
        store.write_file(&path, b"two")?;
        let mut text = String::new();
        old.read_to_string(&mut text)?;
        expect(text == "one", format!("whoever has the old one open reads {text:?}"))?;
        expect(fs::read(&path)? == b"two", "the new one is not there")?;
        Ok("the old one is read to its end, the new one is there".into())
    }
}

/// The command, built from this repository.
fn built_program() -> Result<PathBuf> {
    run_command(workspace::cargo().args(["build", "--quiet", "-p", "windowsfilter-cli"]))?;
    Ok(workspace::target_dir().join("debug").join("windowsfilter.exe"))
}
