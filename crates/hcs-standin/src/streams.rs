//! Win32 backup streams: a header (`WIN32_STREAM_ID`), a name, content, and the next. Source: winbase.h;
//! go-winio `backup.go`.

use serde::{Deserialize, Serialize};

use crate::code::Code;

pub(crate) const DATA: u32 = 1;
pub(crate) const SECURITY: u32 = 3;
pub(crate) const REPARSE: u32 = 8;
pub(crate) const SPARSE_BLOCK: u32 = 9;
const FIRST_UNKNOWN: u32 = 11;

/// Header without the name.
const HEADER: usize = 20;
/// Longest stream name, in bytes; longer ones are invalid.
const LONGEST_NAME: usize = 2 * 32_767;

/// A stream without the bytes that are in the file itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) attributes: u32,
    /// UTF-16, little endian.
    #[serde(with = "hex::serde")]
    pub(crate) name: Vec<u8>,
    pub(crate) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    Stored(#[serde(with = "hex::serde")] Vec<u8>),
    /// In the file, from `offset` on.
    InFile {
        offset: u64,
        size: u64,
    },
}

impl Stream {
    fn new(id: u32, attributes: u32, content: Content) -> Self {
        Self { id, attributes, name: Vec::new(), content }
    }

    /// The file's own data.
    pub(crate) fn data(size: u64) -> Self {
        Self::new(DATA, 0, Content::InFile { offset: 0, size })
    }

    /// The descriptor of a file without one: owner Administrators, group SYSTEM, no lists.
    pub(crate) fn default_security() -> Self {
        const OWNER: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0];
        const GROUP: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
        // Revision 1, SE_SELF_RELATIVE; owner at 20, group at 36.
        let mut descriptor = vec![1, 0, 0, 0x80];
        descriptor.extend([20u32, 36, 0, 0].iter().flat_map(|offset| offset.to_le_bytes()));
        descriptor.extend(OWNER);
        descriptor.extend(GROUP);
        Self::new(SECURITY, 2, Content::Stored(descriptor))
    }

    /// Header, name, and a sparse block's offset.
    pub(crate) fn header(&self) -> Vec<u8> {
        let (size, offset) = match (&self.content, self.id) {
            (Content::Stored(bytes), _) => (bytes.len() as u64, None),
            (Content::InFile { offset, size }, SPARSE_BLOCK) => (size + 8, Some(*offset)),
            (Content::InFile { size, .. }, _) => (*size, None),
        };
        let mut bytes = Vec::with_capacity(HEADER + self.name.len() + 8);
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(self.attributes.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend((self.name.len() as u32).to_le_bytes());
        bytes.extend(&self.name);
        bytes.extend(offset.map(u64::to_le_bytes).into_iter().flatten());
        bytes
    }
}

/// Parses backup streams that come in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Bytes of an incomplete header.
    pending: Vec<u8>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    stream: Stream,
    left: u64,
    /// The file offset of its next byte.
    at: u64,
}

/// A parsed part of a piece.
pub(crate) enum Event {
    /// Bytes of the file.
    Write { offset: u64, bytes: Vec<u8> },
    /// A stream is complete.
    Done(Stream),
}

impl Parser {
    /// Parses a piece and passes its parts to `event`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut event: impl FnMut(Event) -> Result<(), Code>,
    ) -> Result<(), Code> {
        loop {
            if let Some(current) = &mut self.current {
                let count = usize::try_from(current.left).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at(count);
                bytes = later;
                current.left -= count as u64;
                match &mut current.stream.content {
                    Content::Stored(stored) => stored.extend(now),
                    Content::InFile { .. } if now.is_empty() => {}
                    Content::InFile { .. } => {
                        event(Event::Write { offset: current.at, bytes: now.to_vec() })?;
                    }
                }
                current.at += count as u64;
                if current.left > 0 {
                    return Ok(());
                }
                if let Some(done) = self.current.take() {
                    event(Event::Done(done.stream))?;
                }
            }
            let Some(wanted) = self.missing()? else {
                self.start()?;
                continue;
            };
            if bytes.is_empty() {
                return Ok(());
            }
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            self.pending.extend(now);
            bytes = later;
        }
    }

    /// Whether a stream has begun and not ended.
    pub(crate) fn is_between(&self) -> bool {
        self.pending.is_empty() && self.current.is_none()
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes([
            self.pending[at],
            self.pending[at + 1],
            self.pending[at + 2],
            self.pending[at + 3],
        ])
    }

    /// Bytes that the header lacks; `None` if it is complete. Refuses an impossible header before its name
    /// comes.
    fn missing(&self) -> Result<Option<usize>, Code> {
        let have = self.pending.len();
        if have < HEADER {
            return Ok(Some(HEADER - have));
        }
        let (id, name_size) = (self.number(0), self.number(16) as usize);
        if id == 0 || id >= FIRST_UNKNOWN || name_size > LONGEST_NAME {
            return Err(Code::INVALID_DATA);
        }
        let offset = if id == SPARSE_BLOCK { 8 } else { 0 };
        let whole = HEADER + name_size + offset;
        Ok((have < whole).then(|| whole - have))
    }

    fn start(&mut self) -> Result<(), Code> {
        let (id, attributes) = (self.number(0), self.number(4));
        let size = u64::from(self.number(8)) | u64::from(self.number(12)) << 32;
        let name_size = self.number(16) as usize;
        if size > i64::MAX as u64 {
            return Err(Code::INVALID_DATA);
        }
        let name = self.pending[HEADER..HEADER + name_size].to_vec();
        let (content, left, at) = match id {
            DATA => (Content::InFile { offset: 0, size }, size, 0),
            SPARSE_BLOCK => {
                let at = HEADER + name_size;
                let offset = u64::from(self.number(at)) | u64::from(self.number(at + 4)) << 32;
                let size = size.checked_sub(8).ok_or(Code::INVALID_DATA)?;
                (Content::InFile { offset, size }, size, offset)
            }
            _ => (Content::Stored(Vec::new()), size, 0),
        };
        self.pending.clear();
        self.current = Some(Current { stream: Stream { id, attributes, name, content }, left, at });
        Ok(())
    }
}
