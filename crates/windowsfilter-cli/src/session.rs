//! What a command works with: the store, its images, where to print; and how names become layers.

use windowsfilter::{ErrorKind, LayerId, LayerStore, Limits, StreamForm};
use windowsfilter_image::ImageStore;

use crate::arguments::Global;
use crate::engine;
use crate::error::Error;
use crate::output::Output;
use crate::suggest;

/// An opened store.
pub(crate) struct Session {
    /// The layers.
    pub(crate) store: LayerStore,
    /// Where to print.
    pub(crate) output: Output,
}

impl Session {
    /// Opens the store that the options name; layers come in up to `limits`, streams are shown in the form `streams`.
    pub(crate) fn open(global: &Global, limits: Limits, streams: StreamForm) -> Result<Self, Error> {
        let store = engine::open(global)?.with_limits(limits).with_streams(streams);
        Ok(Self { store, output: Output::new(global.json, global.quiet) })
    }

    /// The images.
    pub(crate) fn images(&self) -> Result<ImageStore<'_>, Error> {
        Ok(ImageStore::open(&self.store)?)
    }

    /// The layer or sandbox whose ID is `name` or begins so.
    pub(crate) fn layer(&self, name: &str) -> Result<LayerId, Error> {
        match self.store.find(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let ids = self.store.layers()?;
                let similar = suggest::similar(name, ids.iter().map(LayerId::as_str)).map(str::to_owned);
                Err(Error::NoSuchLayer { name: name.to_owned(), similar })
            }
            other => Ok(other?),
        }
    }

    /// The top layer of the image called `name`, or the layer or sandbox with that ID.
    pub(crate) fn target(&self, name: &str) -> Result<LayerId, Error> {
        match self.try_target(name)? {
            Some(id) => Ok(id),
            None => Err(self.no_such_target(name)?),
        }
    }

    /// What is called `name` and is mounted: a mount must be undone by the name it was made with, even if something else has come to
    /// be called so. If nothing is, what [`Session::target`] gives.
    pub(crate) fn mounted_target(&self, name: &str) -> Result<LayerId, Error> {
        let image = self.images()?.lookup(name).ok().and_then(|image| image.top().cloned());
        let exact = LayerId::new(name).ok().filter(|id| self.store.contains(id));
        for id in exact.into_iter().chain(image) {
            if self.is_mounted(&id)? {
                return Ok(id);
            }
        }
        match self.store.having_prefix(name)?.as_slice() {
            [one] if self.is_mounted(one)? => Ok(one.clone()),
            _ => self.target(name),
        }
    }

    fn is_mounted(&self, id: &LayerId) -> Result<bool, Error> {
        Ok(self.store.mounts(id)?.count > 0)
    }

    /// As [`Session::target`]; `None` where nothing is called so.
    pub(crate) fn try_target(&self, name: &str) -> Result<Option<LayerId>, Error> {
        match self.images()?.resolve(name) {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // What cannot be a name is nobody's name.
            Err(windowsfilter_image::Error::Store(windowsfilter::Error::InvalidId { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The error for a `name` that nothing has, with the name that was probably meant.
    pub(crate) fn no_such_target(&self, name: &str) -> Result<Error, Error> {
        let images = self.images()?.records()?;
        let ids = self.store.layers()?;
        let known =
            images.iter().map(|image| image.reference.as_str()).chain(ids.iter().map(LayerId::as_str));
        let similar = suggest::similar(name, known).map(str::to_owned);
        Ok(Error::NoSuchTarget { name: name.to_owned(), similar })
    }
}
