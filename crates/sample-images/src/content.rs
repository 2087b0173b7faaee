//! File contents that compress and inflate like those of a Windows image, generated on the fly.
//!
//! A benchmark needs realistic inflating: short matches and many literals in code, long matches in text and
//! tables, none in certificates and compressed resources. A generated program file consists of the same
//! parts in the same proportions as a real one (code, strings, data, resources, relocations, signature),
//! and `gzip -6` compresses whole layers to about half their size, like real base layers.
//!
//! A file's bytes depend on its seed and size only, not on how they are read. Speed: some 400 MB/s on one
//! core.

use std::io::Read;

use super::prng::Prng;

/// What kind of file to imitate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// Portable executable: DLL, EXE, SYS, MUI.
    Program,
    /// UTF-8 XML: component manifests, `.mum`, configuration.
    Xml,
    /// Text in English-like words.
    Text,
    /// DER and PKCS#7: catalogues, certificates; fonts and archives compress as badly.
    Dense,
}

/// Bytes generated at a time. Also the unit in which a program's parts alternate.
const PART: usize = 32 * 1024;

/// A file's content as a stream.
#[derive(Debug)]
pub struct Content {
    kind: ContentKind,
    prng: Prng,
    size: u64,
    /// Bytes generated so far, including the unread ones of `part`.
    generated: u64,
    part: Vec<u8>,
    read: usize,
}

impl Content {
    /// The content of `size` bytes for `seed`.
    #[must_use]
    pub fn new(kind: ContentKind, seed: u64, size: u64) -> Self {
        Self { kind, prng: Prng::new(seed), size, generated: 0, part: Vec::new(), read: 0 }
    }

    fn generate(&mut self) {
        self.part.clear();
        self.read = 0;
        let wanted = (self.size - self.generated).min(PART as u64) as usize;
        let first = self.generated == 0;
        match self.kind {
            ContentKind::Program => self.program_part(first, wanted),
            ContentKind::Xml => xml(&mut self.prng, &mut self.part, first, wanted),
            ContentKind::Text => text(&mut self.prng, &mut self.part, wanted),
            ContentKind::Dense => dense(&mut self.prng, &mut self.part, wanted),
        }
        self.part.truncate(wanted);
        self.generated += wanted as u64;
    }

    /// A part of a program. Its section follows from its place in the file.
    fn program_part(&mut self, first: bool, wanted: usize) {
        let (prng, out) = (&mut self.prng, &mut self.part);
        if first {
            program_header(prng, out, self.size);
        }
        match self.generated * 100 / self.size.max(1) {
            0..62 => code(prng, out, wanted),
            62..72 => strings(prng, out, wanted),
            72..78 => pointers(prng, out, wanted),
            78..90 => resources(prng, out, wanted),
            90..94 => relocations(prng, out, wanted),
            _ => dense(prng, out, wanted),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.part.len() {
            if self.generated == self.size {
                return Ok(0);
            }
            self.generate();
        }
        let n = buf.len().min(self.part.len() - self.read);
        buf[..n].copy_from_slice(&self.part[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}

/// DOS stub, PE32+ header for x64, and a plausible section table.
fn program_header(prng: &mut Prng, out: &mut Vec<u8>, size: u64) {
    out.extend_from_slice(b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0\xb8\0\0\0\0\0\0\0\x40\0\0\0");
    out.resize(0x3c, 0);
    out.extend_from_slice(&0x80_u32.to_le_bytes());
    out.extend_from_slice(b"\x0e\x1f\xba\x0e\0\xb4\x09\xcd\x21\xb8\x01\x4c\xcd\x21");
    out.extend_from_slice(b"This program cannot be run in DOS mode.\r\r\n$\0");
    out.resize(0x80, 0);
    out.extend_from_slice(b"PE\0\0\x64\x86\x06\0");
    out.extend_from_slice(&(prng.draw() as u32).to_le_bytes());
    out.resize(0x98, 0);
    out.extend_from_slice(b"\x0b\x02\x0e\x14");
    out.resize(0x188, 0);
    for (name, share) in [(".text", 62), (".rdata", 10), (".data", 6), (".rsrc", 12), (".reloc", 4)] {
        let mut row = [0_u8; 40];
        row[..name.len()].copy_from_slice(name.as_bytes());
        row[8..12].copy_from_slice(&((size * share / 100) as u32).to_le_bytes());
        out.extend_from_slice(&row);
    }
    out.resize(0x400, 0);
}

/// x64-like instructions: frequent openings, operands of which some repeat and some do not.
fn code(prng: &mut Prng, out: &mut Vec<u8>, wanted: usize) {
    const FREQUENT: [&[u8]; 32] = [
        b"\x48\x8b\x4c\x24",
        b"\x48\x89\x5c\x24",
        b"\x48\x83\xec",
        b"\x48\x83\xc4",
        b"\x48\x8d\x15",
        b"\x48\x8d\x0d",
        b"\x48\x8b\x05",
        b"\xff\x15",
        b"\xe8",
        b"\xe9",
        b"\x0f\x84",
        b"\x0f\x85",
        b"\x74",
        b"\x75",
        b"\xeb",
        b"\x33\xc0",
        b"\x33\xd2",
        b"\x48\x85\xc0",
        b"\x85\xc0",
        b"\x48\x8b\xcf",
        b"\x48\x8b\xd8",
        b"\x45\x33\xc9",
        b"\x41\xb8",
        b"\xba",
        b"\xc3\xcc\xcc\xcc\xcc\xcc\xcc\xcc",
        b"\x40\x53\x48\x83\xec\x20",
        b"\x8b\x47",
        b"\x89\x46",
        b"\x0f\xb6\x44\x24",
        b"\x4c\x8b\xdc\x49\x89\x5b",
        b"\x5f\x5e\x5d\xc3",
        b"\x66\x83\x3c\x41",
    ];
    while out.len() < wanted {
        let draw = prng.draw();
        // Squaring a uniform number favours the first openings.
        let skewed = ((draw & 0xff) * (draw & 0xff)) >> 11;
        out.extend_from_slice(FREQUENT[skewed as usize % FREQUENT.len()]);
        let operands = (draw >> 16).to_le_bytes();
        match (draw >> 8) & 0xf {
            0..=2 => {}
            3..=6 => out.push(operands[0] & 0x78),
            7..=9 => out.extend_from_slice(&[operands[0], operands[1] & 0x3f]),
            10..=12 => out.extend_from_slice(&[operands[0], operands[1], operands[2] & 3, 0]),
            13 => out.extend_from_slice(&[operands[0], 0xff, 0xff, 0xff]),
            14 => out.extend_from_slice(&operands[..3]),
            _ => repeat_recent(
                out,
                u64::from(operands[0]) | u64::from(operands[1]) << 8,
                12 + (draw >> 60) as usize,
            ),
        }
    }
}

/// Copies `len` bytes from up to 64 KiB back, to imitate inlined and templated code.
fn repeat_recent(out: &mut Vec<u8>, back: u64, len: usize) {
    let back = (back as usize).max(len);
    if let Some(from) = out.len().checked_sub(back) {
        out.extend_from_within(from..from + len);
    }
}

const WORDS: [&str; 64] = [
    "service",
    "control",
    "Microsoft",
    "Windows",
    "network",
    "manager",
    "component",
    "provider",
    "security",
    "policy",
    "the",
    "of",
    "and",
    "to",
    "is",
    "not",
    "cannot",
    "failed",
    "device",
    "driver",
    "registry",
    "value",
    "key",
    "file",
    "system",
    "user",
    "access",
    "denied",
    "object",
    "handle",
    "invalid",
    "parameter",
    "buffer",
    "length",
    "version",
    "container",
    "process",
    "thread",
    "memory",
    "address",
    "session",
    "remote",
    "local",
    "certificate",
    "store",
    "update",
    "package",
    "feature",
    "language",
    "resource",
    "event",
    "trace",
    "log",
    "error",
    "code",
    "status",
    "server",
    "client",
    "request",
    "response",
    "timeout",
    "connection",
    "interface",
    "class",
];

/// Import names and messages: zero-terminated, one in three as UTF-16.
fn strings(prng: &mut Prng, out: &mut Vec<u8>, wanted: usize) {
    while out.len() < wanted {
        let draw = prng.draw();
        let words = 1 + (draw >> 60) as usize % 6;
        for n in 0..words {
            let word = WORDS[(draw >> (n * 6)) as usize % WORDS.len()].as_bytes();
            if draw & (1 << 40) == 0 || draw & (1 << 41) == 0 {
                out.extend_from_slice(word);
            } else {
                out.extend(word.iter().flat_map(|byte| [*byte, 0]));
            }
        }
        out.extend_from_slice(&[(draw >> 44) as u8 & 0x3f | 0x40, 0]);
    }
}

/// Initialised data: addresses that share their upper half, and zeros.
fn pointers(prng: &mut Prng, out: &mut Vec<u8>, wanted: usize) {
    while out.len() < wanted {
        let draw = prng.draw();
        if draw & 7 == 0 {
            out.resize(out.len() + 8 * (1 + (draw >> 60) as usize), 0);
        } else {
            out.extend_from_slice(&(0x0000_0001_8000_0000 | (draw >> 40) & 0x3f_fff8).to_le_bytes());
        }
    }
}

/// Dialogs and messages in UTF-16, icons in noise.
fn resources(prng: &mut Prng, out: &mut Vec<u8>, wanted: usize) {
    while out.len() < wanted {
        if prng.chance(55) {
            let len = (out.len() + 1200).min(wanted);
            dense(prng, out, len);
        } else {
            for _ in 0..40 {
                let word = prng.pick(&WORDS).as_bytes();
                out.extend(word.iter().chain(b" ").flat_map(|byte| [*byte, 0]));
            }
        }
    }
}

/// Blocks of ascending 12-bit offsets.
fn relocations(prng: &mut Prng, out: &mut Vec<u8>, wanted: usize) {
    while out.len() < wanted {
        let mut offset = 0_u16;
        out.extend_from_slice(&prng.below(0x4000).to_le_bytes());
        while offset < 0xf00 {
            offset += 8 * (1 + prng.below(12) as u16);
            out.extend_from_slice(&(0xa000 | offset & 0xfff).to_le_bytes());
        }
    }
}

fn dense(prng: &mut Prng, out: &mut Vec<u8>, wanted: usize) {
    while out.len() < wanted {
        out.extend_from_slice(&prng.draw().to_le_bytes());
    }
}

fn xml(prng: &mut Prng, out: &mut Vec<u8>, first: bool, wanted: usize) {
    if first {
        out.extend_from_slice(
            b"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\" standalone=\"yes\"?>\r\n",
        );
        out.extend_from_slice(
            b"<assembly xmlns=\"urn:schemas-microsoft-com:asm.v3\" manifestVersion=\"1.0\">\r\n",
        );
    }
    while out.len() < wanted {
        let (a, b) = (*prng.pick(&WORDS), *prng.pick(&WORDS));
        let line = format!(
            "  <file name=\"{a}{b}.dll\" destinationPath=\"$(runtime.system32)\\\" sourceName=\"{a}{b}.dll\">\r\n    \
             <hash algorithm=\"sha256\">{:016x}{:016x}</hash>\r\n  </file>\r\n",
            prng.draw(),
            prng.draw()
        );
        out.extend_from_slice(line.as_bytes());
    }
}

fn text(prng: &mut Prng, out: &mut Vec<u8>, wanted: usize) {
    let mut column = 0;
    while out.len() < wanted {
        let word = *prng.pick(&WORDS);
        out.extend_from_slice(word.as_bytes());
        column += word.len();
        if column > 70 {
            column = 0;
            out.extend_from_slice(b".\r\n");
        } else {
            out.push(b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ContentKind; 4] =
        [ContentKind::Program, ContentKind::Xml, ContentKind::Text, ContentKind::Dense];

    fn whole(kind: ContentKind, seed: u64, size: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Content::new(kind, seed, size).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn content_has_exactly_the_size_asked_for() {
        for kind in KINDS {
            for size in [0, 1, 63, 1024, PART as u64 - 1, PART as u64, PART as u64 + 1, 200_000] {
                assert_eq!(whole(kind, 7, size).len() as u64, size, "{kind:?}");
            }
        }
    }

    #[test]
    fn content_does_not_depend_on_how_it_is_read() {
        for kind in KINDS {
            let (mut content, mut bytes) = (Content::new(kind, 3, 100_000), Vec::new());
            let mut buf = [0; 777];
            while let n @ 1.. = content.read(&mut buf).unwrap() {
                bytes.extend_from_slice(&buf[..n]);
            }
            assert!(bytes == whole(kind, 3, 100_000), "{kind:?}");
        }
    }

    #[test]
    fn another_seed_is_another_content() {
        for kind in KINDS {
            assert!(whole(kind, 1, 5000) != whole(kind, 2, 5000), "{kind:?}");
        }
    }

    #[test]
    fn a_program_compresses_to_about_half() {
        let bytes = whole(ContentKind::Program, 5, 2_000_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        std::io::Write::write_all(&mut gzip, &bytes).unwrap();
        let ratio = gzip.finish().unwrap().len() * 100 / bytes.len();
        assert!((42..=58).contains(&ratio), "{ratio}%");
    }
}
