//! A sandbox's changes become a layer, or the error lists everything that prevents it before a byte is
//! written. The layer can be imported and read.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use windowsfilter::diff::DiffOptions;
use windowsfilter::limits::DiffLimits;
use windowsfilter::metadata::StreamForm;
use windowsfilter::support::sandbox_diff::{changes, write_diff};
use windowsfilter::{Driver, Error, LayerId};
use windowsfilter_fuzz::sandbox::{Sandbox, base, shown};
use windowsfilter_fuzz::view;

fuzz_target!(|input: &[u8]| {
    let (base, sandbox) = (base(), Sandbox::read(input));
    let limits = DiffLimits { size: Some(16 << 20), ..DiffLimits::default() };
    let options = DiffOptions { limits, ..DiffOptions::default() };
    changes(&sandbox, &base.view, StreamForm::Plain, &limits).expect("any sandbox has changes");
    let mut tar = Vec::new();
    match write_diff(&sandbox, &base.view, StreamForm::Plain, &options, &mut tar) {
        Ok(_) => take(&tar, &sandbox),
        Err(Error::NotPortable { problems, .. }) => assert!(tar.is_empty() && !problems.is_empty()),
        Err(Error::Limit { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
});

fn take(tar: &[u8], sandbox: &Sandbox) {
    let base = base();
    let id = LayerId::new("top").expect("a valid ID");
    base.store.apply_diff(&id, Some(&base.id), &mut &tar[..]).expect("what was written can be read");
    let top = base.store.view(&id).expect("a layer that was taken in");
    view::read_everything(&top);
    if sandbox.is_what_it_seems() {
        let seen: BTreeSet<_> = shown(&top).into_iter().map(|(path, _)| path).collect();
        assert_eq!(seen, sandbox.expected());
    }
    // A reader of a layer keeps it in use.
    drop(top);
    base.store.remove(&id).expect("a layer that nobody uses");
}
