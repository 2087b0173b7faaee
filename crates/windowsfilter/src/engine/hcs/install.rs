//! Fills a layer from its staged tar, in a child process or in this one (`importLayer` of the original).
//!
//! The child reads the tar from its standard input. It can enable privileges for the whole process, since no
//! other thread of it can lose them, and a crash in Microsoft's library ends only the child.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hcs::Host;

use super::target::Target;
use super::write_layer;
use super::{Hcs, make_layer_directory, paths, staged_tar};
use crate::engine::Layer;
use crate::error::{Error, IoContext};
use crate::store::file;

/// The command of the process that fills a layer. Its arguments are the home, the layer's ID and, if there
/// are parents, a file with their paths in the form of `layerchain.json`. It prints the total size of the
/// layer's files in bytes. The name is the original's (`docker-windows-write-layer`), which passes the paths
/// themselves as arguments, where only some 300 fit.
pub(super) const WRITE_LAYER_COMMAND: &str = "docker-windows-write-layer";

/// Where a layer is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportProcess {
    /// In this process, for debugging. Its privileges are enabled and disabled again
    /// (`DOCKER_WINDOWSFILTER_NOREEXEC`).
    Here,
    /// In a child: this program, with these arguments before the name of its command,
    /// `docker-windows-write-layer`.
    Child {
        /// The program.
        program: PathBuf,
        /// Its first arguments.
        arguments: Vec<String>,
    },
}

impl<H: Host> Hcs<H> {
    pub(super) fn install_layer(&self, layer: &Layer, staged: &Path) -> Result<(), Error> {
        let id = &layer.place.id;
        let parents = self.asked_parents(id, layer.below())?;
        make_layer_directory(&layer.place.dir)?;
        let tar_path = staged_tar(staged);
        let tar = File::open(&tar_path).at("open", &tar_path)?;
        match &self.import {
            ImportProcess::Here => {
                let target = Target { info: &self.info, id: id.as_str(), parents: &parents };
                write_layer::write_here(&*self.host, &target, &self.temporaries, tar)?;
            }
            ImportProcess::Child { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments).arg(WRITE_LAYER_COMMAND);
                command.arg(&self.info.home).arg(id.as_str());
                if !parents.is_empty() {
                    command.arg(write_chain(staged, &parents)?);
                }
                run_child(id.as_str(), command, tar, |child| self.host.tie_to_this_process(child))?;
            }
        }
        // The tar is not needed any more.
        fs::remove_file(&tar_path).at("remove", &tar_path)?;
        tracing::debug!("layer {id}: installed in {}", paths::plain(&layer.place.dir).display());
        Ok(())
    }
}

/// Writes the paths of the parents, nearest first, for the child.
fn write_chain(staged: &Path, parents: &[PathBuf]) -> Result<PathBuf, Error> {
    let path = staged.join(file::CHAIN);
    let names: Vec<_> = parents.iter().map(|parent| parent.to_string_lossy()).collect();
    fs::write(&path, wclayer::layer_chain::write(&names)).at("write", &path)?;
    Ok(path)
}

/// Reads the file of parents that was passed to the child.
///
/// # Errors
/// When it cannot be read, or is not a chain.
pub fn read_chain(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let content = fs::read(path).at("read", path)?;
    let chain = wclayer::layer_chain::parse(&content).map_err(std::io::Error::other).at("read", path)?;
    Ok(chain.into_iter().map(PathBuf::from).collect())
}

/// Runs the child to its end. Its standard output is the result. Its standard error is the error if it fails,
/// else warnings.
///
/// `tie` makes the child end with this process: this process holds the layer's lock, and a child that
/// outlives it would write into the layer of the next attempt.
fn run_child(
    id: &str,
    mut command: Command,
    tar: File,
    tie: impl FnOnce(&Child) -> hcs::Result<()>,
) -> Result<u64, Error> {
    let failed = |reason: String| Error::ImportProcess { id: id.to_owned(), reason };
    let child = command
        .stdin(tar)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot start {}: {error}", command.get_program().display())))?;
    if let Err(error) = tie(&child) {
        tracing::warn!(
            "layer {id}: should this process be killed, the one that fills the layer goes on: {error}"
        );
    }
    let output = child.wait_with_output().map_err(|error| failed(format!("cannot wait for it: {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(failed(format!("{}: {}", output.status, text(&output.stderr))));
    }
    // Warnings, for example about entries that it left out of the layer.
    for line in text(&output.stderr).lines() {
        tracing::warn!("layer {id}: {line}");
    }
    let printed = text(&output.stdout);
    printed.parse().map_err(|_| failed(format!("it printed {printed:?} where the size should be")))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<u64, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_child("one", command, File::open("/dev/null").unwrap(), |_| Ok(()))
    }

    #[test]
    fn the_child_says_the_size_and_may_talk_beside_it() {
        assert_eq!(run("echo note >&2; echo 42").unwrap(), 42);
    }

    #[test]
    fn the_child_finds_the_parents_that_were_written_for_it() {
        let staged = tempfile::tempdir().unwrap();
        let parents: Vec<PathBuf> = (0..1000).map(|n| format!(r"C:\layers\{n:0200}").into()).collect();
        assert_eq!(read_chain(&write_chain(staged.path(), &parents).unwrap()).unwrap(), parents);
        let error = read_chain(&staged.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn a_child_that_fails_gives_its_words_and_the_layer() {
        let error = run("echo out of order >&2; exit 1").unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("out of order"), "{error}");
        let error = run("echo forty").unwrap_err().to_string();
        assert!(error.contains("\"forty\""), "{error}");
        let killed = run("kill -9 $$").unwrap_err().to_string();
        assert!(killed.contains("signal"), "{killed}");
        let tar = File::open("/dev/null").unwrap();
        let missing = run_child("one", Command::new("/no/such/program"), tar, |_| Ok(()));
        assert!(missing.unwrap_err().to_string().contains("/no/such/program"));
    }
}
