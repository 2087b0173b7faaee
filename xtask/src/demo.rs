//! `cargo xtask demo`: the whole tool at work, step by step, with ordinary commands that a reader can type.
//!
//! Everything happens in a directory of its own that is removed at the end. A step that fails ends the demo
//! and unmounts everything.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::packages;
use crate::product::{COMMAND, Profile, SAMPLES};
use programs::error::{Error, IoContext, Result};
use programs::mounts::unmount_below;
use programs::process::{is_root, output, run as run_command, run_unannounced, shown};

/// Show the whole tool at work on an image made for the purpose.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Entries of the image.
    #[arg(long, default_value_t = 5000)]
    entries: usize,
}

/// Runs the demo.
///
/// # Errors
/// The first step that fails, or has an unexpected result.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        return Err(Error::Missing("the demo mounts file systems: run it as root".into()));
    }
    packages::ensure()?;
    println!("The tool is built first, which takes minutes the first time.");
    Profile::Dev.build(&[COMMAND, SAMPLES])?;
    let area = std::env::temp_dir().join(format!("windowsfilter-demo-{}", std::process::id()));
    fs::create_dir(&area).at(&area)?;
    let demo = Demo { binary: Profile::Dev.program(COMMAND), area: area.clone() };
    let start = Instant::now();
    let result = demo.steps(args);
    unmount_below(&area);
    let removed = fs::remove_dir_all(&area).at(&area);
    result.and(removed)?;
    println!("\nAll of it took {:.1} s.", start.elapsed().as_secs_f64());
    Ok(())
}

struct Demo {
    binary: PathBuf,
    area: PathBuf,
}

const REF: &str = "sample:ltsc2022";
const CHANGED: &str = "sample:changed";
const COPY: &str = "sample:copy";

impl Demo {
    fn steps(&self, args: &Args) -> Result<()> {
        self.make_and_import(args)?;
        self.look_without_mounting()?;
        self.change()?;
        self.commit()?;
        self.export_and_compare()?;
        self.clean_up()
    }

    fn title(text: &str) {
        println!("\n## {text}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.area.join(name)
    }

    /// The tool, on the demo's own store.
    fn tool<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new("windowsfilter");
        command.args(args);
        command
    }

    /// Prints the command as a reader would type it, without the paths of binary and store, and runs the
    /// tool.
    fn show<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<()> {
        println!("$ {}", shown(&self.tool(args)));
        run_unannounced(Command::new(&self.binary).args(args).env("WINDOWSFILTER_ROOT", self.path("store")))
    }

    /// Runs the tool with `--json`, quietly.
    fn ask(&self, args: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.arg("--json").args(args).env("WINDOWSFILTER_ROOT", self.path("store"));
        let text = output(&mut command)?;
        serde_json::from_str(&text).map_err(|source| Error::Json { what: shown(&command), source })
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<()> {
        run_command(Command::new(program).args(args).current_dir(self.path("mnt")))
    }

    fn make_and_import(&self, args: &Args) -> Result<()> {
        Self::title("A Windows image, made for the purpose: base layer and two more");
        let image = self.path("image.tar");
        let mut sample = Command::new(Profile::Dev.program(SAMPLES));
        sample.arg("sample-image").arg(&image).args(["--format", "oci-archive", "--ref", REF]);
        run_unannounced(sample.args(["--entries", &args.entries.to_string()]))?;
        Self::title("Import it: every digest is checked, nothing is unpacked");
        let image = image.to_string_lossy().into_owned();
        self.show(&["image", "import", &image, "--ref", REF])?;
        self.show(&["image", "inspect", REF])
    }

    fn look_without_mounting(&self) -> Result<()> {
        Self::title("Look inside without mounting and without root");
        self.show(&["ls", "-l", &format!("{REF}:C:\\Users")])?;
        self.show(&["stat", &format!("{REF}:C:\\WINDOWS\\notepad.EXE")])?;
        self.show(&["cat", &format!("{REF}:/Windows/System32/drivers/etc/hosts")])
    }

    fn change(&self) -> Result<()> {
        Self::title("A sandbox on top, mounted by the kernel");
        self.show(&["create", REF, "--name", "box"])?;
        let mnt = self.path("mnt");
        fs::create_dir(&mnt).at(&mnt)?;
        self.show(&["mount", "box", "--target", &mnt.to_string_lossy()])?;
        Self::title("Change it with ordinary tools");
        self.run("cp", &["/etc/os-release", "Users/Public/os-release.txt"])?;
        self.run("sh", &["-c", "echo 10.0.0.5 registry.local | tee -a Windows/System32/drivers/etc/hosts"])?;
        self.run("mv", &["License.txt", "Licence.txt"])?;
        self.run("rm", &["Windows/explorer.exe"])?;
        self.run("mkdir", &["Program Files/New"])?;
        self.run("cp", &["Windows/notepad.exe", "Program Files/New/editor.exe"])?;
        self.show(&["layer", "changes", "box"])
    }

    fn commit(&self) -> Result<()> {
        Self::title("Commit: the changes become a layer as Windows would export it");
        self.show(&["commit", "box", "--ref", CHANGED, "--author", "demo", "--message", "edited on Linux"])?;
        let top = self.ask(&["image", "inspect", CHANGED])?;
        let layers = strings(&top, "layers")?;
        let top = layers.last().ok_or_else(|| Error::Unexpected(format!("{CHANGED} has no layers")))?;
        self.show(&["layer", "verify", top])?;
        self.show(&["image", "inspect", CHANGED])
    }

    fn export_and_compare(&self) -> Result<()> {
        Self::title("Export, import under another name, compare");
        let export = self.path("export.tar").to_string_lossy().into_owned();
        self.show(&["image", "export", CHANGED, &export, "--format", "oci-archive", "--compress", "gzip"])?;
        // A store without any of the layers, so that every byte comes from the export.
        let other = self.path("other-store").to_string_lossy().into_owned();
        self.show(&["--root", &other, "image", "import", &export, "--ref", COPY])?;
        let ours = self.ask(&["image", "inspect", CHANGED])?;
        let theirs = self.ask(&["--root", &other, "image", "inspect", COPY])?;
        for field in ["image_id", "diff_ids"] {
            let (ours, theirs) = (&ours[field], &theirs[field]);
            if ours.is_null() || ours != theirs {
                return Err(Error::Unexpected(format!("{field}: {CHANGED} has {ours}, {COPY} has {theirs}")));
            }
            println!("{field} of {CHANGED} and {COPY} are the same: {ours}");
        }
        self.show(&["--root", &other, "fsck"])
    }

    fn clean_up(&self) -> Result<()> {
        Self::title("Unmount, remove, check");
        self.show(&["umount", "box"])?;
        self.show(&["layer", "rm", "box"])?;
        self.show(&["image", "rm", CHANGED])?;
        self.show(&["image", "ls"])?;
        self.show(&["fsck"])
    }
}

fn strings(value: &Value, field: &str) -> Result<Vec<String>> {
    let list = value[field].as_array();
    let text = |item: &Value| item.as_str().or_else(|| item["id"].as_str()).map(str::to_owned);
    list.and_then(|list| list.iter().map(text).collect())
        .ok_or_else(|| Error::Unexpected(format!("no list {field:?} in {value}")))
}
