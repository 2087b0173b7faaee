//! The rules come from Go's documentation and tests; the expected results were derived from `decode.go`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Small {
    name: String,
    size: u64,
    flag: bool,
    list: Vec<String>,
    map: BTreeMap<String, String>,
    inner: Inner,
    maybe: Option<String>,
    mask: Option<Inner>,
    #[serde(rename = "os.version")]
    os_version: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Inner {
    kind: String,
    #[serde(rename = "Kind")]
    other: String,
    ids: Vec<String>,
}

fn small(text: &str) -> Small {
    read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(bytes: &[u8]) -> String {
    read::<Small>(bytes).unwrap_err().to_string()
}

#[test]
fn a_key_may_be_in_any_case_and_the_exact_field_comes_first() {
    let read = small(
        r#"{"NAME":"a","liſt":["b"],"MasK":{"\u006bind":"c","KIND":"d","Kind":"e"},"OS.VERSION":"10"}"#,
    );
    assert_eq!((&read.name[..], &read.list[..], &read.os_version[..]), ("a", &["b".to_owned()][..], "10"));
    // `KIND` matches neither name exactly; Go takes the first field that it folds to.
    assert_eq!(read.mask, Some(Inner { kind: "d".into(), other: "e".into(), ids: Vec::new() }));
    assert_eq!(small(r#"{"nam\u00e9":"x","names":"y","na":"z"}"#), Small::default());
    // Keys of maps are taken literally.
    let read = small(r#"{"map":{"a":"1","A":"2"}}"#);
    assert_eq!((&read.map["a"][..], &read.map["A"][..]), ("1", "2"));
}

#[test]
fn of_two_spellings_the_later_one_counts_and_objects_are_filled_further() {
    assert_eq!(small(r#"{"name":"exact","NAME":"later"}"#).name, "later");
    assert_eq!(small(r#"{"NAME":"other","name":"exact"}"#).name, "exact");
    assert_eq!(small(r#"{"name":"a","NAME":"b","name":"c"}"#).name, "c");
    let read = small(r#"{"inner":{"kind":"layers","ids":["a"]},"INNER":{"IDS":["b","c"]}}"#);
    assert_eq!(
        (&read.inner.kind[..], &read.inner.ids[..]),
        ("layers", &["b".to_owned(), "c".to_owned()][..])
    );
    let read = small(r#"{"map":{"a":"1","b":"2"},"Map":{"b":"3"}}"#);
    assert_eq!((&read.map["a"][..], &read.map["b"][..]), ("1", "3"));
}

#[test]
fn null_is_absent_everywhere() {
    let nulls = r#"{"name":null,"size":null,"flag":null,"list":null,"map":null,"inner":null,"maybe":null,"os.version":null}"#;
    assert_eq!(small(nulls), Small::default());
    assert_eq!(small("null"), Small::default());
    let read = small(r#"{"list":["a",null],"map":{"k":null},"inner":{"ids":null,"kind":null}}"#);
    assert_eq!((&read.list[..], &read.map["k"][..]), (&["a".to_owned(), String::new()][..], ""));
    // It leaves texts and objects unchanged, and empties lists and maps.
    let read = small(
        r#"{"name":"a","Name":null,"list":["a"],"List":null,"map":{"a":"b"},"Map":null,"inner":{"kind":"k"},"Inner":null}"#,
    );
    assert_eq!((&read.name[..], read.list.len(), read.map.len(), &read.inner.kind[..]), ("a", 0, 0, "k"));
}

#[test]
fn what_no_field_means_only_has_to_be_json() {
    let deep = format!("{}{}", "[".repeat(9_000), "]".repeat(9_000));
    for odd in ["1e999", r#""\ud800""#, "[{\"a\":[1,{}]}]", r#"{"list":"no list","}":"]"}"#, &deep] {
        let read = small(&format!("{{\"x\":{odd}, \"name\" : \"a\" ,\"\\ud800\":1}}"));
        assert_eq!(read.name, "a", "{odd:.40}");
    }
    for bad in ["{\"x\":01}", "{\"x\":tru}", "{\"x\":\"\\q\"}", "{\"x\":1,}", "{\"x\":\"\n\"}", "{} {}", ""] {
        assert!(refused(bad.as_bytes()).contains("line"), "{bad}");
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(refused(deep.as_bytes()), "it is nested deeper than 10000 levels");
    let deep = "[".repeat(8 << 20);
    assert!(refused(deep.as_bytes()).contains("EOF"));
}

#[test]
fn bytes_that_are_no_text_are_replaced_one_by_one_and_a_byte_order_mark_is_refused() {
    let read: Small =
        read(b"{\"name\":\"a\xff\xe2\x82b\",\"list\":[\"\\ud800\",\"\\ud83d\\ude00\",\"x\\udc00\\n\"]}")
            .unwrap();
    assert_eq!(read.name, "a\u{fffd}\u{fffd}\u{fffd}b");
    assert_eq!(read.list, ["\u{fffd}", "\u{1f600}", "x\u{fffd}\n"]);
    assert!(refused("\u{feff}{}".as_bytes()).starts_with("expected value"));
    assert!(refused(b"\xff\xfe{\0}\0").starts_with("expected value"));
}

#[test]
fn an_error_says_where_it_is() {
    for (bad, expected) in [
        (r#"{"list":["a",5]}"#, "list[1]: invalid type: a number, expected a string"),
        (r#"{"SIZE":"5"}"#, "size: invalid type: a string, expected u64"),
        (r#"{"size":5.0}"#, "size: invalid type: a number, expected u64"),
        (r#"{"inner":{"ids":{}}}"#, "inner.ids: invalid type: map, expected a sequence"),
        (r#"{"map":{"a b":[]}}"#, "map[\"a b\"]: invalid type: sequence, expected a string"),
        (r#"{"flag":0}"#, "flag: invalid type: a number, expected a boolean"),
        ("[]", "invalid type: sequence, expected struct Small"),
    ] {
        assert_eq!(refused(bad.as_bytes()), expected);
    }
    assert!(refused(br#"{"size":-1}"#).starts_with("size: invalid value: integer `-1`"));
}

#[test]
fn what_is_looked_at_leniently_is_absent_if_it_is_wrong() {
    let list: Vec<Lenient<Small>> = read(br#"[{"name":"a"},5,{"name":5},null]"#).unwrap();
    let names: Vec<Option<String>> = list.into_iter().map(|small| small.0.map(|small| small.name)).collect();
    assert_eq!(names, [Some("a".into()), None, None, Some(String::new())]);
    let raw: Vec<Raw> = read(b"[ 1.50 , {\"a\" : [ ]}]").unwrap();
    assert_eq!((raw[0].as_str(), raw[1].as_str()), ("1.50", "{\"a\" : [ ]}"));
    assert!(raw[1].read::<Small>().is_ok());
}

#[test]
fn an_edit_keeps_spelling_order_and_text() {
    let text = "{ \"x\" : 1.50, \"Names\": [ {\"v\":1e999} ],\"rootfS\":{\"type\":\"layers\",\"DIFF_IDS\":[\"a\"]},\"z\":\"\\ud800\"}";
    let mut object = Object::parse("it", text.as_bytes()).unwrap();
    let mut rootfs = object.object("rootfs").unwrap();
    let mut ids = rootfs.list("diff_ids").unwrap();
    ids.push(Raw::of(&"b"));
    rootfs.set_list("diff_ids", &ids);
    object.set_object("rootfs", &rootfs);
    let mut names = object.list("names").unwrap();
    names.push(Raw::of(&5));
    object.set_list("names", &names);
    object.set("created", &"now");
    let expected = "{\"x\":1.50,\"Names\":[{\"v\":1e999},5],\"rootfS\":{\"type\":\"layers\",\"DIFF_IDS\":[\"a\",\"b\"]},\
                    \"z\":\"\\ud800\",\"created\":\"now\"}";
    assert_eq!(object.text(), expected);
}

#[test]
fn an_edit_of_a_field_with_two_spellings_leaves_one_that_says_what_both_said() {
    let text = r#"{"rootfs":{"type":"layers","diff_ids":["a"]},"between":1,"rootFS":{"diff_ids":["b"]},"list":["x"],"LIST":null}"#;
    let mut object = Object::parse("it", text.as_bytes()).unwrap();
    let mut rootfs = object.object("rootfs").unwrap();
    let mut ids = rootfs.list("diff_ids").unwrap();
    assert_eq!(ids, [Raw::of(&"b")]);
    ids.push(Raw::of(&"c"));
    rootfs.set_list("diff_ids", &ids);
    object.set_object("rootfs", &rootfs);
    assert_eq!(
        object.text(),
        r#"{"between":1,"rootFS":{"type":"layers","diff_ids":["b","c"]},"list":["x"],"LIST":null}"#
    );
    object.set("list", &["y"]);
    assert!(object.text().ends_with(r#""LIST":["y"]}"#), "{}", object.text());
    assert!(Object::parse("it", b"[]").is_err());
    assert!(object.list("between").is_err() && object.object("between").is_err());
}
