//! The form of an alternate stream in its attribute, which depends on the SMB server that reads it.
//!
//! Samba's `streams_xattr` appends one byte to the stream, since an attribute must not be empty: 0 or, from
//! Samba 4.20 on, the number of further attributes that a long stream is spread over. When it reads, it drops
//! the last byte without looking at it. The kernel's SMB server and users of `setfattr` write only the bytes
//! of the stream.
//!
//! Source: Samba, `source3/modules/vfs_streams_xattr.c`. `docs/attributes.md` has the user's side.

use std::fmt;
use std::str::FromStr;

use super::MAX_VALUE;

/// Start of the names of streams, without the namespace.
const PREFIX: &[u8] = b"DosStream.";
/// End of the names of streams.
const SUFFIX: &[u8] = b":$DATA";
/// A stream that fills its attribute, so that no byte can be appended.
const WHOLE: &[u8] = b"win32.whole.";

/// The form in which a mounted view shows streams, and in which a sandbox's streams are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamForm {
    /// With a NUL at the end, as Samba's `streams_xattr` has them. Reading drops a NUL at the end; a value
    /// without one was not written by Samba, and is the stream as it is.
    #[default]
    Samba,
    /// The bytes of the stream.
    Plain,
}

impl StreamForm {
    /// All, as options name them.
    pub const NAMES: [(&'static str, Self); 2] = [("samba", Self::Samba), ("plain", Self::Plain)];

    /// Converts an attribute of an index to this form, for a view. Leaves other attributes alone.
    pub(crate) fn show(self, name: &mut Vec<u8>, value: &mut Vec<u8>) {
        if self == Self::Plain {
            return;
        }
        let Some(stream) = stream_name(name) else { return };
        if value.len() < MAX_VALUE {
            value.push(0);
        } else {
            *name = [WHOLE, stream].concat();
        }
    }

    /// Removes from an attribute of a view or sandbox the byte that this form adds. Leaves other attributes
    /// alone.
    pub(crate) fn take(self, name: &[u8], value: &mut Vec<u8>) {
        if self == Self::Samba && stream_name(name).is_some() && value.last() == Some(&0) {
            value.pop();
        }
    }
}

/// The name of the stream that an attribute holds, if it holds one.
pub(super) fn stream_name(attribute: &[u8]) -> Option<&[u8]> {
    attribute.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

/// The name of the stream that an attribute holds whole, if it holds one.
pub(super) fn whole_stream_name(attribute: &[u8]) -> Option<&[u8]> {
    attribute.strip_prefix(WHOLE)
}

/// Whether an attribute is a further part of a stream that Samba has spread over several.
pub(super) fn is_part(attribute: &[u8]) -> bool {
    attribute.starts_with(b"DosStreamExt.")
}

impl fmt::Display for StreamForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, form)| form == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for StreamForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, form)| *form).ok_or_else(|| "it is neither samba nor plain".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(form: StreamForm, name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut name, mut value) = (name.as_bytes().to_vec(), value.to_vec());
        form.show(&mut name, &mut value);
        (name, value)
    }

    #[test]
    fn what_is_shown_is_taken_back_as_it_was() {
        let name = "DosStream.Zone.Identifier:$DATA";
        for stream in [&b""[..], b"text", b"ends in NUL\0", b"\0", b"\0\0"] {
            for (_, form) in StreamForm::NAMES {
                let (same, mut value) = shown(form, name, stream);
                assert_eq!(same, name.as_bytes());
                form.take(name.as_bytes(), &mut value);
                assert_eq!(value, stream, "{form}");
            }
        }
        assert_eq!(shown(StreamForm::Samba, name, b"x").1, b"x\0");
        assert_eq!(shown(StreamForm::Plain, name, b"x").1, b"x");
    }

    #[test]
    fn only_streams_have_a_form() {
        for name in ["DOSATTRIB", "win32.sd", "DosStream.x", "foo"] {
            assert_eq!(shown(StreamForm::Samba, name, b"x\0").1, b"x\0", "{name}");
            let mut value = b"x\0".to_vec();
            StreamForm::Samba.take(name.as_bytes(), &mut value);
            assert_eq!(value, b"x\0", "{name}");
        }
    }

    #[test]
    fn what_samba_did_not_write_is_the_stream() {
        let mut value = b"by setfattr".to_vec();
        StreamForm::Samba.take(b"DosStream.s:$DATA", &mut value);
        assert_eq!(value, b"by setfattr");
    }

    #[test]
    fn a_stream_that_fills_its_attribute_is_kept_under_another_name() {
        let full = vec![0; MAX_VALUE];
        let (name, value) = shown(StreamForm::Samba, "DosStream.s:$DATA", &full);
        assert_eq!((&name[..], &value), (&b"win32.whole.s"[..], &full));
        let read = super::super::Win32Metadata::from_xattrs([(&name[..], &value[..])]);
        assert_eq!(read.streams[0].name, b"s");
        assert_eq!(read.streams[0].content, super::super::StreamContent::Inline(full));
    }
}
