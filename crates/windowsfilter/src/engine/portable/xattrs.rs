//! Win32 metadata as Linux extended attributes: the schema of every index and every sandbox.
//!
//! - `user.DOSATTRIB`: attributes as `0x20` style text, which Samba and Wine read; a record that an SMB
//!   server wrote there is read, too
//! - `user.win32.sd`: self-relative security descriptor
//! - `user.win32.crtime`, `.atime`, `.ctime`: FILETIME as decimal text; the last write time is the inode's
//!   mtime
//! - `user.win32.ea.<NAME>`: value of an extended attribute
//! - `user.win32.eas`: all extended attributes, encoded, where one has flags or they do not fit
//! - `user.DosStream.<name>:$DATA`: content of an alternate stream; in views and sandboxes in the form that
//!   the SMB server reads, see [`StreamForm`]
//! - `user.win32.whole.<name>`: content of a stream that leaves no room for the byte which that form adds
//! - `user.win32.stream.<n>`: `<origin>:<data offset>:<size>:<name>`, a stream that stays in its tar; if a
//!   file has many, several separated by `/`
//! - `user.win32.reparse`: reparse data buffer
//! - `user.win32.name`: the true name, if Linux cannot hold it; all of them, separated by `/`, if a file has
//!   several
//! - `user.win32.origin`: `<first 16 digits of the diffID>:<tar offset>`; in a layer's own index only the
//!   offset
//!
//! Linux refuses `user.*` on symbolic links and devices (xattr(7)); there the same names have the prefix
//! `trusted.`. Only in a layer's own index: `trusted.win32.implicit` (a directory the tar does not have an
//! entry for), `trusted.win32.opaque` (hides all that lies below), `trusted.win32.new` (a directory that the
//! layer deletes and makes again, so it does not merge with the one below), `trusted.win32.link` (on a
//! device: a hard link to that path of a parent or, if no parent has it, of this layer).

mod dos_attributes;
mod stream_form;

pub use stream_form::StreamForm;

use std::borrow::Cow;
use std::collections::HashSet;

use erofs_index::Namespace;
use wclayer::ea::{self, ExtendedAttribute};
use wclayer::filetime::FileTime;

/// Marks a directory that only exists because entries are in it.
pub(crate) const IMPLICIT: &[u8] = b"win32.implicit";
/// Marks a directory that hides the lower layers' entries in it.
pub(crate) const OPAQUE: &[u8] = b"win32.opaque";
/// Marks a directory that the layer deletes and makes again: it inherits nothing from the lower layers' one,
/// not even the spelling.
pub(crate) const NEW: &[u8] = b"win32.new";
/// The target of a hard link whose target is not before it in the tar, from the layer's root (`Files/…`).
pub(crate) const LINK: &[u8] = b"win32.link";

/// Attribute with its namespace, name without prefix, and value.
pub(crate) type Xattr = (Namespace, Vec<u8>, Vec<u8>);

/// The place of bytes: the layer (first 8 bytes of its diffID; `None` in a layer's own index) and the offset
/// in its tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// First eight bytes of the layer's diffID, big-endian; `None`: the layer whose index this is.
    pub layer: Option<u64>,
    /// Offset in `layer.tar`, bytes.
    pub offset: u64,
}

/// An alternate data stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Name without colons and without `$DATA`.
    pub name: Vec<u8>,
    /// Its bytes, or their place.
    pub content: StreamContent,
}

/// The bytes of a stream, or their place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamContent {
    /// Here.
    Inline(Vec<u8>),
    /// In a layer's tar.
    InTar {
        /// The start of the data.
        origin: Origin,
        /// The number of bytes.
        size: u64,
    },
}

impl StreamContent {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::InTar { size, .. } => *size,
        }
    }
}

/// An attribute of this schema, by its name without prefix. Others are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute<'a> {
    DosAttributes,
    Security,
    Created,
    Accessed,
    Changed,
    Eas,
    /// The name.
    Ea(&'a [u8]),
    Reparse,
    TrueName,
    Origin,
    /// The name without `:$DATA`.
    Stream(&'a [u8]),
    StreamInTar,
    /// A further part of a stream that Samba has spread over several attributes.
    PartOfStream,
}

impl<'a> Attribute<'a> {
    pub(crate) fn of(name: &'a [u8]) -> Option<Self> {
        Some(match name {
            b"DOSATTRIB" => Self::DosAttributes,
            b"win32.sd" => Self::Security,
            b"win32.crtime" => Self::Created,
            b"win32.atime" => Self::Accessed,
            b"win32.ctime" => Self::Changed,
            b"win32.eas" => Self::Eas,
            b"win32.reparse" => Self::Reparse,
            b"win32.name" => Self::TrueName,
            b"win32.origin" => Self::Origin,
            _ if name.starts_with(b"win32.stream.") => Self::StreamInTar,
            _ if stream_form::is_part(name) => Self::PartOfStream,
            _ => match name.strip_prefix(b"win32.ea.") {
                Some(ea) => Self::Ea(ea),
                None => Self::Stream(
                    stream_form::stream_name(name).or_else(|| stream_form::whole_stream_name(name))?,
                ),
            },
        })
    }
}

/// A file's Windows metadata besides content, name and last write time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Win32Metadata {
    /// `FILE_ATTRIBUTE_*`; `None`: never recorded (a file made on Linux).
    pub attributes: Option<u32>,
    /// When it was created.
    pub created: Option<FileTime>,
    /// When it was last read.
    pub accessed: Option<FileTime>,
    /// When its metadata last changed.
    pub changed: Option<FileTime>,
    /// Self-relative security descriptor.
    pub security: Option<Vec<u8>>,
    /// Extended attributes.
    pub eas: Vec<ExtendedAttribute>,
    /// Alternate streams.
    pub streams: Vec<Stream>,
    /// Reparse data buffer.
    pub reparse: Option<Vec<u8>>,
    /// The names on Windows that differ from those in the view, separated by `/`.
    pub true_name: Option<Vec<u8>>,
    /// The tar entry this came from.
    pub origin: Option<Origin>,
}

impl Win32Metadata {
    /// Encodes this as attributes in `namespace`.
    pub(crate) fn to_xattrs(&self, namespace: Namespace) -> Vec<Xattr> {
        let mut out: Vec<Xattr> = Vec::with_capacity(8);
        let mut put = |name: &[u8], value: Vec<u8>| out.push((namespace, name.to_vec(), value));
        if let Some(attributes) = self.attributes {
            put(b"DOSATTRIB", format!("0x{attributes:x}").into_bytes());
        }
        if let Some(sd) = &self.security {
            put(b"win32.sd", sd.clone());
        }
        for (name, time) in [("crtime", self.created), ("atime", self.accessed), ("ctime", self.changed)] {
            if let Some(FileTime(ticks)) = time {
                put(format!("win32.{name}").as_bytes(), ticks.to_string().into_bytes());
            }
        }
        self.put_eas(&mut put);
        self.put_streams(&mut put);
        if let Some(reparse) = &self.reparse {
            put(b"win32.reparse", reparse.clone());
        }
        if let Some(name) = &self.true_name {
            put(b"win32.name", name.clone());
        }
        if let Some(origin) = self.origin {
            put(b"win32.origin", format_origin(origin).into_bytes());
        }
        out
    }

    fn put_eas(&self, put: &mut impl FnMut(&[u8], Vec<u8>)) {
        let fits = |ea: &ExtendedAttribute| {
            ea.flags == 0 && !ea.name.is_empty() && ea.name.len() <= 200 && ea.value.len() <= MAX_VALUE
        };
        let mut names = HashSet::new();
        let plain = self.eas.iter().all(|ea| fits(ea) && names.insert(&ea.name))
            && self.eas.iter().map(|ea| ea.name.len()).sum::<usize>() <= MAX_EA_NAMES;
        if !plain && let Ok(encoded) = ea::encode(&self.eas) {
            return put(b"win32.eas", encoded);
        }
        for ea in &self.eas {
            put(&[b"win32.ea.", &ea.name[..]].concat(), ea.value.clone());
        }
    }

    fn put_streams(&self, put: &mut impl FnMut(&[u8], Vec<u8>)) {
        let (mut lone, mut packed) = (0, Vec::new());
        for (number, stream) in self.streams.iter().enumerate() {
            match &stream.content {
                StreamContent::Inline(bytes) => {
                    put(&[b"DosStream.", &stream.name[..], b":$DATA"].concat(), bytes.clone());
                }
                StreamContent::InTar { .. } if lone < LONE_STREAMS => {
                    lone += 1;
                    put(
                        format!("win32.stream.{number}").as_bytes(),
                        join_streams(std::slice::from_ref(stream)),
                    );
                }
                StreamContent::InTar { .. } => packed.push(stream.clone()),
            }
        }
        for (number, streams) in packed.chunks(PACKED_STREAMS).enumerate() {
            put(format!("win32.stream.{}", self.streams.len() + number).as_bytes(), join_streams(streams));
        }
    }

    /// Reads attributes, given as name without prefix and value. Ignores those outside the schema and those
    /// with invalid values.
    pub(crate) fn from_xattrs<'a>(xattrs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut metadata = Self::default();
        for (name, value) in xattrs {
            // A view has them as we wrote them; those that users write were checked before (`judge`).
            _ = metadata.read_xattr(name, value);
        }
        metadata
    }

    /// Whether an attribute, which a user may have written, is one of this schema. The error says what is
    /// wrong with its value.
    #[cfg(target_os = "linux")]
    pub(crate) fn judge(name: &[u8], value: &[u8]) -> Result<bool, Cow<'static, str>> {
        Self::default().read_xattr(name, value)
    }

    /// Whether the attribute is of this schema. The error says what the value should be.
    fn read_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Cow<'static, str>> {
        const NO_PLACE: &str = "no place in a layer";
        let Some(attribute) = Attribute::of(name) else { return Ok(false) };
        match attribute {
            Attribute::DosAttributes => {
                let read = dos_attributes::parse(value).ok_or_else(|| dos_attributes::problem(value))?;
                self.attributes = read.attributes;
                // The server records when Linux made the file; a time that came with the file is in
                // `win32.crtime`.
                self.created = self.created.or(read.created);
            }
            Attribute::Security => self.security = Some(value.to_vec()),
            Attribute::Created => self.created = Some(time(value)?),
            Attribute::Accessed => self.accessed = Some(time(value)?),
            Attribute::Changed => self.changed = Some(time(value)?),
            Attribute::Eas => {
                self.eas = ea::decode(value).map_err(|_| "no list of extended attributes")?;
            }
            Attribute::Ea(name) => {
                self.eas.push(ExtendedAttribute { flags: 0, name: name.to_vec(), value: value.to_vec() });
            }
            Attribute::Reparse => self.reparse = Some(value.to_vec()),
            Attribute::TrueName => self.true_name = Some(value.to_vec()),
            Attribute::Origin => self.origin = Some(text(value).and_then(parse_origin).ok_or(NO_PLACE)?),
            Attribute::Stream(name) => {
                let content = StreamContent::Inline(value.to_vec());
                self.streams.push(Stream { name: name.to_vec(), content });
            }
            Attribute::StreamInTar => self.streams.extend(split_streams(value).ok_or(NO_PLACE)?),
            Attribute::PartOfStream => {
                return Err("a part of a stream that Samba has spread over several attributes: set \
                            \"streams_xattr:max xattrs per stream = 1\" and write the stream again"
                    .into());
            }
        }
        Ok(true)
    }

    /// Sets `layer` in every place in a tar that does not name a layer yet.
    pub(crate) fn set_layer(&mut self, layer: u64) {
        if let Some(origin) = &mut self.origin {
            origin.layer.get_or_insert(layer);
        }
        for stream in &mut self.streams {
            if let StreamContent::InTar { origin, .. } = &mut stream.content {
                origin.layer.get_or_insert(layer);
            }
        }
    }
}

/// Streams in the tar that get an attribute each; of further ones, [`PACKED_STREAMS`] share one. Linux lists
/// 64 KiB of names of a file's attributes, and an index holds 256 KiB of them beside an inode.
const LONE_STREAMS: usize = 64;
const PACKED_STREAMS: usize = 32;
/// Most bytes of names of extended attributes to use in names of Linux attributes, which have 64 KiB for all
/// of a file.
pub(crate) const MAX_EA_NAMES: usize = 2 << 10;
/// Longest value EROFS and Linux agree on, bytes.
pub(crate) const MAX_VALUE: usize = erofs_index::XATTR_VALUE_MAX;

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

fn time(value: &[u8]) -> Result<FileTime, Cow<'static, str>> {
    let ticks = text(value).and_then(|text| text.parse().ok());
    ticks.map(FileTime).ok_or("no number of 100 ns since 1601".into())
}

fn format_origin(origin: Origin) -> String {
    origin.layer.map_or_else(|| origin.offset.to_string(), |layer| format!("{layer:016x}:{}", origin.offset))
}

fn parse_origin(text: &str) -> Option<Origin> {
    match text.split_once(':') {
        None => Some(Origin { layer: None, offset: text.parse().ok()? }),
        Some((layer, offset)) => {
            Some(Origin { layer: Some(u64::from_str_radix(layer, 16).ok()?), offset: offset.parse().ok()? })
        }
    }
}

fn format_stream_origin(origin: Origin) -> String {
    origin
        .layer
        .map_or_else(|| format!("-:{}", origin.offset), |layer| format!("{layer:016x}:{}", origin.offset))
}

/// Sets `layer` in the places of streams that do not name a layer yet.
pub(crate) fn set_layer_of_streams(value: &[u8], layer: u64) -> Option<Vec<u8>> {
    let mut metadata = Win32Metadata { streams: split_streams(value)?, ..Win32Metadata::default() };
    metadata.set_layer(layer);
    Some(join_streams(&metadata.streams))
}

/// No name has a slash in it.
fn join_streams(streams: &[Stream]) -> Vec<u8> {
    let record = |stream: &Stream| match &stream.content {
        StreamContent::Inline(_) => Vec::new(),
        StreamContent::InTar { origin, size } => {
            [format!("{}:{size}:", format_stream_origin(*origin)).as_bytes(), &stream.name].concat()
        }
    };
    streams.iter().map(record).collect::<Vec<_>>().join(&b'/')
}

fn split_streams(value: &[u8]) -> Option<Vec<Stream>> {
    value.split(|&byte| byte == b'/').map(parse_stream).collect()
}

fn parse_stream(value: &[u8]) -> Option<Stream> {
    let mut parts = value.splitn(4, |&b| b == b':');
    let layer = match text(parts.next()?)? {
        "-" => None,
        digits => Some(u64::from_str_radix(digits, 16).ok()?),
    };
    let offset = text(parts.next()?)?.parse().ok()?;
    let size = text(parts.next()?)?.parse().ok()?;
    let name = parts.next()?.to_vec();
    Some(Stream { name, content: StreamContent::InTar { origin: Origin { layer, offset }, size } })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metadata_survives_its_attributes() {
        let metadata = Win32Metadata {
            attributes: Some(0x2026),
            created: Some(FileTime(u64::MAX)),
            accessed: Some(FileTime(0)),
            changed: Some(FileTime(132_434_736_000_000_001)),
            security: Some(vec![1, 2, 3]),
            eas: vec![ExtendedAttribute { flags: 0, name: b"A".to_vec(), value: vec![0] }],
            streams: vec![
                Stream { name: b"Zone.Identifier".to_vec(), content: StreamContent::Inline(b"x".to_vec()) },
                Stream {
                    name: b"big:odd".to_vec(),
                    content: StreamContent::InTar {
                        origin: Origin { layer: None, offset: 512 },
                        size: 1 << 40,
                    },
                },
            ],
            reparse: Some(vec![9; 30]),
            true_name: Some(vec![b'n'; 700]),
            origin: Some(Origin { layer: Some(0xabc), offset: 1024 }),
        };
        let xattrs = metadata.to_xattrs(Namespace::User);
        let back = Win32Metadata::from_xattrs(xattrs.iter().map(|(_, n, v)| (&n[..], &v[..])));
        assert_eq!(back, metadata);
    }

    #[test]
    fn many_streams_share_attributes_and_are_placed_in_their_layer() {
        let stream = |number: u64| Stream {
            name: format!("s{number}:x").into_bytes(),
            content: StreamContent::InTar {
                origin: Origin { layer: None, offset: number * 512 },
                size: number,
            },
        };
        let mut metadata = Win32Metadata { streams: (0..200).map(stream).collect(), ..Default::default() };
        let xattrs = metadata.to_xattrs(Namespace::User);
        assert_eq!(xattrs.len(), LONE_STREAMS + (200 - LONE_STREAMS).div_ceil(PACKED_STREAMS));
        let placed: Vec<_> =
            xattrs.iter().map(|(_, name, value)| (name, set_layer_of_streams(value, 7).unwrap())).collect();
        metadata.set_layer(7);
        let read = Win32Metadata::from_xattrs(placed.iter().map(|(name, value)| (&name[..], &value[..])));
        assert_eq!(read, metadata);
        assert_eq!(set_layer_of_streams(b"-:512:4:a/nonsense", 7), None);
    }

    #[test]
    fn eas_with_flags_keep_them() {
        let eas = vec![ExtendedAttribute { flags: 0x80, name: b"A".to_vec(), value: vec![0] }];
        let metadata = Win32Metadata { eas: eas.clone(), ..Default::default() };
        let xattrs = metadata.to_xattrs(Namespace::Trusted);
        assert_eq!(Win32Metadata::from_xattrs(xattrs.iter().map(|(_, n, v)| (&n[..], &v[..]))).eas, eas);
    }

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 1..most)
    }

    fn origin() -> impl Strategy<Value = Origin> {
        (option::of(any::<u64>()), any::<u64>()).prop_map(|(layer, offset)| Origin { layer, offset })
    }

    fn metadata() -> impl Strategy<Value = Win32Metadata> {
        let time = || option::of(any::<u64>().prop_map(FileTime));
        let ea = (prop_oneof![4 => Just(0), 1 => any::<u8>()], bytes(255), vec(any::<u8>(), 0..99));
        let ea = ea.prop_map(|(flags, name, value)| ExtendedAttribute { flags, name, value });
        let content = prop_oneof![
            vec(any::<u8>(), 0..99).prop_map(StreamContent::Inline),
            (origin(), any::<u64>()).prop_map(|(origin, size)| StreamContent::InTar { origin, size }),
        ];
        let name = bytes(20).prop_map(|name| name.into_iter().filter(|&byte| byte != b'/').collect());
        let stream = (name, content).prop_map(|(name, content)| Stream { name, content });
        let times = (time(), time(), time());
        let parts = (option::of(bytes(99)), vec(ea, 0..4), vec(stream, 0..4), option::of(bytes(99)));
        let ends = (option::of(bytes(999)), option::of(origin()));
        (option::of(any::<u32>()), times, parts, ends).prop_map(
            |(attributes, (created, accessed, changed), parts, (true_name, origin))| {
                let (security, eas, streams, reparse) = parts;
                Win32Metadata {
                    attributes,
                    created,
                    accessed,
                    changed,
                    security,
                    eas,
                    streams,
                    reparse,
                    true_name,
                    origin,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn any_metadata_survives_its_attributes(metadata in metadata()) {
            let xattrs = metadata.to_xattrs(Namespace::User);
            let back = Win32Metadata::from_xattrs(xattrs.iter().map(|(_, n, v)| (&n[..], &v[..])));
            prop_assert_eq!(back, metadata);
        }
    }
}
