//! Commit: turns a sandbox's changes into a layer, and makes an image of the parent's config with that
//! layer on top.

use std::sync::Arc;

use serde_json::json;
use wclayer::filetime::FileTime;
use windowsfilter::diff::{DiffOptions, LeftOut, Spooled};
use windowsfilter::import::{Expect, ImportRequest, Progress};
use windowsfilter::support::StoreLock;
use windowsfilter::{DiffId, Digest, LayerId, LayerKind};

use crate::config_edits::{ConfigEdits, Step};
use crate::error::Error;
use crate::import::{imported, is_present};
use crate::json::{JsonError, Object, Raw};
use crate::oci::{Config, MAX_JSON, chain_ids};
use crate::records::{ImageRecord, ImageStore, Imported, SourceLayer};
use crate::reference::Reference;

/// The new image's name and history entry, and how to commit.
pub struct CommitOptions<'a> {
    /// The image's name.
    pub reference: Reference,
    /// The author of the changes.
    pub author: Option<String>,
    /// A description of the changes.
    pub message: Option<String>,
    /// Time of the commit, seconds since 1970; the portable engine clamps the new layer's file times to it.
    /// `None`: now.
    pub created: Option<i64>,
    /// Changes of the image's config.
    pub edits: ConfigEdits,
    /// Whether attributes that no layer can hold are an error; otherwise they are left out with a note.
    pub strict: bool,
    /// Receives progress.
    pub progress: &'a dyn Progress,
}

impl CommitOptions<'_> {
    /// Options with this name and the present time, without author and message.
    pub fn new(reference: Reference) -> Self {
        Self {
            reference,
            author: None,
            message: None,
            created: None,
            edits: ConfigEdits::default(),
            strict: false,
            progress: &(),
        }
    }
}

impl ImageStore {
    /// Makes an image of the sandbox's present content: the parent image's config with one more layer. The
    /// same changes, options and time give the same image.
    ///
    /// # Errors
    /// [`Error::InvalidEdit`], [`Error::DigestReference`], [`Error::TooLong`]; a missing sandbox; names in it
    /// that Windows cannot hold; [`Error::SeveralParents`].
    pub fn commit(&self, sandbox: &LayerId, options: CommitOptions<'_>) -> Result<Imported, Error> {
        options.reference.check_new()?;
        let created = rfc3339(options.created)?;
        let kind = self.layers.record(sandbox)?.kind;
        if kind != LayerKind::Sandbox {
            let (expected, actual) = (LayerKind::Sandbox.as_str(), kind.as_str());
            return Err(windowsfilter::Error::WrongKind { id: sandbox.clone(), expected, actual }.into());
        }
        let chain = self.layers.chain_ids(sandbox)?;
        let (mut sources, mut config) = self.parent_config(sandbox, &chain, &options)?;
        let step = Step {
            created: &created,
            author: options.author.as_deref(),
            comment: options.message.as_deref(),
        };
        // An edit that is refused is refused before the sandbox is read.
        record_step(&mut config, step)?;
        let edited = options.edits.apply(&mut config, Step { comment: None, ..step })?;
        let left_out = Arc::new(LeftOut::default());
        let (digest, changes) = self.spool_changes(sandbox, &options, &left_out)?;
        add_layer(&mut config, DiffId(digest))?;
        let bytes = config_bytes(&config)?;
        let parsed = Config::parse(&bytes)?;
        let ids = chain_ids(&parsed.rootfs.diff_ids)?;
        let (id, below) = ids.split_last().expect("a layer was just added");
        let (_lock, notes) =
            self.publish_once(id, chain.first().or(below.last()), DiffId(digest), changes)?;
        let notes = left_out.notes().into_iter().chain(notes).chain(edited).collect();
        let image_id = Digest::of(&bytes);
        self.write_blob(&image_id, &bytes)?;
        sources.resize(ids.len(), SourceLayer::default());
        let record = ImageRecord::new(&options.reference, image_id, None, &parsed, sources)?;
        self.write_record(&options.reference, &record)?;
        imported(vec![record], notes)
    }

    /// Copies the sandbox's changes to a temporary file, because they are read twice and must not change in
    /// between. Returns their digest.
    fn spool_changes<'o>(
        &self,
        sandbox: &LayerId,
        options: &CommitOptions<'o>,
        left_out: &Arc<LeftOut>,
    ) -> Result<(Digest, ImportRequest<'o>), Error> {
        // An export of the compute service is used unchanged.
        let wanted = match self.layers.keeps_tars() {
            true => DiffOptions {
                newest: options.created.map(|seconds| FileTime::from_unix(seconds, 0)),
                strict: options.strict,
                left_out: Some(left_out.clone()),
                ..DiffOptions::default()
            },
            false => DiffOptions::default(),
        };
        let Spooled { file, digest, size } = self.layers.spool_changes(sandbox, wanted)?;
        let expect = Expect { blob: Some((digest, size)), diff_id: Some(DiffId(digest)) };
        let label = format!("changes of {sandbox}");
        Ok((digest, ImportRequest { blob: Box::new(file), expect, progress: options.progress, label }))
    }

    /// Publishes the layer, unless it exists: the same changes have the same bytes. Returns the lock that
    /// keeps it from removal, and notes for the user.
    fn publish_once(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        diff_id: DiffId,
        changes: ImportRequest<'_>,
    ) -> Result<(StoreLock, Vec<String>), Error> {
        let is_present = || is_present(&self.layers, id, diff_id);
        let lock = self.lock()?;
        if is_present()? {
            return Ok((lock, Vec::new()));
        }
        // Write the layer without blocking others.
        drop(lock);
        let staged = self.layers.stage(id, changes)?;
        let lock = self.lock()?;
        let notes = if is_present()? { Vec::new() } else { staged.publish(parent)?.notes };
        Ok((lock, notes))
    }

    /// The parent image's config, and the layers' sources if known. A sandbox made from a layer gets the
    /// config of the image with exactly this chain (nearest layer first), or else a bare one that only
    /// lists the layers, with a warning that mentions `new`.
    fn parent_config(
        &self,
        sandbox: &LayerId,
        chain: &[LayerId],
        options: &CommitOptions<'_>,
    ) -> Result<(Vec<SourceLayer>, Object), Error> {
        // Keeps the documents that a record names from removal while they are read.
        let _lock = self.lock()?;
        let mut parents = self.records()?;
        parents.retain(|record| record.layers.iter().rev().eq(chain));
        let image = self.layers.record(sandbox)?.image;
        if let Some(image) = image {
            parents.retain(|record| record.image_id == image);
        }
        let Some(image) = image.or(parents.first().map(|record| record.image_id)) else {
            if options.edits.os_version.is_none() {
                tracing::warn!(
                    "no image to take the config from: {} has no Cmd, Env or OS version, and Windows may refuse it; --cmd, --env and \
                     --os-version set them",
                    options.reference.as_str()
                );
            }
            return Ok((Vec::new(), self.bare_config(chain)?));
        };
        if parents.iter().any(|record| record.image_id != image) {
            let names = parents.into_iter().map(|record| record.reference).collect();
            return Err(Error::SeveralParents { sandbox: sandbox.to_string(), names });
        }
        let bytes = self.blob(&image)?;
        if chain_ids(&Config::parse(&bytes)?.rootfs.diff_ids)?.iter().rev().ne(chain) {
            let what = format!("the config {image} of the sandbox's image");
            return Err(Error::Malformed {
                what,
                reason: "its layers are not those below the sandbox".into(),
            });
        }
        let sources = parents.into_iter().next().map(|record| record.sources);
        Ok((sources.unwrap_or_default(), Object::parse("the image's config", &bytes)?))
    }

    fn bare_config(&self, chain: &[LayerId]) -> Result<Object, Error> {
        let mut diff_ids = Vec::new();
        for id in chain.iter().rev() {
            diff_ids.extend(self.layers.record(id)?.diff_id);
        }
        if chain_ids(&diff_ids)?.iter().rev().ne(chain) {
            let what = "the layers below the sandbox".to_owned();
            let reason =
                "their IDs are not those of an image's layers, so no image can be made of them".to_owned();
            return Err(Error::Malformed { what, reason });
        }
        let history = vec![json!({ "comment": "a layer of no image" }); diff_ids.len()];
        let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
        let config =
            json!({ "architecture": "amd64", "os": "windows", "rootfs": rootfs, "history": history });
        Object::parse("the new image's config", config.to_string().as_bytes())
    }
}

/// A config that was made here as a document, which other stores read too: no longer than they do.
pub(crate) fn config_bytes(config: &Object) -> Result<Vec<u8>, Error> {
    let bytes = config.text().into_bytes();
    let actual = bytes.len() as u64;
    if actual > MAX_JSON {
        let what = "the new image's config".to_owned();
        return Err(Error::TooLong { what, actual, limit: MAX_JSON });
    }
    Ok(bytes)
}

/// The time of a commit or edit, as configs have it; `None`: now.
pub(crate) fn rfc3339(seconds: Option<i64>) -> Result<String, Error> {
    let seconds = seconds.unwrap_or_else(|| jiff::Timestamp::now().as_second());
    let time = jiff::Timestamp::from_second(seconds).map_err(|_| Error::InvalidTime { seconds })?;
    Ok(time.to_string())
}

fn malformed(source: JsonError) -> Error {
    Error::Json { what: "the parent image's config".into(), source }
}

/// Adds the history entry of a commit; everything else stays as it is, spelling of keys included.
fn record_step(config: &mut Object, step: Step<'_>) -> Result<(), Error> {
    step.sign(config);
    step.add_history(config, ["windowsfilter commit"], false).map_err(malformed)
}

/// Adds a layer; everything else stays as it is, spelling of keys included.
fn add_layer(config: &mut Object, diff_id: DiffId) -> Result<(), Error> {
    let mut rootfs = config.object("rootfs").map_err(malformed)?;
    let mut diff_ids = rootfs.list("diff_ids").map_err(malformed)?;
    diff_ids.push(Raw::of(&diff_id));
    rootfs.set_list("diff_ids", &diff_ids);
    config.set_object("rootfs", &rootfs);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_layer(config: &str) -> String {
        let mut config = Object::parse("it", config.as_bytes()).unwrap();
        let time = rfc3339(Some(0)).unwrap();
        let step = Step { created: &time, author: Some("Ann"), comment: None };
        record_step(&mut config, step).unwrap();
        add_layer(&mut config, DiffId(Digest::of(b"x"))).unwrap();
        config.text()
    }

    const STEP: &str =
        r#"{"author":"Ann","created":"1970-01-01T00:00:00Z","created_by":"windowsfilter commit"}"#;

    #[test]
    fn a_layer_is_added_to_a_config_and_nothing_else_is_touched() {
        let config = r#"{"os":"windows","x-vendor":{"deep":[1.50,null]},"history":null,"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let layer = Digest::of(b"x");
        let expected = format!(
            "{{\"os\":\"windows\",\"x-vendor\":{{\"deep\":[1.50,null]}},\"history\":[{STEP}],\
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{layer}\"]}},\"author\":\"Ann\",\"created\":\"1970-01-01T00:00:00Z\"}}"
        );
        assert_eq!(with_layer(config), expected);
    }

    #[test]
    fn a_config_keeps_the_spelling_that_it_has() {
        let base = Digest::of(b"base");
        let config = format!(
            "{{\"rootfS\":{{\"type\":\"layers\",\"Diff_Ids\":[\"{base}\"]}},\"History\":[{{\"x\":1}}],\"CREATED\":\"then\",\
             \"config\":{{\"user\":\"ContainerUser\"}}}}"
        );
        let layer = Digest::of(b"x");
        let expected = format!(
            "{{\"rootfS\":{{\"type\":\"layers\",\"Diff_Ids\":[\"{base}\",\"{layer}\"]}},\"History\":[{{\"x\":1}},{STEP}],\
             \"CREATED\":\"1970-01-01T00:00:00Z\",\"config\":{{\"user\":\"ContainerUser\"}},\"author\":\"Ann\"}}"
        );
        assert_eq!(with_layer(&config), expected);
    }
}
