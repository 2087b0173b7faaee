//! What must be true of a store, and how to find out that it is not.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::LayerStore;
use crate::digest::{DiffId, Digest};
use crate::driver::{Driver, Presence};
#[cfg(target_os = "linux")]
use crate::engine::portable::linux::sandbox_image;
use crate::engine::portable::{chain, import};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::record::{LayerKind, LayerRecord};
use crate::store::file;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The layer it concerns.
    pub id: Option<LayerId>,
    /// What is wrong.
    pub problem: String,
    /// Whether it was put right.
    pub repaired: bool,
}

impl LayerStore {
    /// Reads every byte of a layer and compares: the tar with its diffID and size, the indexes with what the tar gives.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], [`Error::SizeMismatch`], [`Error::Damaged`].
    pub fn verify(&self, id: &LayerId) -> Result<(), Error> {
        let record = self.record(id)?;
        self.chain_of(id)?;
        if record.kind == LayerKind::Layer {
            if self.is_in_place() {
                return Err(Error::Unsupported {
                    what: format!("verifying the bytes of layer {id}"),
                    needs: "the portable engine: the compute service does not keep the tar that they came in",
                });
            }
            self.verify_tar(id, &record)?;
            self.verify_index(id, &record)?;
            self.verify_chain_index(id)?;
        }
        Ok(())
    }

    fn verify_tar(&self, id: &LayerId, record: &LayerRecord) -> Result<(), Error> {
        let what = format!("layer {id}: {}", file::TAR);
        let path = self.dir(id)?.join(file::TAR);
        let tar = File::open(&path).map_err(|error| unopened(id, file::TAR, &path, error))?;
        let (digest, size) = Digest::of_reader(tar).at("read", &path)?;
        if size != record.tar_size {
            return Err(Error::SizeMismatch { what, expected: record.tar_size, actual: size });
        }
        match record.diff_id {
            Some(DiffId(expected)) if expected == digest => Ok(()),
            Some(DiffId(expected)) => Err(Error::DigestMismatch { what, expected, actual: digest }),
            None => {
                Err(Error::Damaged { id: id.clone(), file: file::RECORD, reason: "it has no diffID".into() })
            }
        }
    }

    fn verify_index(&self, id: &LayerId, record: &LayerRecord) -> Result<(), Error> {
        let path = self.dir(id)?.join(file::INDEX);
        let index = File::open(&path).map_err(|error| unopened(id, file::INDEX, &path, error))?;
        let (actual, _) = Digest::of_reader(index).at("read", &path)?;
        match record.index {
            Some(expected) if expected == actual => Ok(()),
            Some(expected) => {
                Err(Error::DigestMismatch { what: format!("layer {id}: {}", file::INDEX), expected, actual })
            }
            None => Err(Error::Damaged {
                id: id.clone(),
                file: file::RECORD,
                reason: "it has no index digest".into(),
            }),
        }
    }

    fn verify_chain_index(&self, id: &LayerId) -> Result<(), Error> {
        let path = self.dir(id)?.join(file::CHAIN_INDEX);
        let Ok(stored) = File::open(&path) else { return Ok(()) };
        let (actual, _) = Digest::of_reader(stored).at("read", &path)?;
        let mut hasher = HashWriter(Sha256::new());
        chain::build_chain_index(&self.chain_of(id)?, &mut hasher)?;
        let expected = Digest::from_bytes(hasher.0.finalize().into());
        if expected == actual {
            return Ok(());
        }
        Err(Error::DigestMismatch { what: format!("layer {id}: {}", file::CHAIN_INDEX), expected, actual })
    }

    /// Checks every invariant of the store, short of reading every tar ([`Self::verify`] does). With `repair`, what can be put
    /// right without losing anything is: leftovers go, indexes are rebuilt.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn fsck(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        let mut findings = self.find_leftovers(repair)?;
        for id in self.layers()? {
            if let Err(error) = self.check_layer(&id) {
                // Somebody removes layers while this goes on.
                if !self.contains(&id) {
                    continue;
                }
                let repaired = repair && self.repair_layer(&id).is_ok();
                findings.push(Finding { id: Some(id), problem: chain_text(&error), repaired });
            }
        }
        Ok(findings)
    }

    fn find_leftovers(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        for dir in self.leftovers()? {
            if matches!(self.paths.try_lock_directory(&dir), Ok(Some(_))) {
                let problem = format!("{} was left by an interrupted import or removal", dir.display());
                findings.push((dir, Finding { id: None, problem, repaired: false }));
            }
        }
        for id in self.abandoned_in_place()? {
            let problem = format!("{id} is not complete: it was left by a process that died");
            findings.push((self.paths.incomplete(&id), Finding { id: Some(id), problem, repaired: false }));
        }
        for path in self.paths.temporaries().abandoned()? {
            let problem = format!("{} was left by a process that died", path.display());
            findings.push((path, Finding { id: None, problem, repaired: false }));
        }
        #[cfg(target_os = "linux")]
        if let Some(template) = sandbox_image::unfinished_template(&self.paths.templates())? {
            let problem = format!("{} was left by a process that died", template.path.display());
            findings.push((template.path, Finding { id: None, problem, repaired: false }));
        }
        for id in self.abandoned_mounts()? {
            let problem = format!("mounts of {id} were left by a process that died");
            findings.push((self.paths.mount(&id), Finding { id: Some(id), problem, repaired: false }));
        }
        for (id, path) in self.abandoned_locks()? {
            if self.try_mount_lock(&id)?.is_some() {
                let problem = format!("{} is the lock of a layer that is gone", path.display());
                findings.push((path, Finding { id: None, problem, repaired: false }));
            }
        }
        if repair {
            self.cleanup()?;
        }
        let after = |(path, finding): (std::path::PathBuf, Finding)| Finding {
            repaired: repair && !path.exists(),
            ..finding
        };
        Ok(findings.into_iter().map(after).collect())
    }

    fn check_layer(&self, id: &LayerId) -> Result<(), Error> {
        let record = self.record(id)?;
        self.check_chain(id)?;
        let dir = self.dir(id)?;
        if self.is_in_place() {
            return match self.exists(id)? {
                Presence::Present => Ok(()),
                Presence::Absent => Err(Error::NoSuchLayer { id: id.to_string() }),
                Presence::Damaged { reason } => {
                    Err(Error::Damaged { id: id.clone(), file: file::RECORD, reason })
                }
            };
        }
        let expect = |name: &'static str, size: Option<u64>| {
            let damaged = |reason: String| Error::Damaged { id: id.clone(), file: name, reason };
            let actual = dir.join(name).metadata().map_err(|e| damaged(e.to_string()))?.len();
            match size {
                Some(size) if size != actual => {
                    Err(damaged(format!("it is {actual} bytes, expected {size}")))
                }
                _ => Ok(()),
            }
        };
        match record.kind {
            LayerKind::Empty => Ok(()),
            LayerKind::Sandbox => expect(file::SANDBOX, None),
            LayerKind::Layer => {
                expect(file::TAR, Some(record.tar_size))?;
                expect(file::INDEX, None)?;
                self.verify_index(id, &record)?;
                self.verify_chain_index(id)
            }
        }
    }

    /// A chain is its first parent and that parent's chain; anything else would show another view than the parent does.
    fn check_chain(&self, id: &LayerId) -> Result<(), Error> {
        let chain = self.chain_ids(id)?;
        self.chain_of(id)?;
        let Some((parent, rest)) = chain.split_first() else { return Ok(()) };
        if self.chain_ids(parent)? != rest {
            let reason = format!("it does not continue as the chain of its parent {parent} does");
            return Err(Error::Damaged { id: id.clone(), file: file::CHAIN, reason });
        }
        Ok(())
    }

    /// Rebuilds what can be rebuilt from the layer's truth.
    fn repair_layer(&self, id: &LayerId) -> Result<(), Error> {
        let record = self.expect_kind(id, LayerKind::Layer)?;
        if self.is_in_place() {
            return self.check_layer(id);
        }
        self.check_chain(id)?;
        let dir = self.dir(id)?;
        if self.verify_index(id, &record).is_err() {
            self.verify_tar(id, &record)?;
            import::rebuild_index(&dir.join(file::TAR), &dir.join(file::INDEX), &self.paths.temporaries())?;
        }
        if self.verify_chain_index(id).is_err() {
            let temporaries = self.paths.temporaries();
            chain::write_chain_index(&self.chain_of(id)?, &dir.join(file::CHAIN_INDEX), &temporaries)?;
        }
        self.check_layer(id)
    }
}

/// A file that a layer must have and that is not there is damage, like any other.
fn unopened(id: &LayerId, file: &'static str, path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::Damaged { id: id.clone(), file, reason: "it is missing".into() };
    }
    Error::Io { action: "open", path: path.to_owned(), source: error }
}

/// The error with its causes, on one line.
fn chain_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
