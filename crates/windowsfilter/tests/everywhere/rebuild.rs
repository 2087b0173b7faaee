//! Rebuilds a tar from a layer's files, as users of tar-split do (vbatts/tar-split `tar/asm`).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The tar of `case`. `get` opens the files by their names in the tar.
pub(crate) fn rebuild(case: &Path, get: impl Fn(&[u8]) -> Box<dyn Read + Send>) -> Vec<u8> {
    let packed = File::open(case.join("tar-data.json.gz")).unwrap();
    let mut lines = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut lines).unwrap();
    let mut out = Vec::new();
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        match entry["type"].as_u64().unwrap() {
            // A part of the archive itself.
            2 => out.extend(STANDARD.decode(entry["payload"].as_str().unwrap()).unwrap()),
            // A file: the archive has only its size and checksum.
            1 if entry["size"].as_u64().unwrap_or(0) > 0 => {
                let name = match entry["name_raw"].as_str() {
                    Some(raw) => STANDARD.decode(raw).unwrap(),
                    None => entry["name"].as_str().unwrap().as_bytes().to_vec(),
                };
                let start = out.len();
                get(&name).read_to_end(&mut out).unwrap();
                assert_eq!(out.len() - start, usize::try_from(entry["size"].as_u64().unwrap()).unwrap());
            }
            1 => {}
            other => panic!("entry of type {other}"),
        }
    }
    out
}
