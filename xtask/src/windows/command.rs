//! The command under Wine, side by side with this machine's: both read the store that the one under Wine
//! has made, and must print the same, byte for byte.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::chroot::Chroot;
use super::empty_area;
use crate::product::{COMMAND, Profile, SAMPLES};
use programs::error::{Error, IoContext, Result};
use programs::process::{output, run as run_command, shown};

/// The sample image's name in the store.
const REF: &str = "sample:ltsc2022";

/// Both commands and their directories.
struct Commands<'a> {
    chroot: &'a Chroot,
    windows: &'a Path,
    native: PathBuf,
    area: PathBuf,
}

/// Imports, lists, reads, verifies and exports with the program at `windows`.
///
/// # Errors
/// If it fails, or prints something else than this machine's command.
pub(super) fn check(chroot: &Chroot, windows: &Path) -> Result<()> {
    Profile::Dev.build(&[COMMAND, SAMPLES])?;
    let native = Profile::Dev.program(COMMAND);
    let commands = Commands { chroot, windows, native, area: empty_area("command")? };
    commands.help()?;
    commands.import()?;
    commands.read()?;
    commands.refusals()?;
    commands.layers()?;
    commands.export()
}

impl Commands<'_> {
    fn path(&self, name: &str) -> String {
        self.area.join(name).to_string_lossy().into_owned()
    }

    /// The command for Windows. Its paths are this machine's: Wine finds them on its current drive.
    fn wine<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.chroot.command("wine");
        command.arg(self.windows).arg("--root").arg(self.area.join("store")).args(arguments);
        command
    }

    fn native<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.native);
        command.arg("--root").arg(self.area.join("store")).args(arguments);
        command
    }

    /// Runs both and compares their output.
    fn same(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        println!("$ windowsfilter.exe {}", arguments.join(" "));
        let windows = bytes(&mut self.wine(arguments))?;
        let native = bytes(&mut self.native(arguments))?;
        if windows == native && !windows.is_empty() {
            return Ok(windows);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Err(Error::Unexpected(format!(
            "windowsfilter.exe {}: under Wine it prints\n{}\nhere\n{}",
            arguments.join(" "),
            text(&windows),
            text(&native)
        )))
    }

    fn help(&self) -> Result<()> {
        let help = output(&mut self.wine(&["--help"]))?;
        expect("--help", help.contains("Usage: windowsfilter"), &help)
    }

    fn import(&self) -> Result<()> {
        let image = self.path("image.tar");
        let mut sample = Command::new(Profile::Dev.program(SAMPLES));
        sample.args(["sample-image", &image, "--format", "oci-archive", "--ref", REF]);
        run_command(sample.args(["--entries", "500", "--bytes", "10000000"]))?;
        run_command(&mut self.wine(&["--quiet", "image", "import", &image, "--ref", REF]))
    }

    fn read(&self) -> Result<()> {
        self.same(&["--json", "image", "ls"])?;
        self.same(&["--json", "image", "inspect", REF])?;
        for directory in ["/", "C:\\Users", "/Windows/System32"] {
            self.same(&["--json", "ls", &format!("{REF}:{directory}")])?;
        }
        self.same(&["ls", "-l", &format!("{REF}:C:\\WINDOWS")])?;
        self.same(&["--json", "stat", &format!("{REF}:/windows/NOTEPAD.exe")])?;
        self.same(&["cat", &format!("{REF}:/Windows/System32/drivers/etc/hosts")])?;
        self.same(&["cat", &format!("{REF}:/Windows/notepad.exe")]).map(drop)
    }

    /// Checks that every layer verifies, and that its diff has its digest.
    fn layers(&self) -> Result<()> {
        let inspected = output(&mut self.native(&["--json", "image", "inspect", REF]))?;
        let image: Value = serde_json::from_str(&inspected)
            .map_err(|source| Error::Json { what: "image inspect".into(), source })?;
        let strings = |field: &str| -> Vec<String> {
            let items = image[field].as_array().into_iter().flatten();
            items
                .filter_map(|item| item.as_str().or_else(|| item["id"].as_str()).map(str::to_owned))
                .collect()
        };
        let (layers, diff_ids) = (strings("layers"), strings("diff_ids"));
        expect("image inspect", !layers.is_empty() && layers.len() == diff_ids.len(), &inspected)?;
        for (layer, diff_id) in layers.iter().zip(&diff_ids) {
            self.same(&["--json", "layer", "verify", layer])?;
            let tar = self.same_bytes(&["layer", "diff", layer])?;
            let file = self.area.join("layer.tar");
            fs::write(&file, &tar).at(&file)?;
            let sum = output(Command::new("sha256sum").arg(&file))?;
            let digest = format!("sha256:{}", sum.split(' ').next().unwrap_or_default());
            expect("layer diff", digest == *diff_id, &format!("{layer}: {digest}, and not {diff_id}"))?;
        }
        run_command(&mut self.wine(&["fsck"]))?;
        run_command(&mut self.native(&["fsck"]))
    }

    fn same_bytes(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let windows = bytes(&mut self.wine(arguments))?;
        let native = bytes(&mut self.native(arguments))?;
        expect(&arguments.join(" "), windows == native, "not the same bytes as here")?;
        Ok(windows)
    }

    fn export(&self) -> Result<()> {
        let (theirs, ours) = (self.path("windows.tar"), self.path("native.tar"));
        let export =
            |to: &str| ["--quiet", "image", "export", REF, to, "--format", "oci-archive"].map(str::to_owned);
        run_command(&mut self.wine(&export(&theirs)))?;
        run_command(&mut self.native(&export(&ours)))?;
        let same = fs::read(&theirs).at(&theirs)? == fs::read(&ours).at(&ours)?;
        expect("image export", same, "the archives differ")?;
        let layout = self.path("layout");
        run_command(&mut self.wine(&["--quiet", "image", "export", REF, &layout]))?;
        let copy = self.path("copy");
        run_command(
            Command::new(&self.native).args(["--quiet", "--root", &copy, "image", "import", &layout]),
        )?;
        run_command(&mut self.wine(&["image", "rm", REF]))?;
        run_command(&mut self.wine(&["prune"]))?;
        let left = self.path("store/layers");
        let count = fs::read_dir(&left).at(&left)?.count();
        expect("prune", count == 0, &format!("{count} entries are left in {left}"))
    }

    /// Checks that commands that need Linux say so.
    fn refusals(&self) -> Result<()> {
        let mut command = self.wine(&["create", REF, "--name", "box"]);
        let out = command.stdin(Stdio::null()).output();
        let out = out.map_err(|source| Error::Start { program: "unshare".into(), source })?;
        let text = String::from_utf8_lossy(&out.stderr);
        expect("create", !out.status.success() && text.contains("needs Linux"), &text)
    }
}

/// The output of a command, byte for byte.
fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out =
        command.stdin(Stdio::null()).output().map_err(|source| Error::Start { program: name, source })?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    let output = format!("\n{}", String::from_utf8_lossy(&out.stderr)).trim_end().to_owned();
    Err(Error::Failed { command: shown(command), status: out.status, output })
}

fn expect(what: &str, is_so: bool, instead: &str) -> Result<()> {
    if is_so { Ok(()) } else { Err(Error::Unexpected(format!("windowsfilter.exe {what}: {instead}"))) }
}
