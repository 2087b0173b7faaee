//! tar-split users rebuild a layer's tar from its description and the files that `diff_getter` opens: the
//! result must be the tar that came in, byte for byte (vbatts/tar-split `tar/asm`, as moby's layer store
//! drives it).

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::support::{TestStore, id};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use windowsfilter::Driver;

/// Cases that the store refuses, with what it must say: a Windows layer holds no devices.
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
        assert!(rebuild(&store, &case) == tar, "{name}");
    }
    assert_eq!(cases, 5, "vectors are missing");
}

fn rebuild(store: &TestStore, case: &Path) -> Vec<u8> {
    let packed = fs::File::open(case.join("tar-data.json.gz")).unwrap();
    let mut lines = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut lines).unwrap();
    let getter = store.diff_getter(&id("layer")).unwrap();
    let mut out = Vec::new();
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        match entry["type"].as_u64().unwrap() {
            // A stretch of the archive itself.
            2 => out.extend(STANDARD.decode(entry["payload"].as_str().unwrap()).unwrap()),
            // A file: present in the archive only by its size and checksum.
            1 if entry["size"].as_u64().unwrap_or(0) > 0 => {
                let name = match entry["name_raw"].as_str() {
                    Some(raw) => STANDARD.decode(raw).unwrap(),
                    None => entry["name"].as_str().unwrap().as_bytes().to_vec(),
                };
                let start = out.len();
                getter.get(&name).unwrap().read_to_end(&mut out).unwrap();
                assert_eq!(out.len() - start, usize::try_from(entry["size"].as_u64().unwrap()).unwrap());
            }
            1 => {}
            other => panic!("entry of type {other}"),
        }
    }
    out
}
