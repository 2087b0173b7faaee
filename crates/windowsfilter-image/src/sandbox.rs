//! Sandboxes made from images.

use windowsfilter::{LayerId, StorageOptions};

use crate::error::Error;
use crate::records::{ImageStore, damaged};

impl ImageStore<'_> {
    /// Makes the sandbox `id` on what `text` means: an image, or a layer. It remembers its image, whose config [`Self::commit`] starts from, since
    /// other images may have the same layers; that config stays for as long as the sandbox does.
    ///
    /// # Errors
    /// Nothing, or several things, are called so; as `create_read_write` of [`windowsfilter::Driver`].
    pub fn create_sandbox(&self, text: &str, id: &LayerId, options: StorageOptions) -> Result<(), Error> {
        // The image does not go before the sandbox needs it.
        let _lock = self.lock()?;
        let (parent, image) = match self.lookup(text) {
            Ok(record) => {
                let top = record.top().cloned();
                (top.ok_or_else(|| damaged(&record.reference, "it has no layers"))?, Some(record.image_id))
            }
            Err(Error::NoSuchImage { .. }) => (self.resolve(text)?, None),
            Err(error) => return Err(error),
        };
        Ok(self.layers.create_sandbox(id, Some(&parent), options, image)?)
    }
}
