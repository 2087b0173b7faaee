//! tar-split users rebuild a layer's tar from its description and the files that `diff_getter` opens: the
//! result must equal the imported tar, byte for byte (vbatts/tar-split `tar/asm`, as moby's layer store
//! drives it).

use std::fs;
use std::path::Path;

use crate::rebuild::rebuild;
use crate::support::{TestStore, id};
use windowsfilter::Driver;

/// Cases that the store refuses, with the expected message: a Windows layer has no devices.
const REFUSED: [(&str, &str); 1] = [("linux-ustar", "it is a character device")];

#[test]
fn tar_split_rebuilds_every_vector_from_the_files_of_the_layer() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/tar-split");
    let mut cases = 0;
    for case in fs::read_dir(&vectors).unwrap() {
        let case = case.unwrap().path();
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        cases += 1;
        let tar = fs::read(case.join("in.tar")).unwrap();
        let store = TestStore::new();
        let applied = store.apply_diff(&id("layer"), None, &mut &tar[..]);
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            let error = applied.unwrap_err();
            let cause = std::error::Error::source(&error).unwrap();
            assert!(cause.to_string().contains(reason), "{error}: {cause}");
            continue;
        }
        applied.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let getter = store.diff_getter(&id("layer")).unwrap();
        let get = |file: &[u8]| getter.get(file).unwrap();
        assert!(rebuild(&case, get) == tar, "{name}");
    }
    assert_eq!(cases, 5, "vectors are missing");
}
