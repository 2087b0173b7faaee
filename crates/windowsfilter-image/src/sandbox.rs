//! Creates sandboxes from images.

use windowsfilter::{Digest, LayerId, StorageOptions};

use crate::error::Error;
use crate::import::undo;
use crate::records::{ImageStore, damaged};

impl ImageStore {
    /// Creates the sandbox `id` on `text`, an image or a layer. The sandbox keeps its image's ID, whose
    /// config [`Self::commit`] starts from, since other images may have the same layers; the config stays
    /// as long as the sandbox does.
    ///
    /// # Errors
    /// No match for `text`, or several; those of `create_read_write` of [`windowsfilter::Driver`].
    pub fn create_sandbox(&self, text: &str, id: &LayerId, options: StorageOptions) -> Result<(), Error> {
        let (parent, image) = match self.lookup(text) {
            Ok(record) => {
                let top = record.top().cloned();
                let config = self.blob(&record.image_id)?;
                let top = top.ok_or_else(|| damaged(&record.reference, "it has no layers"))?;
                (top, Some((record.image_id, config)))
            }
            Err(Error::NoSuchImage { .. }) => (self.resolve(text)?, None),
            Err(error) => return Err(error),
        };
        self.layers.create_sandbox(id, Some(&parent), options, image.as_ref().map(|(id, _)| *id))?;
        let Some((image, config)) = image else { return Ok(()) };
        self.keep_config(&image, &config).map_err(|error| undo(&self.layers, std::slice::from_ref(id), error))
    }

    /// Another process may have removed the image before the sandbox referred to its config.
    fn keep_config(&self, image: &Digest, config: &[u8]) -> Result<(), Error> {
        let _lock = self.lock()?;
        if self.blob(image).is_ok() { Ok(()) } else { self.write_blob(image, config) }
    }
}
