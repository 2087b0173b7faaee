//! Finds a name in a directory of an index, without regard to case.
//!
//! An index finds an exact spelling at once, but to rule out other spellings it has to look at all names. So
//! the first lookup in vain hashes all names of the directory, case folded: 12 bytes a name, until the index
//! is closed. Each directory is read only once, for any number of lookups.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use erofs_index::{DirPlace, Image, InodeInfo, Nid, ReadAt, ReadError};
use wclayer::name;

use super::long_names::true_name;

/// The hashed names of the directories of one index.
#[derive(Debug, Default)]
pub(super) struct AnyCase {
    hasher: RandomState,
    directories: Mutex<HashMap<Nid, Arc<[Hashed]>>>,
}

/// A name of a directory: the hash of its folded form, and its place. Sorted by hash.
type Hashed = (u32, DirPlace);

impl AnyCase {
    /// The entry with this name in any case, or with this true name: its name in the index and its inode.
    pub(super) fn find<S: ReadAt>(
        &self,
        image: &Image<S>,
        directory: &InodeInfo,
        name: &[u8],
    ) -> Result<Option<(Vec<u8>, Nid)>, ReadError> {
        if let Some(nid) = image.lookup(directory, name)? {
            return Ok(Some((name.to_vec(), nid)));
        }
        let names = self.names(image, directory)?;
        let hash = self.hash(name);
        let first = names.partition_point(|&(other, _)| other < hash);
        for &(_, place) in names[first..].iter().take_while(|&&(other, _)| other == hash) {
            let entry = image.entry_at(directory, place)?;
            if name::eq(&entry.name, name)
                || true_name(image, entry.nid, &entry.name)?.is_some_and(|other| name::eq(&other, name))
            {
                return Ok(Some((entry.name, entry.nid)));
            }
        }
        Ok(None)
    }

    fn names<S: ReadAt>(&self, image: &Image<S>, directory: &InodeInfo) -> Result<Arc<[Hashed]>, ReadError> {
        let known = || self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = known().get(&directory.nid) {
            return Ok(Arc::clone(names));
        }
        let mut names = Vec::new();
        for entry in image.read_dir(directory)? {
            let entry = entry?;
            names.push((self.hash(&entry.name), entry.place));
            if let Some(other) = true_name(image, entry.nid, &entry.name)? {
                names.push((self.hash(&other), entry.place));
            }
        }
        names.sort_unstable_by_key(|&(hash, _)| hash);
        let names: Arc<[Hashed]> = names.into();
        known().insert(directory.nid, Arc::clone(&names));
        Ok(names)
    }

    /// Keyed, so that nobody can choose names that collide.
    fn hash(&self, name: &[u8]) -> u32 {
        // 32 bits are enough to tell the names of one directory apart.
        self.hasher.hash_one(name::fold(name)) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};

    use erofs_index::{ImageBuilder, Inode, InodeId, Kind, Options, XattrSetId};

    use super::*;

    /// Counts the bytes that are read.
    struct Counting(Vec<u8>, AtomicU64);

    impl ReadAt for Counting {
        fn len(&self) -> io::Result<u64> {
            ReadAt::len(&self.0)
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read_exact_at(buffer, offset)
        }
    }

    fn image(names: &[String]) -> Counting {
        let mut builder = ImageBuilder::new(Options::default());
        let file = Inode {
            kind: Kind::File { extent: None, size: 0 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: XattrSetId::EMPTY,
        };
        let file = builder.add_inode(file).unwrap();
        for name in names {
            builder.link(InodeId::ROOT, name.as_bytes(), file).unwrap();
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes).unwrap();
        Counting(bytes, AtomicU64::new(0))
    }

    #[test]
    fn every_name_is_found_in_any_case_and_no_other() {
        let names: Vec<_> = (0..500).map(|n| format!("Straße-{n}.Txt")).collect();
        let bytes = image(&names);
        let image = Image::open(&bytes).unwrap();
        let (root, any_case) = (image.inode(image.root()).unwrap(), AnyCase::default());
        let find = |name: &str| any_case.find(&image, &root, name.as_bytes()).unwrap();
        for name in &names {
            for spelling in [name.clone(), name.to_uppercase().replace("SS", "ß"), name.to_lowercase()] {
                assert_eq!(
                    find(&spelling).map(|found| found.0),
                    Some(name.clone().into_bytes()),
                    "{spelling}"
                );
            }
        }
        for name in ["", ".", "..", "Straße-1", "Straße-500.Txt", "STRASSE-1.Txt"] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn a_directory_is_read_once_however_often_names_are_looked_up_in_vain() {
        let names: Vec<_> = (0..13_000).map(|n| format!("name-{n}")).collect();
        let bytes = image(&names);
        let image = Image::open(&bytes).unwrap();
        let (root, any_case) = (image.inode(image.root()).unwrap(), AnyCase::default());
        for n in 0..2_000 {
            assert_eq!(any_case.find(&image, &root, format!("other-{n}").as_bytes()).unwrap(), None);
            assert!(any_case.find(&image, &root, format!("NAME-{n}").as_bytes()).unwrap().is_some());
        }
        // A few reads for the binary search of an exact lookup, and each block once. Without hashes, every
        // lookup read 13,000 names.
        let reads = bytes.1.load(Ordering::Relaxed);
        assert!(reads < 4_000 * 30, "{reads}");
    }
}
