//! Reads the cases of `vectors/`, see its README.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries, each of which uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::FileInfo;

pub mod export;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}

/// A case directory.
pub struct Case {
    pub name: String,
    pub dir: PathBuf,
    pub json: Value,
}

/// All cases of `vectors/<kind>/`, sorted by name.
pub fn cases(kind: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = fs::read_dir(root().join(kind))
        .unwrap()
        .map(|dir| {
            let dir = dir.unwrap().path();
            let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
            let json: Value = serde_json::from_slice(&fs::read(dir.join("entries.json")).unwrap()).unwrap();
            assert_eq!(json["schema"], 1, "{name}: a schema these tests do not know");
            assert_eq!(json["case"], *name);
            Case { name, dir, json }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    pub fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.dir.join(file)).unwrap_or_else(|error| panic!("{}/{file}: {error}", self.name))
    }

    pub fn flag(&self, flag: &str) -> bool {
        !self.json["flags"][flag].is_null()
    }

    pub fn entries(&self) -> &[Value] {
        self.json["entries"].as_array().unwrap()
    }

    pub fn exports(&self) -> &[Value] {
        self.json["exports"].as_array().unwrap()
    }

    /// The backup stream of an entry; `None` for whiteouts and links.
    pub fn stream(&self, entry: &Value) -> Option<Vec<u8>> {
        entry["stream"]["file"].as_str().map(|file| self.read(file))
    }
}

/// A text field, or its true bytes if they are not UTF-8.
pub fn bytes(value: &Value, field: &str) -> Vec<u8> {
    match value[format!("{field}_b64")].as_str() {
        Some(text) => STANDARD.decode(text).unwrap(),
        None => value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).as_bytes().to_vec(),
    }
}

/// Attributes and times of an entry.
pub fn info(entry: &Value) -> FileInfo {
    let number = |field: &str| entry[field].as_u64().unwrap_or_else(|| panic!("no {field} in {entry}"));
    FileInfo {
        attributes: number("attributes").try_into().unwrap(),
        creation_time: FileTime(number("creation_time")),
        last_access_time: FileTime(number("last_access_time")),
        last_write_time: FileTime(number("last_write_time")),
        change_time: FileTime(number("change_time")),
    }
}

/// The reference's result of importing a time: nanoseconds since 1970 wrap at 64 bits.
pub fn imported_with_wrap(secs: i64, nanos: u32) -> FileTime {
    let nanos = secs.wrapping_mul(1_000_000_000).wrapping_add(nanos.into());
    FileTime((nanos / 100).wrapping_add(FileTime::UNIX_EPOCH.0 as i64) as u64)
}

/// The reference's result of exporting a time: nanoseconds since 1970, wrapped at 64 bits.
pub fn exported_with_wrap(time: FileTime) -> i64 {
    (time.0 as i64).wrapping_sub(FileTime::UNIX_EPOCH.0 as i64).wrapping_mul(100)
}
