//! Labels of a snapshot, and an Update of them. Each line is `=name value` for a present label, `+name
//! value` for a given one, or a path of the update: named labels are set as given, and nothing else
//! changes.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let label = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), value.to_owned())
    };
    let (mut current, mut given, mut paths) = (HashMap::new(), HashMap::new(), Vec::new());
    for line in input.lines() {
        match line.split_at_checked(1) {
            Some(("=", rest)) => current.extend([label(rest)]),
            Some(("+", rest)) => given.extend([label(rest)]),
            _ => paths.push(line.to_owned()),
        }
    }
    windowsfilter_containerd::fuzzing::labels(current, given, &paths);
});
