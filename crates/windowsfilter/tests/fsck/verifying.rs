//! fsck that reads all content.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use windowsfilter::fsck::Invariant;
use windowsfilter::import::Progress;
use windowsfilter::{Driver, Error};

use crate::support::{TestLayer, TestStore, id};
use crate::{flip, with_child};

#[derive(Default)]
struct Heard(AtomicU64);

impl Progress for Heard {
    fn blob_bytes(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

fn jobs(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

#[test]
fn a_tar_with_one_other_bit_does_not_verify() {
    let store = TestStore::with_base();
    let path = store.layer_dir("base/layer.tar");
    let length = fs::metadata(&path).unwrap().len();
    for offset in [0, 700, 3000, length / 2, length - 1] {
        flip(&path, offset);
        assert_eq!(store.fsck(false).unwrap(), [], "fsck measures tars and does not read them");
        let found = store.verify_all(jobs(2), &()).unwrap().findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].invariant, &found[0].id), (Invariant::TarDigest, &Some(id("base"))));
        assert!(found[0].problem.contains("layer.tar"), "{found:?}");
        assert!(matches!(store.verify(&id("base")), Err(Error::DigestMismatch { .. })));
        flip(&path, offset);
    }
    store.verify(&id("base")).unwrap();
}

#[test]
fn everything_that_does_not_verify_is_found_by_any_number_of_jobs() {
    let store = with_child();
    let mut bytes = 0;
    for number in 0..10 {
        let name = id(&format!("l{number}"));
        let tar =
            TestLayer::new().dir("Files").file("Files/x", &vec![number; 3000 * usize::from(number)]).tar();
        bytes += tar.len() as u64;
        store.apply_diff(&name, Some(&id("child")), &mut &tar[..]).unwrap();
        store.view(&name).unwrap();
    }
    for layer in ["base", "child"] {
        bytes += fs::metadata(store.layer_dir(layer).join("layer.tar")).unwrap().len();
    }
    let good = store.verify_all(jobs(3), &()).unwrap();
    assert_eq!((good.layers, good.bytes, good.findings), (12, bytes, Vec::new()));
    flip(&store.layer_dir("l3/layer.tar"), 100);
    flip(&store.layer_dir("l5/chain.erofs"), 100);
    flip(&store.layer_dir("l7/layer.tar"), 9);
    flip(&store.layer_dir("l7/layer.erofs"), 100);
    let expected = [
        (id("l3"), Invariant::TarDigest),
        (id("l5"), Invariant::ChainIndex),
        (id("l7"), Invariant::TarDigest),
        (id("l7"), Invariant::IndexDigest),
    ];
    for n in [1, 2, 64] {
        let heard = Heard::default();
        let verified = store.verify_all(jobs(n), &heard).unwrap();
        let found: Vec<_> =
            verified.findings.iter().map(|found| (found.id.clone().unwrap(), found.invariant)).collect();
        assert_eq!(found, expected, "{n} jobs");
        assert_eq!((verified.bytes, heard.0.into_inner()), (bytes, bytes));
    }
}
