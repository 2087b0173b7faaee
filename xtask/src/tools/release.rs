//! Packages of another Debian release, unpacked into `target/tools` with all their dependencies.
//!
//! apt downloads them from this machine's mirror, so signatures are checked, into an area that shares
//! nothing else with the system's apt. That release's C library is unpacked with them, and small scripts in
//! `programs` start the programs with it: nothing of the system is used or changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages::apt_get;
use programs::error::{Error, IoContext, Result};
use programs::process::{output, run};
use programs::workspace::tools_dir;

/// The packages to take from a release.
pub(super) struct Release {
    /// Its code name.
    pub(super) suite: &'static str,
    /// Distinguishes its directory from others of the same release; may be empty.
    pub(super) purpose: &'static str,
    /// Packages; their dependencies are added.
    pub(super) packages: &'static [&'static str],
    /// Their programs that get a script in `programs`, as paths below the file system's root.
    pub(super) programs: &'static [&'static str],
}

/// The file with the requested packages: another list means another download.
const ASKED_FOR: &str = "packages";
/// The directory of the scripts. Not `bin`, which in a Debian tree may be a link to `usr/bin`.
const STARTERS: &str = "programs";

impl Release {
    /// The directory to unpack into.
    pub(super) fn dir(&self) -> PathBuf {
        tools_dir().join(format!("debian-{}{}", self.suite, self.purpose))
    }

    /// The script that starts one of [`Self::programs`], by its file name.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs_dir().join(name)
    }

    /// The directory of the scripts.
    pub(super) fn programs_dir(&self) -> PathBuf {
        self.dir().join(STARTERS)
    }

    /// Downloads and unpacks if necessary, and returns the directory, a root file system of its own.
    ///
    /// # Errors
    /// [`Error::Missing`] if apt has no Debian source to derive this one from; failures of apt-get and
    /// dpkg-deb.
    pub(super) fn ensure(&self) -> Result<PathBuf> {
        let dir = self.dir();
        let wanted = format!("{}\n{}\n", self.packages.join(" "), self.programs.join(" "));
        if fs::read_to_string(dir.join(ASKED_FOR)).is_ok_and(|asked_for| asked_for == wanted) {
            return Ok(dir);
        }
        let work = dir.with_extension("partial");
        remove(&work)?;
        let tree = work.join("tree");
        self.unpack(&work.join("apt"), &tree)?;
        fs::write(tree.join(ASKED_FOR), wanted).at(&tree)?;
        remove(&dir)?;
        // The scripts have the final path: write them before the rename that completes the directory.
        for program in self.programs {
            write_starter(&tree, &dir, program)?;
        }
        fs::rename(&tree, &dir).at(&dir)?;
        remove(&work)?;
        Ok(dir)
    }

    fn unpack(&self, apt: &Path, tree: &Path) -> Result<()> {
        let apt = AptArea::create(apt, self.suite)?;
        run(apt.command().arg("update"))?;
        // With nothing installed, apt downloads all dependencies, including the C library.
        run(apt
            .command()
            .args(["install", "--yes", "--download-only", "--no-install-recommends"])
            .args(self.packages))?;
        let downloads = apt.0.join("cache/archives");
        for deb in fs::read_dir(&downloads).at(&downloads)? {
            let deb = deb.at(&downloads)?.path();
            // apt also has `partial` and `lock` there.
            if deb.extension().is_some_and(|extension| extension == "deb") {
                output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(tree))?;
            }
        }
        Ok(())
    }
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() { fs::remove_dir_all(dir).at(dir) } else { Ok(()) }
}

/// Writes `programs/<program>` in `tree`: starts the program with the C library beside it, by their paths
/// in `dir`.
fn write_starter(tree: &Path, dir: &Path, program: &str) -> Result<()> {
    if !tree.join(program).is_file() {
        return Err(Error::Missing(format!("none of the unpacked packages has {program}")));
    }
    let libraries = library_dir(tree)?;
    let loader = fs::read_dir(tree.join(&libraries))
        .at(&libraries)?
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .find(|name| name.starts_with("ld-linux"))
        .ok_or_else(|| Error::Missing(format!("{}: no dynamic loader in it", libraries.display())))?;
    let libraries = dir.join(libraries);
    let script = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        libraries.join(loader).display(),
        libraries.display(),
        dir.join(program).display()
    );
    let name = Path::new(program).file_name().unwrap_or_default();
    let path = tree.join(STARTERS).join(name);
    fs::create_dir_all(tree.join(STARTERS)).at(&path)?;
    fs::write(&path, script).at(&path)?;
    make_executable(&path)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).at(path)
}

/// The programs run on Linux only; elsewhere this file only has to compile.
#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}

/// `usr/lib/<triplet>`: the one directory there that has a C library.
fn library_dir(tree: &Path) -> Result<PathBuf> {
    let lib = tree.join("usr/lib");
    let found = fs::read_dir(&lib)
        .at(&lib)?
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .find(|name| lib.join(name).join("libc.so.6").exists());
    found
        .map(|name| Path::new("usr/lib").join(name))
        .ok_or_else(|| Error::Missing(format!("{}: no C library in it", lib.display())))
}

/// Settings, lists and cache of an apt that shares only keyring and mirror with the system's.
struct AptArea(PathBuf);

impl AptArea {
    fn create(dir: &Path, suite: &str) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = dir.join(part);
            fs::create_dir_all(&part).at(&part)?;
        }
        let sources = dir.join("sources.list");
        fs::write(&sources, source_of(suite)?).at(&sources)?;
        let status = dir.join("status");
        fs::write(&status, "").at(&status)?;
        Ok(Self(dir.to_owned()))
    }

    fn command(&self) -> Command {
        let mut command = apt_get();
        let mut set = |key: &str, value: &Path| {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        };
        set("Dir::Etc::sourcelist", &self.0.join("sources.list"));
        set("Dir::Etc::sourceparts", Path::new("-"));
        set("Dir::State::lists", &self.0.join("lists"));
        set("Dir::State::status", &self.0.join("status"));
        set("Dir::Cache", &self.0.join("cache"));
        // As root, apt downloads as a user of its own, who cannot write here.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command.args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"]);
        command.args(["-o", "Acquire::Languages=none"]);
        command
    }
}

/// The apt source of a release, at this machine's own mirror.
fn source_of(suite: &str) -> Result<String> {
    let mirror = debian_mirror()?;
    Ok(format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main\n"))
}

/// The mirror of this machine's own packages.
pub(crate) fn debian_mirror() -> Result<String> {
    let format = "$(ORIGIN)|$(COMPONENT)|$(CODENAME)|$(REPO_URI)";
    let targets =
        output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    main_mirror(&targets).map(str::to_owned).ok_or_else(|| {
        Error::Missing(
            "apt has no source of Debian's main archive, or no lists of it; run apt-get update".into(),
        )
    })
}

/// The mirror in the output of `apt-get indextargets` that has a whole release, not its updates.
fn main_mirror(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| {
        let mut fields = line.splitn(4, '|');
        let (origin, component, codename) = (fields.next()?, fields.next()?, fields.next()?);
        let is_release = origin == "Debian" && component == "main" && !codename.contains('-');
        fields.next().filter(|uri| is_release && !uri.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_the_whole_release() {
        let targets = "Example|main|stable|http://other.example/\n\
                       Debian|main|bookworm-updates|http://mirror.example/debian/\n\
                       Debian|contrib|bookworm|http://contrib.example/debian/\n\
                       Debian|main|bookworm|http://main.example/debian/\n";
        assert_eq!(main_mirror(targets), Some("http://main.example/debian/"));
        assert_eq!(main_mirror("Example|main|stable|http://other.example/\n"), None);
    }

    #[test]
    fn a_program_that_no_package_has_is_named() {
        let tree = tempfile::tempdir().unwrap();
        let error = write_starter(tree.path(), Path::new("/there"), "usr/bin/absent").unwrap_err();
        assert!(error.to_string().contains("usr/bin/absent"), "{error}");
    }
}
