//! Edit: another image of the same layers, whose config says something else.

use windowsfilter::Digest;

use crate::commit::{config_bytes, rfc3339};
use crate::config_edits::{ConfigEdits, Step, malformed};
use crate::error::Error;
use crate::import::imported;
use crate::json::Object;
use crate::oci::Config;
use crate::records::{ImageRecord, ImageStore, Imported};
use crate::reference::Reference;

/// What is changed, and what the new history entries say.
#[derive(Clone, Debug)]
pub struct EditOptions {
    /// What the new image will be called; the name of the old one moves to it.
    pub reference: Reference,
    /// What is changed.
    pub edits: ConfigEdits,
    /// Author to record.
    pub author: Option<String>,
    /// Comment to record.
    pub message: Option<String>,
    /// When, in seconds since 1970; `None`: now.
    pub created: Option<i64>,
}

impl EditOptions {
    /// Nothing but the time is changed yet.
    pub fn new(reference: Reference) -> Self {
        Self { reference, edits: ConfigEdits::default(), author: None, message: None, created: None }
    }
}

impl ImageStore {
    /// Makes an image of the layers of the image `text`, with an edited config. Its layers keep what is known
    /// of their blobs. The same edits at the same time give the same image.
    ///
    /// # Errors
    /// As [`Self::lookup`]; [`Error::InvalidEdit`], [`Error::DigestReference`], [`Error::TooLong`]; a config
    /// that cannot be read.
    pub fn edit(&self, text: &str, options: &EditOptions) -> Result<Imported, Error> {
        options.reference.check_new()?;
        let created = rfc3339(options.created)?;
        // Layers and config stay as long as a record names them.
        let _lock = self.lock()?;
        let record = self.lookup(text)?;
        let (_, bytes) = self.config(&record)?;
        let mut config = Object::parse("the image's config", &bytes)?;
        let step = Step {
            created: &created,
            author: options.author.as_deref(),
            comment: options.message.as_deref(),
        };
        let notes = options.edits.apply(&mut config, step)?;
        if options.edits.is_empty() {
            step.add_history(&mut config, ["windowsfilter image edit"], true).map_err(malformed)?;
        }
        step.sign(&mut config);
        let bytes = config_bytes(&config)?;
        let parsed = Config::parse(&bytes)?;
        let image_id = Digest::of(&bytes);
        self.write_blob(&image_id, &bytes)?;
        let new = ImageRecord::new(&options.reference, image_id, None, &parsed, record.sources)?;
        self.write_record(&options.reference, &new)?;
        imported(vec![new], notes)
    }
}
