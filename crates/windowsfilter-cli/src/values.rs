//! Values of arguments that several commands take.

use windowsfilter::metadata::StreamForm;
use windowsfilter::{Error, LayerId};

/// Reads the ID of a layer or sandbox to create.
pub(crate) fn new_id(text: &str) -> Result<LayerId, Error> {
    LayerId::of_new(text)
}

/// Reads a number of bytes, as in `20GB`; units are binary.
pub(crate) fn size(text: &str) -> Result<u64, Error> {
    windowsfilter::options::parse_size(text)
}

/// Reads how streams are shown.
pub(crate) fn stream_form(text: &str) -> Result<StreamForm, String> {
    text.parse()
}
