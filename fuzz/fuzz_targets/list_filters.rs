//! Filters of a List, one per line, after a snapshot's name and label to apply them to: they are parsed and
//! applied, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut lines = input.lines();
    let (name, value) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let filters: Vec<String> = lines.map(str::to_owned).collect();
    windowsfilter_containerd::fuzzing::filters(&filters, name, value);
});
