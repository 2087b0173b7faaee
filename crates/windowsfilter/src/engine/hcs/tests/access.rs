//! Access to a home: who can write to it.

use hcs::{Code, User};

use super::failures::whole;
use super::fake_host::FakeHost;
use super::{Fixture, ImportProcess, id};
use crate::fsck::Invariant;
use crate::{Driver, Error, ErrorKind, LayerStore, StorageOptions};

/// The access list that is inherited in `C:\ProgramData`: users may create files and directories.
const PROGRAM_DATA: &str = "O:BAD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIIOID;GA;;;CO)\
                            (A;OICIID;0x1200a9;;;BU)(A;CIID;DCLCRPCR;;;BU)";

fn open(fixture: &Fixture) -> Result<LayerStore, Error> {
    let host = fixture.host.clone();
    LayerStore::open_hcs(&fixture.home(), StorageOptions::default(), host, ImportProcess::Here)
}

#[test]
fn a_home_is_made_for_administrators_before_anything_is_in_it() {
    let host = FakeHost::default();
    host.machine().outside = PROGRAM_DATA;
    let fixture = Fixture::on(host);
    let calls = fixture.host.calls();
    assert_eq!(calls[1], "CreateDirectory(ROOT/home, O:BAD:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY))", "{calls:?}");
    // The directories in it inherit its list.
    open(&fixture).unwrap();
    assert_eq!(fixture.store.fsck(false).unwrap(), []);
}

#[test]
fn the_home_of_an_ordinary_user_is_theirs_and_the_administrators() {
    let host = FakeHost::default();
    let sid = "S-1-5-21-1-2-3-1001".to_owned();
    host.machine().user = User { sid, is_administrator: false };
    host.machine().outside = PROGRAM_DATA;
    let fixture = Fixture::on(host);
    assert!(
        fixture.host.calls()[1]
            .ends_with("home, D:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)(A;OICI;GA;;;S-1-5-21-1-2-3-1001))")
    );
    open(&fixture).unwrap();
    // For an administrator, the previous user is not trusted.
    fixture.host.machine().user = FakeHost::default().machine().user.clone();
    assert!(matches!(open(&fixture), Err(Error::Exposed { .. })));
}

#[test]
fn a_home_that_others_can_write_to_is_refused_with_the_command_that_mends_it_and_nothing_is_made() {
    let host = FakeHost::default();
    host.machine().outside = PROGRAM_DATA;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap().join("home");
    std::fs::create_dir(&home).unwrap();
    let opened = LayerStore::open_hcs(&home, StorageOptions::default(), host.clone(), ImportProcess::Here);
    let error = whole(&opened.unwrap_err());
    for part in [
        format!("others can write to {}: BUILTIN\\Users (S-1-5-32-545)", home.display()),
        format!("icacls \"{}\" /inheritance:r /remove \"*S-1-5-32-545\"", home.display()),
    ] {
        assert!(error.contains(&part), "{part} is not in {error}");
    }
    assert!(super::names(&home).is_empty());
    // The list that the suggested command leaves.
    let mended = "O:BAD:P(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)".to_owned();
    host.machine().descriptors.insert(home.clone(), mended);
    LayerStore::open_hcs(&home, StorageOptions::default(), host, ImportProcess::Here).unwrap();
}

#[test]
fn a_directory_of_the_store_that_somebody_else_has_made_is_refused_too() {
    for name in [".windowsfilter", ".windowsfilter/incomplete", ".windowsfilter/tmp", ".windowsfilter/locks"]
    {
        let fixture = Fixture::new();
        let others = "O:S-1-5-21-1-2-3-1001D:AI(A;OICIID;FA;;;SY)".to_owned();
        fixture.host.machine().descriptors.insert(fixture.home().join(name), others);
        let error = open(&fixture).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let error = whole(&error);
        assert!(error.contains(name) && error.contains("takeown /a /f"), "{error}");
    }
}

#[test]
fn a_link_to_a_home_is_looked_at_and_what_it_leads_to_as_well() {
    let fixture = Fixture::new();
    let link = fixture.home().with_file_name("link");
    std::os::unix::fs::symlink(fixture.home(), &link).unwrap();
    let open_link = || {
        let host = fixture.host.clone();
        LayerStore::open_hcs(&link, StorageOptions::default(), host, ImportProcess::Here)
    };
    open_link().unwrap();
    for exposed in [link.clone(), fixture.home()] {
        let list = "O:BAD:(A;;FA;;;WD)".to_owned();
        fixture.host.machine().descriptors.insert(exposed.clone(), list.clone());
        assert!(matches!(open_link(), Err(Error::Exposed { .. })), "{}", exposed.display());
        fixture.host.machine().descriptors.remove(&exposed);
    }
}

#[test]
fn fsck_names_every_directory_that_others_can_write_to_and_leaves_it() {
    let fixture = Fixture::with_sandbox();
    let layer = fixture.home().join("app");
    let list = "O:BAD:(A;;FA;;;BA)(A;;DCLC;;;S-1-5-11)".to_owned();
    fixture.host.machine().descriptors.insert(layer.clone(), list);
    for repair in [false, true] {
        let found = fixture.store.fsck(repair).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].invariant, Invariant::PrivateDirectories);
        assert!(!found[0].repaired && found[0].problem.contains(&*layer.to_string_lossy()));
        assert!(found[0].problem.contains("Authenticated Users") && found[0].problem.contains("icacls"));
    }
    assert!(fixture.store.contains(&id("app")));
}

#[test]
fn a_descriptor_that_cannot_be_read_is_an_error_that_names_the_directory() {
    let fixture = Fixture::new();
    fixture.host.machine().descriptor_error = Some(Code::ACCESS_DENIED);
    let error = whole(&open(&fixture).unwrap_err());
    assert!(error.contains("GetKernelObjectSecurity") && error.contains("home"), "{error}");
    fixture.host.machine().descriptor_error = None;
    fixture.store.status().unwrap();
}
