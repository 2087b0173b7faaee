//! Import: takes an image from a source into the store, or nothing at all.
//!
//! Order: documents; missing layers (two at a time, checked while they are read); then, under the lock,
//! publish the layers from the base up, and write the record last. A failure before publishing leaves
//! nothing; a failure during it removes what this import had published.
//!
//! One import at a time: two that wait for each other's half-read layers would deadlock, and the second one
//! finds the first one's layers.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Mutex;

use windowsfilter::driver::{Applied, Presence};
use windowsfilter::import::{Expect, ImportRequest, Progress};
use windowsfilter::{DiffId, Digest, ErrorKind, LayerId, LayerStore, StagedLayer};

use crate::error::Error;
use crate::layer_blobs::NewBlobs;
use crate::oci::{Config, MAX_LAYERS, chain_ids};
use crate::platform::Platform;
use crate::records::{ImageRecord, ImageStore, Imported, SourceLayer};
use crate::reference::Reference;
use crate::source::{self, Container, FoundImage, Source, Wanted};

/// Layers to read at a time: each has its own threads for inflating, hashing and writing.
const PARALLEL: usize = 2;

/// What to import and how.
pub struct ImportOptions<'a> {
    /// The source.
    pub path: Source<'a>,
    /// Which of several images: its name, tag or digest in the source. `None`: the one that `reference`
    /// names, or the only one.
    pub select: Option<String>,
    /// The image's name; `None`: all names that it has in the source.
    pub reference: Option<Reference>,
    /// Which of several platforms; `None`: the first for Windows.
    pub platform: Option<Platform>,
    /// Accepts images of other operating systems.
    pub force: bool,
    /// Keeps the layers' compressed blobs, so that an export has the same bytes.
    pub keep_blobs: bool,
    /// Receives progress.
    pub progress: &'a dyn ImageProgress,
}

impl<'a> ImportOptions<'a> {
    /// Options for the only image in `path`, with all its names there.
    pub fn new(path: Source<'a>) -> Self {
        Self {
            path,
            select: None,
            reference: None,
            platform: None,
            force: false,
            keep_blobs: false,
            progress: &(),
        }
    }
}

/// Receives the progress of an import or export. Called from several threads.
pub trait ImageProgress: Sync {
    /// The layers, base first.
    fn layers(&self, _ids: &[LayerId]) {}
    /// This layer needs no reading.
    fn present(&self, _id: &LayerId) {}
    /// Starts a layer of `bytes` bytes: of its blob or, for an export, of its tar. The returned object
    /// receives the progress, and is dropped at the layer's end.
    fn begin<'s>(&'s self, _id: &LayerId, _bytes: u64) -> Box<dyn Progress + 's> {
        Box::new(())
    }
}

impl ImageProgress for () {}

impl ImageStore {
    /// Imports an image.
    ///
    /// # Errors
    /// The source cannot be read, is not an image, or fails a check; nothing is left then.
    pub fn import(&self, options: ImportOptions<'_>) -> Result<Imported, Error> {
        let container = Container::open(options.path, &self.layers)?;
        let wanted = Wanted {
            select: options.select.as_deref(),
            reference: options.reference.as_ref(),
            platform: options.platform.as_ref(),
            force: options.force,
        };
        let image = source::find(&container, &wanted)?;
        let config = Config::parse(&image.config.1)?;
        let _imports = self.import_lock()?;
        let plan = Plan::new(&self.layers, &image, &config)?;
        options.progress.layers(&plan.ids);
        let staged = plan.stage(&container, options.progress)?;
        let blobs = match options.keep_blobs {
            true => self.copy_layer_blobs(&container, &image)?,
            false => NewBlobs::default(),
        };

        let _lock = self.lock()?;
        let Published { ids, mut notes } = plan.publish(staged)?;
        notes.extend(blobs.notes.iter().cloned());
        let records = self
            .publish_layer_blobs(blobs)
            .and_then(|blobs| self.record(&image, &config).inspect_err(|_| self.give_up_layer_blobs(&blobs)));
        imported(records.map_err(|error| undo(&self.layers, &ids, error))?, notes)
    }

    /// Writes the image's records, one per name.
    fn record(&self, image: &FoundImage, config: &Config) -> Result<Vec<ImageRecord>, Error> {
        self.write_blob(&image.config.0, &image.config.1)?;
        if let Some((digest, bytes)) = &image.manifest {
            self.write_blob(digest, bytes)?;
        }
        let sources: Vec<SourceLayer> = image
            .layers
            .iter()
            .map(|layer| {
                let descriptor = layer.descriptor.clone();
                descriptor.map_or_else(SourceLayer::default, |d| SourceLayer {
                    media_type: d.media_type,
                    digest: Some(d.digest),
                    size: d.size,
                    urls: d.urls,
                    annotations: d.annotations.unwrap_or_default(),
                })
            })
            .collect();
        let manifest = image.manifest.as_ref().map(|(digest, _)| *digest);
        let record = |name| ImageRecord::new(name, image.config.0, manifest, config, sources.clone());
        let records = image.names.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        self.write_records(&records)?;
        Ok(records)
    }
}

/// The result for an image with these records; at least one.
pub(crate) fn imported(mut records: Vec<ImageRecord>, notes: Vec<String>) -> Result<Imported, Error> {
    let references = records.iter().map(|record| record.reference.clone()).collect();
    let record = records.swap_remove(0);
    let top = record.top().cloned().ok_or_else(no_layers)?;
    let ImageRecord { reference, image_id, layers, .. } = record;
    Ok(Imported { reference, references, image_id, layers, top, notes })
}

fn no_layers() -> Error {
    Error::Malformed { what: "the image".into(), reason: "it has no layers".into() }
}

/// Removes the layers published before `error`, topmost first; reports both errors if that fails too.
pub(crate) fn undo(store: &LayerStore, published: &[LayerId], error: Error) -> Error {
    let store = store.undoing();
    for id in published.iter().rev() {
        if let Err(undo) = store.remove(id) {
            return match error {
                Error::Store(first) => first.with_undo(Err(undo)).into(),
                other => Error::Malformed {
                    what: other.to_string(),
                    reason: format!("and undoing it failed too: {undo}"),
                },
            };
        }
    }
    error
}

/// Whether the layer `id` is in the store and has the expected diffID.
pub(crate) fn is_present(store: &LayerStore, id: &LayerId, diff_id: DiffId) -> Result<bool, Error> {
    match store.presence(id)? {
        Presence::Absent => Ok(false),
        Presence::Present if store.record(id)?.diff_id == Some(diff_id) => Ok(true),
        Presence::Present => Err(Error::Malformed {
            what: format!("layer {id} of the store"),
            reason: format!("it is not {diff_id}, as its ID says"),
        }),
        Presence::Damaged { reason } => {
            Err(Error::Malformed { what: format!("layer {id} of the store"), reason })
        }
    }
}

/// The work for one image.
struct Plan<'a> {
    store: &'a LayerStore,
    image: &'a FoundImage,
    diff_ids: &'a [DiffId],
    ids: Vec<LayerId>,
}

impl<'a> Plan<'a> {
    fn new(store: &'a LayerStore, image: &'a FoundImage, config: &'a Config) -> Result<Self, Error> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(Error::LayerCount { diff_ids: diff_ids.len(), layers: image.layers.len() });
        }
        if diff_ids.is_empty() {
            return Err(no_layers());
        }
        if diff_ids.len() > MAX_LAYERS {
            let reason = format!(
                "it has {} layers; at most {MAX_LAYERS} are supported (docs/limits.md)",
                diff_ids.len()
            );
            return Err(Error::Malformed { what: "the image".into(), reason });
        }
        Ok(Self { store, image, diff_ids, ids: chain_ids(diff_ids)? })
    }

    /// Reads the missing layers, largest first, so that both threads finish at about the same time.
    fn stage(
        &self,
        container: &Container,
        progress: &dyn ImageProgress,
    ) -> Result<Vec<Option<StagedLayer>>, Error> {
        let mut missing = Vec::new();
        for (i, id) in self.ids.iter().enumerate() {
            if is_present(self.store, id, self.diff_ids[i])? {
                progress.present(id);
            } else {
                missing.push((self.image.open_layer(container, i)?, i));
            }
        }
        missing.sort_by_key(|(blob, i)| (std::cmp::Reverse(blob.size), *i));
        let queue = Mutex::new(VecDeque::from(missing));
        let done = Mutex::new(Ok(Vec::new()));
        std::thread::scope(|scope| {
            let work = || {
                while let Some((blob, i)) = next(&queue) {
                    let staged = self.stage_one(i, blob, container, progress);
                    let failed = staged.is_err();
                    collect(&done, i, staged);
                    if failed {
                        lock(&queue).clear();
                    }
                }
            };
            for _ in 1..PARALLEL {
                scope.spawn(work);
            }
            work();
        });
        let mut staged: Vec<Option<StagedLayer>> = self.ids.iter().map(|_| None).collect();
        for (i, layer) in done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)? {
            staged[i] = Some(layer);
        }
        Ok(staged)
    }

    fn stage_one(
        &self,
        i: usize,
        blob: source::Blob,
        container: &Container,
        progress: &dyn ImageProgress,
    ) -> Result<StagedLayer, Error> {
        let id = &self.ids[i];
        let layer = &self.image.layers[i];
        let label = format!(
            "layer {}",
            layer.descriptor.as_ref().map_or(layer.file.clone(), |d| d.digest.to_string())
        );
        let described = layer.descriptor.as_ref().filter(|_| layer.is_blob);
        if let Some(d) = described.filter(|d| d.size != blob.size) {
            return Err(Error::SizeMismatch { what: label, expected: d.size, actual: blob.size });
        }
        let expect = Expect { blob: described.map(|d| (d.digest, d.size)), diff_id: Some(self.diff_ids[i]) };
        let progress = progress.begin(id, blob.size);
        let blob: Box<dyn Read + Send> = Box::new(blob);
        let request = ImportRequest { blob, expect, progress: &*progress, label };
        self.store.stage(id, request).map_err(|error| self.blame(container, i, expect, error))
    }

    /// A damaged blob usually fails as a tar or a compressed stream long before its digest is known. The
    /// user needs to hear that the blob does not match the image, so it is read again to check that.
    fn blame(&self, container: &Container, i: usize, expect: Expect, error: windowsfilter::Error) -> Error {
        let is_of_the_blob = error.is_bad_data() || error.kind() == ErrorKind::Verify;
        let Some((expected, _)) = expect.blob.filter(|_| is_of_the_blob) else { return error.into() };
        let read = self.image.open_layer(container, i).map(Digest::of_reader);
        match read {
            Ok(Ok((actual, _))) if actual != expected => {
                let source = Some(Box::new(error));
                Error::DamagedBlob { path: container.label(), digest: expected, actual, source }
            }
            _ => error.into(),
        }
    }

    /// Publishes the staged layers, base first.
    fn publish(&self, staged: Vec<Option<StagedLayer>>) -> Result<Published, Error> {
        let mut published = Published::default();
        for (i, layer) in staged.into_iter().enumerate() {
            let parent = i.checked_sub(1).map(|below| &self.ids[below]);
            match self.publish_one(i, layer, parent) {
                Ok(Some(applied)) => published.add(self.ids[i].clone(), applied),
                Ok(None) => {}
                Err(error) => return Err(undo(self.store, &published.ids, error)),
            }
        }
        Ok(published)
    }

    fn publish_one(
        &self,
        i: usize,
        layer: Option<StagedLayer>,
        parent: Option<&LayerId>,
    ) -> Result<Option<Applied>, Error> {
        // Another process may have imported or removed it while this import was reading.
        if is_present(self.store, &self.ids[i], self.diff_ids[i])? {
            return Ok(None);
        }
        let layer = layer.ok_or_else(|| Error::LayerGone { id: self.ids[i].to_string() })?;
        Ok(Some(layer.publish(parent)?))
    }
}

/// The layers and blobs that an import has published.
#[derive(Default)]
struct Published {
    ids: Vec<LayerId>,
    /// Notes for the user.
    notes: Vec<String>,
}

impl Published {
    fn add(&mut self, id: LayerId, applied: Applied) {
        self.ids.push(id);
        self.notes.extend(applied.notes.iter().map(|note| format!("layer {}: {note}", applied.diff_id)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic of one thread ends the whole import: `scope` panics too.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn next<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    lock(queue).pop_front()
}

/// Keeps the staged layer or the first error. An error drops the staged layers, which removes them.
fn collect<T>(done: &Mutex<Result<Vec<(usize, T)>, Error>>, i: usize, staged: Result<T, Error>) {
    let mut done = lock(done);
    match (&mut *done, staged) {
        (Ok(list), Ok(layer)) => list.push((i, layer)),
        (Ok(_), Err(error)) => *done = Err(error),
        (Err(_), _) => {}
    }
}
