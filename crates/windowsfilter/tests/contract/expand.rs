//! Sandboxes grow, mounted or not, and never shrink.

use std::fs;
use std::path::Path;

use windowsfilter::{Driver, Error, StorageOptions};

use crate::support::{TestStore, id};

const MIB: u64 = 1 << 20;

/// A store with the sandbox `box` of 64 MiB.
fn store() -> TestStore {
    let store = TestStore::with_base();
    let small = StorageOptions { size: Some(64 * MIB) };
    store.create_read_write(&id("box"), Some(&id("base")), small, "").unwrap();
    store
}

/// Capacity of the file system in bytes.
fn capacity(view: &Path) -> u64 {
    let stat = rustix::fs::statvfs(view).unwrap();
    stat.f_blocks * stat.f_frsize
}

fn recorded(store: &TestStore) -> Option<u64> {
    store.record(&id("box")).unwrap().sandbox_size
}

#[test]
fn an_unmounted_sandbox_grows_and_holds_more() {
    let store = store();
    store.expand(&id("box"), 200 * MIB).unwrap();
    let view = store.get(&id("box"), "").unwrap();
    fs::write(view.join("large"), vec![1; 100 << 20]).unwrap();
    store.put(&id("box")).unwrap();
    assert_eq!(recorded(&store), Some(200 * MIB));
    assert_eq!(store.fsck(false).unwrap(), []);
}

/// Growing a mounted ext4 needs `CAP_SYS_RESOURCE`, which root in a container may lack: then it is refused,
/// and nothing changes.
#[test]
fn a_mounted_sandbox_grows_or_says_what_it_lacks() {
    let store = store();
    let view = store.get(&id("box"), "").unwrap();
    fs::write(view.join("before"), b"1").unwrap();
    let before = capacity(&view);
    match store.expand(&id("box"), 200 * MIB) {
        Ok(()) => {
            assert!(capacity(&view) > 150 * MIB);
            assert_eq!(recorded(&store), Some(200 * MIB));
        }
        Err(error) => {
            assert!(!has_cap_sys_resource(), "{error}");
            assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{error}");
            assert_eq!((capacity(&view), recorded(&store)), (before, Some(64 * MIB)));
        }
    }
    fs::write(view.join("after"), b"1").unwrap();
    store.put(&id("box")).unwrap();
    let view = store.get(&id("box"), "").unwrap();
    assert!(view.join("before").exists() && view.join("after").exists());
    store.put(&id("box")).unwrap();
}

/// Bit 24 of the effective capabilities. Source: capabilities(7), `linux/capability.h`.
fn has_cap_sys_resource() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & 1 << 24 != 0
}

#[test]
fn a_sandbox_never_shrinks_and_a_layer_has_no_size() {
    let store = store();
    let error = store.expand(&id("box"), 32 * MIB).unwrap_err();
    assert!(error.to_string().contains("box"), "{error}");
    assert_eq!(recorded(&store), Some(64 * MIB));
    assert!(matches!(store.expand(&id("base"), 200 * MIB), Err(Error::WrongKind { .. })));
}
