//! The session of a command: the opened store, its images, the output; and how names become layers.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use windowsfilter::metadata::StreamForm;
use windowsfilter::{ErrorKind, LayerId, LayerStore, Limits};
use windowsfilter_image::ImageStore;

use crate::engine;
use crate::error::{Error, IoContext};
use crate::global::Global;
use crate::interrupt;
use crate::output::Output;
use crate::suggest;

/// An opened store.
pub(crate) struct Session {
    /// The layers.
    pub(crate) store: LayerStore,
    /// The images, opened by the first who asks.
    images: OnceCell<ImageStore>,
    /// Where to print.
    pub(crate) output: Output,
}

/// How a command opens the store.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    global: &'a Global,
    limits: Limits,
    streams: StreamForm,
    make: bool,
}

impl<'a> Opening<'a> {
    /// The store that the options name, which must exist, with default limits.
    pub(crate) fn new(global: &'a Global) -> Self {
        Self { global, limits: Limits::default(), streams: StreamForm::default(), make: false }
    }

    /// Sets the limits on layers that come in and on diffs of sandboxes.
    pub(crate) fn limits(self, limits: impl Into<Limits>) -> Self {
        Self { limits: limits.into(), ..self }
    }

    /// Sets how streams are shown by what the command creates or mounts.
    pub(crate) fn streams(self, streams: StreamForm) -> Self {
        Self { streams, ..self }
    }

    /// Imports into the store: creates it if it is missing. With `force`, layers without anything for Windows
    /// come in too.
    pub(crate) fn importing(self, limits: impl Into<Limits>, force: bool) -> Self {
        let limits = Limits { foreign_layers: force, ..limits.into() };
        Self { limits, make: true, ..self }
    }

    /// Opens it.
    pub(crate) fn open(self) -> Result<Session, Error> {
        let store = engine::open(self.global, self.make)?;
        let store = store.with_limits(self.limits).with_streams(self.streams);
        let output = Output::new(self.global.json, self.global.quiet);
        interrupt::watch(store.cancel(), output.stderr());
        Ok(Session { store, images: OnceCell::new(), output })
    }
}

impl Session {
    /// The images.
    pub(crate) fn images(&self) -> Result<&ImageStore, Error> {
        if let Some(images) = self.images.get() {
            return Ok(images);
        }
        let images = ImageStore::open(self.store.clone())?;
        Ok(self.images.get_or_init(|| images))
    }

    /// The layer or sandbox whose ID is `name` or begins so, or the top layer of the image that is called so.
    pub(crate) fn layer(&self, name: &str) -> Result<LayerId, Error> {
        match self.store.find(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.try_target(name)?.map_or_else(
                || Err(Error::NoSuchLayer { name: name.to_owned(), similar: self.similar(name)? }),
                Ok,
            ),
            other => Ok(other?),
        }
    }

    /// The sandbox that `name` means, which no image can be.
    pub(crate) fn sandbox(&self, name: &str) -> Result<LayerId, Error> {
        match self.store.find(name) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.try_target(name)?.is_some() => {
                Err(Error::NotASandbox { name: name.to_owned() })
            }
            _ => self.layer(name),
        }
    }

    /// What `result` says, or, where no image is called `name` but a layer or sandbox, that.
    pub(crate) fn of_image<T>(
        &self,
        name: &str,
        result: Result<T, windowsfilter_image::Error>,
    ) -> Result<T, Error> {
        match result {
            Err(windowsfilter_image::Error::NoSuchImage { text }) => match self.store.find(name) {
                Ok(id) => {
                    let kind = self.store.record(&id)?.kind.as_str();
                    Err(Error::NotAnImage { name: text, id, kind })
                }
                Err(_) => Err(windowsfilter_image::Error::NoSuchImage { text }.into()),
            },
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

    /// The mounted layer that `name` means: a mount must be undone by the name it was made with, even if
    /// something else has the name by now. Or the layer that is mounted at that path, with the path. If
    /// neither exists, the answer of [`Session::target`].
    pub(crate) fn mounted_target(&self, name: &OsStr) -> Result<(LayerId, Option<PathBuf>), Error> {
        if let Some(id) = name.to_str().map(|name| self.mounted_name(name)).transpose()?.flatten() {
            return Ok((id, None));
        }
        // Recorded by the name that the kernel has for it.
        let path = Path::new(name);
        let path = path.canonicalize().or_else(|_| std::path::absolute(path)).at("find", path)?;
        if let Some(id) = self.store.mounted_at(&path)? {
            return Ok((id, Some(path)));
        }
        match name.to_str() {
            Some(name) if !path.exists() || self.try_target(name)?.is_some() => {
                Ok((self.target(name)?, None))
            }
            _ => Err(Error::NothingMounted { path }),
        }
    }

    fn mounted_name(&self, name: &str) -> Result<Option<LayerId>, Error> {
        let image = self.images()?.lookup(name).ok().and_then(|image| image.top().cloned());
        let exact = LayerId::new(name).ok().filter(|id| self.store.contains(id));
        for id in exact.into_iter().chain(image) {
            if self.is_mounted(&id)? {
                return Ok(Some(id));
            }
        }
        match self.store.having_prefix(name)?.as_slice() {
            [one] if self.is_mounted(one)? => Ok(Some(one.clone())),
            _ => Ok(None),
        }
    }

    fn is_mounted(&self, id: &LayerId) -> Result<bool, Error> {
        Ok(self.store.mounts(id)?.count > 0)
    }

    /// As [`Session::target`]; `None` if nothing has that name.
    pub(crate) fn try_target(&self, name: &str) -> Result<Option<LayerId>, Error> {
        match self.images()?.resolve(name) {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // Text that cannot be an ID names nothing.
            Err(windowsfilter_image::Error::Store(windowsfilter::Error::InvalidId { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The error for a `name` that nothing has, with the name that was probably meant.
    pub(crate) fn no_such_target(&self, name: &str) -> Result<Error, Error> {
        Ok(Error::NoSuchTarget { name: name.to_owned(), similar: self.similar(name)? })
    }

    /// The name of an image, layer or sandbox that was probably meant.
    fn similar(&self, name: &str) -> Result<Option<String>, Error> {
        let images = self.images()?.records()?;
        let ids = self.store.layers()?;
        let known =
            images.iter().map(|image| image.reference.as_str()).chain(ids.iter().map(LayerId::as_str));
        Ok(suggest::similar(name, known).map(str::to_owned))
    }
}
