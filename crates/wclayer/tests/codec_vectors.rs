//! Compares the small codecs with the reference, as recorded in `vectors/*.json`.
//!
//! Each file must exist with at least the cases it had when the codec was written, so that a lost or
//! truncated file fails the test. Where ours is stricter or more exact on purpose, the case is named here
//! with the reason; any other difference fails.
#![allow(clippy::unwrap_used)] // Helpers of tests count as code to the lint.

use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use wclayer::ea::{self, ExtendedAttribute};
use wclayer::filetime::FileTime;
use wclayer::pax_time::{self, PaxTime};
use wclayer::reparse::{self, ReparseError, ReparsePoint};
use wclayer::security::SecurityDescriptor;

fn load(file: &str) -> Value {
    let path = format!("{}/../../vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cases under `key`, at least `least`.
fn cases<'a>(vectors: &'a Value, key: &str, least: usize) -> &'a [Value] {
    let cases = vectors[key].as_array().unwrap_or_else(|| panic!("no {key}"));
    assert!(cases.len() >= least, "{key}: {} cases, there were {least}", cases.len());
    cases
}

fn text<'a>(case: &'a Value, key: &str) -> Option<&'a str> {
    case.get(key).map(|value| value.as_str().unwrap())
}

fn bytes(case: &Value, key: &str) -> Option<Vec<u8>> {
    text(case, key).map(|text| hex::decode(text).unwrap())
}

fn integer(case: &Value, key: &str) -> i64 {
    case[key].as_i64().unwrap_or_else(|| panic!("{key} of {case}"))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Checks `bytes` against `hex` or, if the vector is long, against `size` and `sha256`.
fn assert_bytes(bytes: &[u8], case: &Value) {
    match self::bytes(case, "hex") {
        Some(expected) => assert_eq!(hex::encode(bytes), hex::encode(expected), "{case}"),
        None => {
            assert_eq!(bytes.len() as i64, integer(case, "size"), "{case}");
            assert_eq!(Some(sha256(bytes).as_str()), text(case, "sha256"), "{case}");
        }
    }
}

#[test]
fn reparse_data_is_written_as_by_the_reference() {
    let vectors = load("reparse.json");
    for case in cases(&vectors, "encode", 82) {
        let target = match text(case, "target") {
            Some(target) => target.to_owned(),
            None => {
                let repeat = &case["target_repeat"];
                let count = repeat[1].as_u64().unwrap() as usize;
                text(case, "target_prefix").unwrap().to_owned() + &repeat[0].as_str().unwrap().repeat(count)
            }
        };
        let is_mount_point = case["is_mount_point"].as_bool().unwrap();
        let encoded = reparse::encode_go(&target, is_mount_point);
        let size = bytes(case, "hex").map_or_else(|| integer(case, "size") as usize, |hex| hex.len());
        // Above 64 KiB the reference's lengths wrap; that is an error here.
        let limit = 65_535;
        if size - 8 > limit {
            assert_eq!(encoded, Err(ReparseError::TooLong { length: size - 8, limit }), "{case}");
            continue;
        }
        let encoded = encoded.unwrap();
        assert_bytes(&encoded, case);
        assert!(case["decoded"].get("panics").is_none(), "{case}");
        assert_eq!(case["decoded"]["is_mount_point"], is_mount_point, "{case}");
        if let Some(digest) = text(&case["decoded"], "target_sha256") {
            assert_eq!(digest, sha256(target.as_bytes()), "{case}");
        }
        assert_eq!(reparse::decode_go(&encoded), Ok(reparse::GoTarget { target, is_mount_point }));
        assert_eq!(ReparsePoint::decode(&encoded).unwrap().encode(), Ok(encoded), "{case}");
    }
}

#[test]
fn reparse_data_is_read_as_by_the_reference() {
    // The reference adds up 16-bit numbers and reads the name from inside the header.
    const REFUSED: [&str; 1] = ["print name offset that wraps 16 bits (65532 + 12 = 8)"];
    let vectors = load("reparse.json");
    for case in cases(&vectors, "decode", 35) {
        let note = text(case, "note").unwrap();
        let decoded = reparse::decode_go(&bytes(case, "hex").unwrap());
        if case.get("error").is_some() || REFUSED.contains(&note) {
            assert!(decoded.is_err(), "{note}: {decoded:?}");
            continue;
        }
        let decoded = decoded.unwrap_or_else(|error| panic!("{note}: {error}"));
        assert_eq!(Some(decoded.target.as_str()), text(case, "target"), "{note}");
        assert_eq!(case["is_mount_point"], decoded.is_mount_point, "{note}");
    }
}

/// The attributes of a case; `*_repeat` stands for long values.
fn attributes(case: &Value) -> Vec<ExtendedAttribute> {
    let repeated = |attribute: &Value, key: &str| {
        let count = attribute[key][1].as_u64().unwrap() as usize;
        let unit = &attribute[key][0];
        let unit = unit.as_str().map_or_else(|| vec![unit.as_u64().unwrap() as u8], Into::into);
        unit.repeat(count)
    };
    let attribute = |attribute: &Value| {
        let name = match (text(attribute, "name_b64"), text(attribute, "name")) {
            (Some(name), _) => base64::engine::general_purpose::STANDARD.decode(name).unwrap(),
            (None, Some(name)) => name.as_bytes().to_vec(),
            (None, None) => repeated(attribute, "name_repeat"),
        };
        let value = bytes(attribute, "value_hex").unwrap_or_else(|| repeated(attribute, "value_repeat"));
        ExtendedAttribute { flags: integer(attribute, "flags") as u8, name, value }
    };
    case["eas"].as_array().unwrap().iter().map(attribute).collect()
}

#[test]
fn extended_attributes_are_written_as_by_the_reference() {
    let vectors = load("ea.json");
    for case in cases(&vectors, "encode", 27) {
        let attributes = attributes(case);
        let encoded = ea::encode(&attributes);
        if case.get("error").is_some() {
            assert!(encoded.is_err(), "{case}");
            continue;
        }
        let encoded = encoded.unwrap();
        assert_bytes(&encoded, case);
        assert_eq!(ea::decode(&encoded), Ok(attributes), "{case}");
    }
}

#[test]
fn extended_attributes_are_read_as_by_the_reference() {
    let vectors = load("ea.json");
    for case in cases(&vectors, "decode", 19) {
        let decoded = ea::decode(&bytes(case, "hex").unwrap());
        match case.get("error") {
            Some(_) => assert!(decoded.is_err(), "{case}"),
            None => assert_eq!(decoded, Ok(attributes(case)), "{case}"),
        }
    }
}

fn pax_time(case: &Value) -> PaxTime {
    PaxTime { secs: integer(case, "unix_secs"), nanos: integer(case, "nanos") as u32 }
}

/// The time that the importer stores. The reference counts nanoseconds in 64 bits, which wraps outside
/// 1677-2262; there the exact value is expected instead, as far as a FILETIME can hold it.
fn assert_filetime(time: PaxTime, case: &Value) {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let exact = nanos / 100 + 116_444_736_000_000_000;
    let exact = u64::try_from(exact.max(0)).unwrap_or(u64::MAX);
    if i64::try_from(nanos).is_ok() {
        assert_eq!(case["filetime"].as_u64(), Some(exact), "{case}");
    }
    assert_eq!(FileTime::from_pax(&time), FileTime(exact), "{case}");
}

#[test]
fn pax_times_are_read_and_stored_as_by_the_reference() {
    let vectors = load("paxtime.json");
    for case in cases(&vectors, "parse", 59) {
        let parsed = pax_time::parse(text(case, "text").unwrap().as_bytes());
        if case.get("error").is_some() {
            assert!(parsed.is_err(), "{case}");
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(parsed, pax_time(case), "{case}");
        assert_eq!(Some(pax_time::format(parsed).as_str()), text(case, "formatted"), "{case}");
        assert_filetime(parsed, case);
    }
}

#[test]
fn pax_times_are_written_as_by_the_reference() {
    let vectors = load("paxtime.json");
    for case in cases(&vectors, "format", 18) {
        let time = pax_time(case);
        assert_eq!(Some(pax_time::format(time).as_str()), text(case, "text"), "{case}");
        assert_filetime(time, case);
    }
}

#[test]
fn filetimes_are_exported_as_by_the_reference_and_exactly_where_that_wraps() {
    let vectors = load("paxtime.json");
    for case in cases(&vectors, "filetime", 26) {
        let time = FileTime(case["filetime"].as_u64().unwrap());
        let exported = pax_time::format(time.to_pax());
        let (secs, nanos) = time.to_unix();
        let fits = i64::try_from(i128::from(secs) * 1_000_000_000 + i128::from(nanos)).is_ok();
        assert_eq!(fits, text(case, "text") == Some(exported.as_str()), "{case}: {exported}");
        let imported = FileTime::from_pax(&pax_time::parse(exported.as_bytes()).unwrap());
        assert_eq!(imported, time, "{case}");
    }
    assert_eq!(vectors["absent"]["filetime"].as_u64(), Some(FileTime::ABSENT.0));
}

/// Cases where Wine, which made `sddl.json`, and Windows disagree: the case, our result, and the reason.
const NOT_AS_WINE: [(&str, &str, &str); 12] = [
    ("D:(XA;;FX;;;WD;(@User.x==1))", "D:(XA;;FX;;;WD;(@USER.x == 1))", "Wine knows no conditions"),
    (
        "S:(RA;;;;;WD;(\"Project\",TS,0,\"x\"))",
        "S:(RA;;;;;WD;(\"Project\",TS,0x0,\"x\"))",
        "Wine knows no claims",
    ),
    (
        "O:BAG:DUD:PAI(A;OICI;FA;;;SY)",
        "error: at position 6: DU depends on the domain; write the SID instead",
        "Wine makes a domain up",
    ),
    ("D:NO_ACCESS_CONTROL", "D:NO_ACCESS_CONTROL", "Wine makes a NULL DACL an empty one"),
    ("O:SYG:SYD:NO_ACCESS_CONTROL", "O:SYG:SYD:NO_ACCESS_CONTROL", "Wine makes a NULL DACL an empty one"),
    ("S:(ML;;NW;;;HI)", "S:(ML;;NW;;;HI)", "Wine reads labels but does not write them"),
    (
        "D:(OA;;CR;00299570-246d-11d0-a768-00aa006e0529;;WD)",
        "D:(OA;;CR;00299570-246d-11d0-a768-00aa006e0529;;WD)",
        "Wine knows no object ACEs",
    ),
    (
        "O:S-1-5-32-544-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
        "error: at position 2: \"S-1-5-32-544-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16\" is neither a SID nor a known \
         alias",
        "Wine does not limit sub-authorities to 15",
    ),
    ("owner only", "O:BU", "go-winio refuses descriptors under 40 bytes"),
    ("NULL DACL present", "O:SYG:SYD:NO_ACCESS_CONTROL", "Wine shows a NULL DACL as an empty one"),
    ("label", "O:SYG:SYD:(A;;FA;;;SY)S:(ML;;NW;;;HI)", "Wine reads labels but does not write them"),
    ("garbage", "error: security descriptor at offset 0x0 has revision 38", "Wine gives empty text"),
];

/// Checks that our result is that of Wine, or that of the table.
fn assert_as_wine(name: &str, ours: Result<String, String>, as_wine: bool) {
    let ours = ours.unwrap_or_else(|error| format!("error: {error}"));
    match NOT_AS_WINE.iter().find(|(case, ..)| *case == name) {
        Some((_, expected, why)) => {
            assert_eq!(ours, *expected, "{name}: {why}");
            assert!(!as_wine, "{name} is now as in Wine; take it out of the table");
        }
        None => assert!(as_wine, "{name:?} gives {ours:?}, not what Wine gives"),
    }
}

#[test]
fn sddl_is_read_and_written_as_by_windows() {
    let vectors = load("sddl.json");
    for case in cases(&vectors, "from_sddl", 47) {
        let sddl = text(case, "sddl").unwrap();
        let ours = SecurityDescriptor::from_sddl(sddl);
        let printed = ours.as_ref().map_err(ToString::to_string).map(|ours| ours.to_sddl().unwrap());
        let as_wine = match (&ours, bytes(case, "hex")) {
            (Err(_), None) => true,
            (Ok(ours), Some(hex)) => {
                let same_text = text(case, "back").is_none_or(|back| printed.as_deref() == Ok(back));
                // Wine puts the DACL before the SACL, so bytes are only compared if there is only one of
                // them.
                let one_list = ours.dacl.list().is_none() || ours.sacl.list().is_none();
                let same_bytes = !one_list || ours.to_bytes().unwrap() == hex;
                same_text && same_bytes && SecurityDescriptor::parse(&hex).as_ref() == Ok(ours)
            }
            _ => false,
        };
        assert_as_wine(sddl, printed, as_wine);
    }
}

#[test]
fn security_descriptors_are_read_and_printed_as_by_windows() {
    let vectors = load("sddl.json");
    for case in cases(&vectors, "from_binary", 12) {
        let bytes = bytes(case, "hex").unwrap();
        let ours = SecurityDescriptor::parse(&bytes);
        if let Ok(ours) = &ours {
            assert_eq!(hex::encode(ours.to_bytes().unwrap()), hex::encode(&bytes), "{case}");
        }
        let printed = ours.map_err(|error| error.to_string()).map(|ours| ours.to_sddl().unwrap());
        let as_wine = printed.as_deref().ok() == text(case, "sddl");
        assert_as_wine(text(case, "note").unwrap(), printed, as_wine);
    }
}

#[test]
fn every_difference_from_wine_is_still_a_case() {
    let vectors = load("sddl.json");
    let names = |key, name| cases(&vectors, key, 1).iter().map(move |case| text(case, name).unwrap());
    let all: Vec<&str> = names("from_sddl", "sddl").chain(names("from_binary", "note")).collect();
    assert!(NOT_AS_WINE.iter().all(|(case, ..)| all.contains(case)));
}
