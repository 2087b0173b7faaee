//! Commit: a sandbox's changes become a layer, and an image of the parent's config with that layer on top.

use std::io::{self, Seek};

use serde_json::{Map, Value, json};
use windowsfilter::{DiffId, Digest, Driver, Expect, ImportRequest, LayerId, Progress};

use crate::error::{Error, IoContext};
use crate::import::{imported, is_present};
use crate::oci::{Config, chain_ids, parse};
use crate::records::{ImageRecord, ImageStore, Imported, SourceLayer};
use crate::reference::Reference;

/// What the new history entry and the image's name say.
pub struct CommitOptions<'a> {
    /// What the image will be called.
    pub reference: Reference,
    /// Who made the changes.
    pub author: Option<String>,
    /// What they are.
    pub message: Option<String>,
    /// When, in seconds since 1970; `None`: `SOURCE_DATE_EPOCH`, or now.
    pub created: Option<i64>,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
}

impl ImageStore<'_> {
    /// Makes an image of what the sandbox holds at this moment. Same changes, same options and same time give the same image.
    ///
    /// # Errors
    /// No such sandbox; names in it that Windows cannot hold.
    pub fn commit(&self, sandbox: &LayerId, options: CommitOptions<'_>) -> Result<Imported, Error> {
        let created = created(options.created)?;
        let chain = self.layers.chain_ids(sandbox)?;
        let (base, mut config) = self.parent_config(&chain)?;
        let mut diff = self.layers.diff(sandbox, None)?;
        let (mut spool, store) = (self.layers.spool()?, self.layers.root());
        io::copy(&mut diff, &mut spool).map_err(|error| match error.downcast::<windowsfilter::Error>() {
            // The sandbox is read while it is copied; what it cannot give is no matter of the file.
            Ok(error) => Error::Store(error),
            Err(source) => Error::Io {
                action: "write the changes to a temporary file in",
                path: store.to_owned(),
                source,
            },
        })?;
        spool.rewind().at("read a temporary file in", store)?;
        let (digest, size) = Digest::of_reader(&mut spool).at("read a temporary file in", store)?;
        spool.rewind().at("read a temporary file in", store)?;

        add_layer(&mut config, DiffId(digest), &created, &options)?;
        let bytes = serde_json::to_vec(&config).expect("a JSON value can be written");
        let parsed = Config::parse(&bytes)?;
        let ids = chain_ids(&parsed.rootfs.diff_ids)?;
        let (id, below) = ids.split_last().expect("a layer was just added");
        let expect = Expect { blob: Some((digest, size)), diff_id: Some(DiffId(digest)) };
        let request = ImportRequest {
            blob: Box::new(spool),
            expect,
            progress: options.progress,
            label: format!("changes of {sandbox}"),
        };
        let is_present = || is_present(self.layers, id, DiffId(digest));
        let lock = self.lock()?;
        // What was committed before is the same bytes.
        let _lock = if is_present()? {
            lock
        } else {
            // Nobody waits while the layer is written.
            drop(lock);
            let staged = self.layers.stage(id, request)?;
            let lock = self.lock()?;
            if !is_present()? {
                staged.publish(chain.first().or(below.last()))?;
            }
            lock
        };
        let image_id = Digest::of(&bytes);
        self.write_blob(&image_id, &bytes)?;
        let mut sources = base.map(|record| record.sources).unwrap_or_default();
        sources.resize(ids.len(), SourceLayer::default());
        let record = ImageRecord::new(&options.reference, image_id, None, &parsed, sources)?;
        self.write_record(&options.reference, &record)?;
        imported(record)
    }

    /// The config of an image with exactly this chain (nearest layer first), or one that says no more than its layers.
    fn parent_config(&self, chain: &[LayerId]) -> Result<(Option<ImageRecord>, Value), Error> {
        // What a record names does not go while it is read.
        let _lock = self.lock()?;
        let is_parent = |record: &ImageRecord| record.layers.iter().rev().eq(chain);
        if let Some(record) = self.records()?.into_iter().find(is_parent) {
            let (_, bytes) = self.config(&record)?;
            return Ok((Some(record), parse("the image's config", &bytes)?));
        }
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
        let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
        Ok((None, json!({ "architecture": "amd64", "os": "windows", "rootfs": rootfs })))
    }
}

/// The time of the commit, RFC 3339.
fn created(given: Option<i64>) -> Result<String, Error> {
    let seconds = match (given, std::env::var("SOURCE_DATE_EPOCH")) {
        (Some(seconds), _) => seconds,
        (None, Ok(text)) => text.parse().map_err(|_| Error::SourceDateEpoch { text })?,
        (None, Err(_)) => jiff::Timestamp::now().as_second(),
    };
    let time = jiff::Timestamp::from_second(seconds)
        .map_err(|_| Error::SourceDateEpoch { text: seconds.to_string() })?;
    Ok(time.to_string())
}

/// Adds a layer and its history to a config; everything else in it stays, whatever it is.
fn add_layer(
    config: &mut Value,
    diff_id: DiffId,
    created: &str,
    options: &CommitOptions<'_>,
) -> Result<(), Error> {
    let malformed =
        |reason: &str| Error::Malformed { what: "the parent image's config".into(), reason: reason.into() };
    let object = config.as_object_mut().ok_or_else(|| malformed("it is no object"))?;
    let diff_ids =
        object.get_mut("rootfs").and_then(|rootfs| rootfs.get_mut("diff_ids")).and_then(Value::as_array_mut);
    diff_ids.ok_or_else(|| malformed("it has no list of layers"))?.push(json!(diff_id));

    let mut entry = Map::from_iter([
        ("created".to_owned(), json!(created)),
        ("created_by".to_owned(), json!("windowsfilter commit")),
    ]);
    if let Some(author) = &options.author {
        entry.insert("author".into(), json!(author));
        object.insert("author".into(), json!(author));
    }
    if let Some(message) = &options.message {
        entry.insert("comment".into(), json!(message));
    }
    object.insert("created".into(), json!(created));
    let history = object.entry("history").or_insert(Value::Null);
    if history.is_null() {
        *history = json!([]);
    }
    history.as_array_mut().ok_or_else(|| malformed("its history is no list"))?.push(Value::Object(entry));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_added_to_a_config_and_nothing_else_is_touched() {
        let mut config = json!({
            "os": "windows", "x-vendor": { "deep": [1, null] }, "history": null, "rootfs": { "type": "layers", "diff_ids": [] }
        });
        let options = CommitOptions {
            reference: Reference::parse("a").unwrap(),
            author: Some("Ann".into()),
            message: None,
            created: None,
            progress: &(),
        };
        let time = created(Some(0)).unwrap();
        add_layer(&mut config, DiffId(Digest::of(b"x")), &time, &options).unwrap();
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        assert_eq!(config["x-vendor"], json!({ "deep": [1, null] }));
        assert_eq!(config["history"][0]["author"], "Ann");
        assert_eq!(config["rootfs"]["diff_ids"][0], Digest::of(b"x").to_string());
    }
}
