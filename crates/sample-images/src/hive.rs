//! Writes small valid registry hives: for a base layer's `config`, a diff layer's `Hives/*_Delta` and a
//! boot store. As offreg writes them: one bin, one security descriptor, no logs.
//!
//! Sources: msuhanov/regf, "Windows registry file format specification"; for layered (delta) hives the same
//! document's notes on version 1.6.

/// A value's data.
#[derive(Clone, Debug)]
pub enum Value {
    /// `REG_DWORD`.
    Dword(u32),
    /// `REG_SZ`.
    Text(String),
}

/// A key with its values and sub-keys.
#[derive(Clone, Debug, Default)]
pub struct Key {
    name: String,
    values: Vec<(String, Value)>,
    children: Vec<Key>,
}

impl Key {
    /// A key without values.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Adds a value.
    #[must_use]
    pub fn value(mut self, name: &str, value: Value) -> Self {
        self.values.push((name.to_owned(), value));
        self
    }

    /// Adds a sub-key.
    #[must_use]
    pub fn child(mut self, child: Key) -> Self {
        self.children.push(child);
        self
    }

    /// Adds `value` to the key at `path`, components separated by `\`, creating missing keys.
    #[must_use]
    pub fn set(mut self, path: &str, name: &str, value: Value) -> Self {
        let mut key = &mut self;
        for part in path.split('\\') {
            let at = key.children.iter().position(|child| child.name.eq_ignore_ascii_case(part));
            let at = at.unwrap_or_else(|| {
                key.children.push(Key::new(part));
                key.children.len() - 1
            });
            key = &mut key.children[at];
        }
        key.values.push((name.to_owned(), value));
        self
    }

    fn count(&self) -> u32 {
        1 + self.children.iter().map(Key::count).sum::<u32>()
    }
}

/// The two forms of hives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiveKind {
    /// Version 1.5: complete by itself.
    Full,
    /// Version 1.6 with layered keys: changes to the hive of the layers below.
    Delta,
}

/// The hive below `root`, whose name becomes `ROOT`; `time` is a FILETIME.
#[must_use]
pub fn hive(root: &Key, kind: HiveKind, time: u64) -> Vec<u8> {
    let mut bin = Bin { bytes: vec![0; 32], time, security: 0 };
    let root = Key { name: "ROOT".into(), ..root.clone() };
    bin.root(&root, kind);
    let bins = bin.finish();
    let mut hive = base_block(kind, time, bins.len() as u32);
    hive.extend_from_slice(&bins);
    hive
}

/// An empty hive: 8,192 bytes.
#[must_use]
pub fn empty(kind: HiveKind, time: u64) -> Vec<u8> {
    hive(&Key::default(), kind, time)
}

/// The smallest boot store that HCS accepts: `description` names the boot entry.
#[must_use]
pub fn boot_store(description: &str, time: u64) -> Vec<u8> {
    const BOOT_MANAGER: &str = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}";
    const ENTRY: &str = "{b2721d73-1db4-4c62-bf78-c548a880142d}";
    let root = Key::default()
        .set("Description", "FirmwareModified", Value::Dword(1))
        .set("Description", "KeyName", Value::Text("BCD00000000".into()))
        .set(&format!(r"Objects\{ENTRY}\Description"), "Type", Value::Dword(0x1020_0003))
        .set(&format!(r"Objects\{ENTRY}\Elements\12000004"), "Element", Value::Text(description.into()))
        .set(&format!(r"Objects\{BOOT_MANAGER}\Description"), "Type", Value::Dword(0x1010_0002))
        .set(&format!(r"Objects\{BOOT_MANAGER}\Elements\23000003"), "Element", Value::Text(ENTRY.into()));
    hive(&root, HiveKind::Full, time)
}

const NONE: u32 = u32::MAX;

fn base_block(kind: HiveKind, time: u64, bins: u32) -> Vec<u8> {
    let (minor, flags) = if kind == HiveKind::Full { (5_u32, 0_u32) } else { (6, 2) };
    let mut block = vec![0_u8; 4096];
    block[..4].copy_from_slice(b"regf");
    put(&mut block, 4, &1_u32.to_le_bytes());
    put(&mut block, 8, &1_u32.to_le_bytes());
    put(&mut block, 12, &(if kind == HiveKind::Full { time } else { 0 }).to_le_bytes());
    put(&mut block, 20, &1_u32.to_le_bytes());
    put(&mut block, 24, &minor.to_le_bytes());
    put(&mut block, 32, &1_u32.to_le_bytes());
    put(&mut block, 36, &32_u32.to_le_bytes());
    put(&mut block, 40, &bins.to_le_bytes());
    put(&mut block, 44, &1_u32.to_le_bytes());
    put(&mut block, 144, &flags.to_le_bytes());
    put(&mut block, 176, b"OfRg\x01\0\0\0");
    put(&mut block, 512, &time.to_le_bytes());
    let words =
        block[..508].chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let sum = match words.fold(0, |sum, word| sum ^ word) {
        0 => 1,
        NONE => NONE - 1,
        sum => sum,
    };
    put(&mut block, 508, &sum.to_le_bytes());
    block
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The hive's one bin; offsets are relative to the hive's data, as in the format.
struct Bin {
    bytes: Vec<u8>,
    time: u64,
    security: u32,
}

impl Bin {
    /// Reserves a cell for `len` bytes of data and returns its offset.
    fn reserve(&mut self, len: usize) -> u32 {
        let (offset, size) = (self.bytes.len(), (len + 4).next_multiple_of(8));
        self.bytes.resize(offset + size, 0);
        put(&mut self.bytes, offset, &(-(size as i32)).to_le_bytes());
        offset as u32
    }

    fn cell(&mut self, data: &[u8]) -> u32 {
        let offset = self.reserve(data.len());
        self.fill(offset, data);
        offset
    }

    fn fill(&mut self, cell: u32, data: &[u8]) {
        put(&mut self.bytes, cell as usize + 4, data);
    }

    /// Writes the root key first and the security cell second, like offreg.
    fn root(&mut self, root: &Key, kind: HiveKind) {
        let cell = self.reserve(76 + root.name.len());
        let descriptor = default_security();
        let at = self.bytes.len() as u32;
        let mut data = b"sk\0\0".to_vec();
        for number in [at, at, root.count(), descriptor.len() as u32] {
            data.extend_from_slice(&number.to_le_bytes());
        }
        data.extend_from_slice(&descriptor);
        self.security = self.cell(&data);
        let flags = if kind == HiveKind::Full && root.children.is_empty() { 0x20 } else { 0x2c };
        self.key(cell, root, NONE, flags);
    }

    /// Writes `key` into its reserved `cell`, and everything below it.
    fn key(&mut self, cell: u32, key: &Key, parent: u32, flags: u16) {
        let children = self.children(key, cell);
        let values = self.values(key);
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0) as u32;
        let mut data = b"nk".to_vec();
        data.extend_from_slice(&flags.to_le_bytes());
        data.extend_from_slice(&self.time.to_le_bytes());
        let numbers = [
            0,
            parent,
            key.children.len() as u32,
            0,
            children,
            NONE,
            key.values.len() as u32,
            values,
            self.security,
            NONE,
            longest(&mut key.children.iter().map(|child| child.name.len() * 2)),
            0,
            longest(&mut key.values.iter().map(|(name, _)| name.len() * 2)),
            longest(&mut key.values.iter().map(|(_, value)| value_bytes(value).1.len())),
            0,
        ];
        data.extend(numbers.iter().flat_map(|number: &u32| number.to_le_bytes()));
        data.extend_from_slice(&(key.name.len() as u16).to_le_bytes());
        data.extend_from_slice(&0_u16.to_le_bytes());
        data.extend_from_slice(key.name.as_bytes());
        self.fill(cell, &data);
    }

    /// The `lh` list of sub-keys, sorted by upper-cased name.
    fn children(&mut self, key: &Key, parent: u32) -> u32 {
        if key.children.is_empty() {
            return NONE;
        }
        let mut children: Vec<&Key> = key.children.iter().collect();
        children.sort_by_key(|child| child.name.to_ascii_uppercase());
        let mut data = b"lh".to_vec();
        data.extend_from_slice(&(children.len() as u16).to_le_bytes());
        for child in children {
            let cell = self.reserve(76 + child.name.len());
            self.key(cell, child, parent, 0x20);
            let upper = child.name.to_ascii_uppercase();
            let hash =
                upper.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(37).wrapping_add(u32::from(byte)));
            data.extend_from_slice(&cell.to_le_bytes());
            data.extend_from_slice(&hash.to_le_bytes());
        }
        self.cell(&data)
    }

    fn values(&mut self, key: &Key) -> u32 {
        if key.values.is_empty() {
            return NONE;
        }
        let mut list = Vec::new();
        for (name, value) in &key.values {
            let (kind, bytes) = value_bytes(value);
            let (size, place) = match <[u8; 4]>::try_from(bytes.as_slice()) {
                Ok(inline) => (4 | 0x8000_0000, u32::from_le_bytes(inline)),
                Err(_) => (bytes.len() as u32, self.cell(&bytes)),
            };
            let mut data = b"vk".to_vec();
            data.extend_from_slice(&(name.len() as u16).to_le_bytes());
            data.extend([size, place, kind].iter().flat_map(|number: &u32| number.to_le_bytes()));
            data.extend_from_slice(&[1, 0, 0, 0]);
            data.extend_from_slice(name.as_bytes());
            list.extend_from_slice(&self.cell(&data).to_le_bytes());
        }
        self.cell(&list)
    }

    /// The bin with its header and one free cell up to its end.
    fn finish(mut self) -> Vec<u8> {
        let used = self.bytes.len();
        let size = (used + 8).next_multiple_of(4096);
        self.bytes.resize(size, 0);
        put(&mut self.bytes, used, &((size - used) as i32).to_le_bytes());
        put(&mut self.bytes, 0, b"hbin");
        put(&mut self.bytes, 8, &(size as u32).to_le_bytes());
        put(&mut self.bytes, 20, &self.time.to_le_bytes());
        self.bytes
    }
}

/// Registry type and bytes.
fn value_bytes(value: &Value) -> (u32, Vec<u8>) {
    match value {
        Value::Dword(number) => (4, number.to_le_bytes().to_vec()),
        Value::Text(text) => (1, text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()),
    }
}

/// offreg's default: `O:BAG:BAD:(A;CI;KA;;;SY)(A;CI;KA;;;BA)(A;CI;KR;;;WD)(A;CI;KR;;;RC)`, the DACL before
/// the owner.
fn default_security() -> Vec<u8> {
    const ALL: u32 = 0x000f_003f;
    const READ: u32 = 0x0002_0019;
    const SYSTEM: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    const ADMINISTRATORS: &[u8] = &[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
    const EVERYONE: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    const RESTRICTED: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 5, 12, 0, 0, 0];
    let mut out = vec![1, 0, 4, 0x80, 112, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0];
    out.extend_from_slice(&[2, 0, 92, 0, 4, 0, 0, 0]);
    for (sid, mask) in [(SYSTEM, ALL), (ADMINISTRATORS, ALL), (EVERYONE, READ), (RESTRICTED, READ)] {
        out.extend_from_slice(&[0, 2, 8 + sid.len() as u8, 0]);
        out.extend_from_slice(&mask.to_le_bytes());
        out.extend_from_slice(sid);
    }
    out.extend_from_slice(ADMINISTRATORS);
    out.extend_from_slice(ADMINISTRATORS);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the bin cell by cell.
    fn cells(hive: &[u8]) -> Vec<(usize, i32)> {
        let (mut at, mut cells) = (4096 + 32, Vec::new());
        while at < hive.len() {
            let size = i32::from_le_bytes(hive[at..at + 4].try_into().unwrap());
            cells.push((at - 4096, size));
            at += size.unsigned_abs() as usize;
        }
        assert_eq!(at, hive.len());
        cells
    }

    #[test]
    fn an_empty_hive_is_laid_out_as_offreg_does() {
        let hive = empty(HiveKind::Full, 1);
        assert_eq!(hive.len(), 8192);
        let offsets: Vec<usize> = cells(&hive).iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [0x20, 0x78, 0x120]);
        assert_eq!(default_security().len(), 144);
    }

    #[test]
    fn cells_fill_the_bin_without_gaps() {
        let cells = cells(&boot_store("Windows", 1));
        assert_eq!(cells.iter().filter(|(_, size)| *size > 0).count(), 1);
        assert!(cells.iter().all(|(offset, size)| offset % 8 == 0 && size % 8 == 0));
    }

    #[test]
    fn a_delta_says_that_its_keys_are_layered() {
        let hive = empty(HiveKind::Delta, 1);
        assert_eq!((hive[24], hive[144]), (6, 2));
    }
}
