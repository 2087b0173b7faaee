//! Rows about mishaps: killed processes, concurrent ones, exposed stores.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hcs::{AccessControl as _, Host as _};
use windowsfilter::driver::Presence;
use windowsfilter::{Driver, Error};

use super::check::{Check, Failure, Verdict, expect, id};
use super::layers;
use super::process::{Part, file};

/// Larger than a pipe's buffer, so that the child has read part of it.
const LARGE: usize = 4 << 20;
/// Timeout for everything here.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// Full control for everyone.
const FOR_EVERYBODY: &str = "D:P(A;OICI;FA;;;WD)";

impl Check {
    /// Polls `is_so` until the timeout.
    fn wait_until(&self, mut is_so: impl FnMut() -> Result<bool, Failure>) -> Result<bool, Failure> {
        let start = Instant::now();
        loop {
            if is_so()? {
                return Ok(true);
            }
            if start.elapsed() > PATIENCE {
                return Ok(false);
            }
            self.host.system.pause(BETWEEN_LOOKS);
        }
    }

    /// Checks that the store does not show the layer `name`, that cleanup leaves nothing of it, and that it
    /// can be imported now.
    fn is_gone_and_can_be_had(&self, name: &str) -> Result<(), Failure> {
        let store = self.host.store()?;
        expect(store.exists(&id(name)?)? == Presence::Absent, format!("half of {name} is a layer"))?;
        store.cleanup()?;
        let own = self.host.home().join(".windowsfilter");
        for dir in ["tmp", "staging", "incomplete"] {
            let left = names(&own.join(dir))?;
            expect(left.is_empty(), format!("{dir} has {left:?} after cleanup"))?;
        }
        expect(!self.host.home().join(name).exists(), format!("cleanup leaves {name}"))?;
        store.apply_diff(
            &id(name)?,
            Some(&id("base")?),
            &mut &layers::one_file("Files/large.bin", LARGE)?[..],
        )?;
        Ok(store.remove(&id(name)?)?)
    }

    pub(super) fn killed_child(&self) -> Verdict {
        let store = self.host.store_with(self.host.import_in(Part::KilledImport))?;
        let tar = layers::one_file("Files/large.bin", LARGE)?;
        let Err(error) = store.apply_diff(&id("killed-child")?, Some(&id("base")?), &mut &tar[..]) else {
            return Err("a layer whose import was killed half-way is there".into());
        };
        expect(
            error.to_string().contains("on purpose"),
            format!("another failure: {}", programs::error::chain(&error)),
        )?;
        self.is_gone_and_can_be_had("killed-child")?;
        Ok("an import that is killed leaves nothing, and can be done again".into())
    }

    pub(super) fn killed_parent(&self) -> Verdict {
        fs::write(self.dir.join(file::TAR), layers::one_file("Files/large.bin", LARGE)?)?;
        let mut parent = self.host.process(Part::Apply, "killed-parent")?.stdin(Stdio::null()).spawn()?;
        let stalled = self.dir.join(file::STALLED);
        let begun = self.wait_until(|| Ok(stalled.exists() || parent.try_wait()?.is_some()));
        parent.kill()?;
        parent.wait()?;
        expect(begun? && stalled.exists(), "the import did not begin")?;
        // Windows ends the child at some later moment.
        let lives = File::open(self.dir.join(file::LIVES))?;
        let ended = self.wait_until(|| Ok(lives.try_lock().is_ok()))?;
        expect(ended, "the process that fills the layer lives on")?;
        drop(lives);
        self.is_gone_and_can_be_had("killed-parent")?;
        Ok("the process that fills the layer ends with the one that has started it".into())
    }

    /// PrepareLayer times out if it is called twice at once.
    pub(super) fn two_processes(&self) -> Verdict {
        let names = ["two-a", "two-b"];
        for name in names {
            self.host.sandbox(name, "base")?;
        }
        let start = |name: &str| -> Result<Child, Failure> {
            let mut command = self.host.process(Part::Mount, name)?;
            Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
        };
        // Two with a sandbox each, and a third with the first one's.
        let children = [start("two-a"), start("two-b"), start("two-a")];
        let mut failures = Vec::new();
        for child in children {
            let out = child?.wait_with_output()?;
            if !out.status.success() {
                failures.push(String::from_utf8_lossy(&out.stderr).trim().to_owned());
            }
        }
        expect(failures.is_empty(), failures.join("; "))?;
        let store = self.host.store()?;
        for name in names {
            expect(store.mounts(&id(name)?)?.users() == 0, format!("{name} is mounted still"))?;
            store.remove(&id(name)?)?;
        }
        Ok("three processes mount two sandboxes at once, five times each".into())
    }

    pub(super) fn exposed_store(&self) -> Verdict {
        let home = self.dir.join("exposed");
        self.host.system.create_directory(&home, FOR_EVERYBODY)?;
        let exposed = match self.host.store_in(&home, self.host.import()) {
            Err(Error::Exposed { exposed }) => exposed,
            Err(other) => return Err(other.into()),
            Ok(_) => return Err("a store that everybody can write to is opened".into()),
        };
        let command = exposed.mended_by();
        // Works in PowerShell and cmd.exe, as long as the owner needs no change.
        let status = Command::new("powershell.exe").args(["-NoProfile", "-Command", &command]).output();
        let status = status.map_err(|error| format!("powershell.exe: {error}"))?.status;
        if let Err(error) = self.host.store_in(&home, self.host.import()) {
            return Err(format!("refused after {command:?} ({status}), too: {error}").into());
        }
        Ok(format!("refused ({exposed}), and opened after the command that the message gives"))
    }
}

fn names(dir: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
