//! Filling a layer from its staged tar, in a process of its own or in this one (`importLayer` of the original).
//!
//! The child gets the tar as its standard input. It may use privileges freely, since no other thread of it can lose them, and a
//! crash of Microsoft's library takes only it along.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hcs::Host;

use super::write_layer::{self, Target};
use super::{Hcs, make_layer_directory, paths, staged_tar};
use crate::engine::Layer;
use crate::error::{Error, IoContext};

/// The command line of the process that fills a layer: this, the home, the layer's ID, its parents' paths, nearest first. It prints how
/// many bytes the layer's files have. The name is the original's (`docker-windows-write-layer`).
pub const WRITE_LAYER_COMMAND: &str = "docker-windows-write-layer";

/// Where a layer is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportProcess {
    /// In this process: for looking for errors. Its privileges are switched on and off again (`DOCKER_WINDOWSFILTER_NOREEXEC`).
    Here,
    /// In a child: this program, with these arguments before [`WRITE_LAYER_COMMAND`].
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
                command.arg(&self.info.home).arg(id.as_str()).args(&parents);
                run_child(id.as_str(), command, tar)?;
            }
        }
        // What it was made from is not needed any more.
        fs::remove_file(&tar_path).at("remove", &tar_path)?;
        tracing::debug!("layer {id}: installed in {}", paths::plain(&layer.place.dir).display());
        Ok(())
    }
}

/// Runs the child to its end. What it writes to its error output is its error; only what it prints is its result.
fn run_child(id: &str, mut command: Command, tar: File) -> Result<u64, Error> {
    let failed = |reason: String| Error::ImportProcess { id: id.to_owned(), reason };
    let output = command
        .stdin(tar)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| failed(format!("cannot start {}: {error}", command.get_program().display())))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(failed(format!("{}: {}", output.status, text(&output.stderr))));
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
        run_child("one", command, File::open("/dev/null").unwrap())
    }

    #[test]
    fn the_child_says_the_size_and_may_talk_beside_it() {
        assert_eq!(run("echo note >&2; echo 42").unwrap(), 42);
    }

    #[test]
    fn a_child_that_fails_gives_its_words_and_the_layer() {
        let error = run("echo out of order >&2; exit 1").unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("out of order"), "{error}");
        let error = run("echo forty").unwrap_err().to_string();
        assert!(error.contains("\"forty\""), "{error}");
        let killed = run("kill -9 $$").unwrap_err().to_string();
        assert!(killed.contains("signal"), "{killed}");
        let missing = run_child("one", Command::new("/no/such/program"), File::open("/dev/null").unwrap());
        assert!(missing.unwrap_err().to_string().contains("/no/such/program"));
    }
}
