//! Records stay durable through disk errors.

use std::path::Path;

use redb::Database;

use super::database::META;
use super::*;
use crate::tests::small_disk::SmallDisk;

fn record(records: &Records, key: &str) -> Record {
    Record {
        key: key.to_owned(),
        number: records.allocate(),
        kind: Kind::Sandbox,
        parent: String::new(),
        namespace: "default".into(),
        labels: BTreeMap::from([("containerd.io/snapshot.ref".into(), "sha256:1".into())]),
        created: 1_700_000_000_123_456_789,
        updated: 1_700_000_000_123_456_789,
        layer: None,
        empty: Some(Usage { size: 4096, inodes: 12 }),
        applied: false,
        thrown: false,
    }
}

fn anything(_: &State) -> Result<(), Error> {
    Ok(())
}

#[test]
fn what_was_written_is_there_after_opening_again_and_numbers_are_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    let records = Records::open(&path).unwrap();
    let (a, b) = (record(&records, "default/1/a b"), record(&records, &"k".repeat(10_000)));
    for record in [&a, &b] {
        records.change(None, Some(record.clone()), anything).unwrap();
    }
    records.change(Some(&b.key), None, anything).unwrap();
    drop(records);
    let records = Records::open(&path).unwrap();
    assert_eq!(*records.get(&a.key).unwrap(), a);
    assert_eq!(records.numbered(a.number).unwrap().key, a.key);
    assert!(records.numbered(b.number).is_none());
    assert_eq!(records.all().len(), 1);
    assert!(records.allocate() > b.number);
}

#[test]
fn a_commit_takes_the_key_away_and_gives_the_name_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(&dir.path().join("snapshots.redb")).unwrap();
    let a = record(&records, "a");
    records.change(None, Some(a.clone()), anything).unwrap();
    let refused = records.change(Some("a"), None, |_| Err(Error::Panicked));
    assert!(refused.is_err());
    assert!(records.get("a").is_ok());
    let b = Record { key: "b".into(), kind: Kind::Committed, ..a };
    records.change(Some("a"), Some(b.clone()), anything).unwrap();
    assert!(records.get("a").is_err());
    assert_eq!(records.numbered(b.number).unwrap().key, "b");
}

#[test]
fn what_is_begun_is_pending_until_it_has_a_record_or_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    let records = Records::open(&path).unwrap();
    let (a, b) = (record(&records, "a"), record(&records, "b"));
    records.begin(&[a.number, b.number]).unwrap();
    records.add(&a, anything).unwrap();
    let explained = |number| Records::read_copy(&path).unwrap().unwrap().may_have_left(number);
    drop(records);
    assert!(!explained(a.number) && explained(b.number) && !explained(77));
    // A removal stays pending until it is done and the next change writes that.
    let records = Records::open(&path).unwrap();
    records.remove(&a, anything).unwrap();
    records.ended(b.number);
    assert_eq!(records.pending(), [a.number].into());
    records.ended(a.number);
    let c = record(&records, "c");
    records.begin(&[c.number]).unwrap();
    drop(records);
    assert!(!explained(a.number) && !explained(b.number) && explained(c.number));
    // A number that ended and began again is pending.
    let records = Records::open(&path).unwrap();
    records.ended(c.number);
    records.begin(&[c.number]).unwrap();
    assert_eq!(records.pending(), [c.number].into());
    // A pending number is never allocated.
    records.begin(&[1_000]).unwrap();
    assert_eq!(records.allocate(), 1_001);
}

#[test]
fn records_of_before_numbers_were_noted_explain_those_that_were_given_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    let records = Records::open(&path).unwrap();
    let a = record(&records, "a");
    records.change(None, Some(a.clone()), anything).unwrap();
    drop(records);
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(database::PENDING).unwrap());
    transaction.commit().unwrap();
    drop(database);
    let state = Records::read_copy(&path).unwrap().unwrap();
    assert!(state.may_have_left(a.number) && !state.may_have_left(a.number + 1));
    let records = Records::open(&path).unwrap();
    records.begin(&[]).unwrap();
    drop(records);
    assert!(!Records::read_copy(&path).unwrap().unwrap().may_have_left(a.number));
}

#[test]
fn a_second_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    let _first = Records::open(&path).unwrap();
    let error = Records::open(&path).unwrap_err();
    assert!(error.to_string().contains("snapshots.redb"), "{error}");
}

#[test]
fn records_of_another_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("version", 7).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(Records::open(&path), Err(Error::RecordsVersion { version: 7, .. })));
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    std::fs::write(&path, vec![7; 9000]).unwrap();
    assert!(matches!(Records::open(&path), Err(Error::RecordsUnusable { .. })));
}

/// Runs `test` on each kind of small disk that works on any machine.
fn on_small_disks(test: impl Fn(&SmallDisk, &Path)) {
    for make in [SmallDisk::ext4, SmallDisk::tmpfs, SmallDisk::btrfs] {
        let dir = tempfile::tempdir().unwrap();
        let disk = make(dir.path(), 8);
        test(&disk, &dir.path().join("snapshots.redb"));
    }
}

fn add(records: &Records, key: &str) -> Result<(), Error> {
    records.change(None, Some(record(records, key)), anything)
}

/// Adds records until the disk is full.
fn add_until_full(records: &Records) -> (Error, String) {
    (0..)
        .find_map(|i| {
            let key = format!("{i} {}", "k".repeat(50_000));
            add(records, &key).err().map(|error| (error, key))
        })
        .unwrap()
}

#[test]
fn on_a_full_disk_there_is_room_for_removals_and_it_is_kept_again_later() {
    on_small_disks(|disk, path| {
        let records = Records::open(path).unwrap();
        for key in ["a", "b", "c"] {
            add(&records, key).unwrap();
        }
        let reserve = path.with_extension("reserve");
        assert!(reserve.exists());
        disk.fill();
        for key in ["a", "b"] {
            records.change(Some(key), None, anything).unwrap();
        }
        records
            .change(
                Some("c"),
                Some(Record { kind: Kind::View, ..(*records.get("c").unwrap()).clone() }),
                anything,
            )
            .unwrap();
        add_until_full(&records);
        assert!(!reserve.exists());
        disk.empty();
        records.keep_room();
        assert!(reserve.exists());
        assert_eq!(records.get("c").unwrap().kind, Kind::View);
    });
}

#[test]
fn a_database_that_vanishes_under_a_server_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    let records = Records::open(&path).unwrap();
    add(&records, "a").unwrap();
    std::fs::remove_file(&path).unwrap();
    records.inner().file.close();
    let error = add(&records, "b").unwrap_err();
    assert!(chain(&error).contains("snapshots.redb"), "{}", chain(&error));
    assert!(!path.exists());
}

#[test]
fn two_servers_that_start_at_once_do_not_replace_each_others_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    // The file as the first process has made it so far.
    let making = std::fs::File::create(&path).unwrap();
    making.lock().unwrap();
    assert!(matches!(Records::open(&path).unwrap_err(), Error::Records { .. }));
    drop(making);
    add(&Records::open(&path).unwrap(), "a").unwrap();
}

#[test]
fn a_change_that_found_no_room_is_not_there_and_later_ones_succeed_without_a_restart() {
    on_small_disks(|disk, path| {
        let records = Records::open(path).unwrap();
        add(&records, "a").unwrap();
        std::fs::remove_file(path.with_extension("reserve")).unwrap();
        disk.fill();
        let (error, key) = add_until_full(&records);
        assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error:?}");
        assert!(chain(&error).contains("No space left"), "{}", chain(&error));
        assert!(records.get(&key).is_err());
        let next = records.allocate();
        disk.empty();
        add(&records, &key).unwrap();
        assert!(records.get(&key).unwrap().number > next);
        assert!(path.with_extension("reserve").exists());
        let before = records.all();
        drop(records);
        assert_eq!(Records::open(path).unwrap().all(), before);
    });
}

#[test]
fn a_server_starts_on_a_full_disk_and_can_remove() {
    on_small_disks(|disk, path| {
        let records = Records::open(path).unwrap();
        add(&records, "a").unwrap();
        drop(records);
        disk.fill();
        let records = Records::open(path).unwrap();
        records.change(Some("a"), None, anything).unwrap();
        assert_eq!(records.all(), []);
    });
}

#[test]
fn a_full_disk_at_the_first_start_leaves_nothing_that_would_be_taken_for_damage() {
    on_small_disks(|disk, path| {
        disk.fill();
        let error = Records::open(path).unwrap_err();
        assert!(error.is_full(), "{error:?}");
        disk.empty();
        assert_eq!(Records::open(path).unwrap().all(), []);
    });
}

#[test]
fn a_database_that_was_made_but_never_written_gets_its_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots.redb");
    drop(Database::create(&path).unwrap());
    assert_eq!(Records::read_copy(&path).unwrap().unwrap().all().count(), 0);
    add(&Records::open(&path).unwrap(), "a").unwrap();
    assert_eq!(Records::open(&path).unwrap().all().len(), 1);
}
