//! Packages of another Debian release, unpacked beside each other into `target/tools`, with all they depend
//! on.
//!
//! They are downloaded with apt from the mirror this machine is set up for, so signatures are checked, into
//! an area that shares nothing else with the system's apt. The C library of that release is unpacked with
//! them, and small scripts in `programs` start the programs with it: nothing of the system is used or
//! changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages::apt_get;
use programs::error::{Error, IoContext, Result};
use programs::process::{output, run};
use programs::workspace::tools_dir;

/// What is wanted of a release.
pub(super) struct Release {
    /// Its code name.
    pub(super) suite: &'static str,
    /// What tells its directory from others of the same release, or nothing.
    pub(super) purpose: &'static str,
    /// Packages; what they depend on comes along.
    pub(super) packages: &'static [&'static str],
    /// Programs of theirs, as paths below the root of the file system, that get a script in `programs`.
    pub(super) programs: &'static [&'static str],
}

/// Kept in the directory: what was asked for, so that another list is another download.
const ASKED_FOR: &str = "packages";
/// Where the scripts are. Not `bin`, which in a Debian tree may be another name of `usr/bin`.
const STARTERS: &str = "programs";

impl Release {
    /// Where it is unpacked.
    pub(super) fn dir(&self) -> PathBuf {
        tools_dir().join(format!("debian-{}{}", self.suite, self.purpose))
    }

    /// The script that starts one of [`Self::programs`], by its file name.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs_dir().join(name)
    }

    /// Where the scripts are.
    pub(super) fn programs_dir(&self) -> PathBuf {
        self.dir().join(STARTERS)
    }

    /// Downloads and unpacks unless that is done, and returns the directory, a root file system of its own.
    ///
    /// # Errors
    /// [`Error::Missing`] when apt has no Debian source to derive this one from; what apt-get and dpkg-deb
    /// fail with.
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
        // The scripts hold the final path: they are written before the rename that makes the directory count.
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
        // apt takes nothing for installed, so that it brings all that the programs need, C library included.
        run(apt
            .command()
            .args(["install", "--yes", "--download-only", "--no-install-recommends"])
            .args(self.packages))?;
        let downloads = apt.0.join("cache/archives");
        for deb in fs::read_dir(&downloads).at(&downloads)? {
            let deb = deb.at(&downloads)?.path();
            // apt has its own `partial` and `lock` there.
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

/// Writes `programs/<program>` in `tree`: the program under the C library unpacked beside it, as they will be
/// found in `dir`.
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

/// The packages' programs run on Linux only; elsewhere this file only has to build.
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

/// Settings, lists and cache of an apt that shares nothing with the system's but keyring and mirror.
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
        // As root, apt hands downloads to a user of its own, who cannot write here.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command.args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"]);
        command.args(["-o", "Acquire::Languages=none"]);
        command
    }
}

/// The apt source of a release, from the mirror that this machine gets its own packages from.
fn source_of(suite: &str) -> Result<String> {
    let mirror = debian_mirror()?;
    Ok(format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main\n"))
}

/// The mirror that this machine gets its own packages from.
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

/// The mirror in `apt-get indextargets`' answer that carries a whole release, not its updates.
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
