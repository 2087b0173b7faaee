//! What the command says of images that come in under several names, from wrong places, and that go out.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;
use std::path::Path;

use common::{Store, layer, write_image};
use serde_json::{Value, json};
use windowsfilter::Digest;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Changes the JSON document at `path`.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut document: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut document);
    fs::write(path, document.to_string()).unwrap();
}

/// Puts the entries of another layout's index into that of `dir`, each under a name.
fn call(dir: &Path, others: &[&Path], names: &[&str]) {
    let index =
        |dir: &Path| -> Value { serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap() };
    for other in others {
        for blob in fs::read_dir(other.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            fs::copy(blob.path(), dir.join("blobs/sha256").join(blob.file_name())).unwrap();
        }
    }
    let all = [dir].iter().chain(others).map(|dir| index(dir)["manifests"][0].clone()).collect::<Vec<_>>();
    let entry = |(i, name): (usize, &&str)| {
        let mut entry = all[i.min(all.len() - 1)].clone();
        entry["annotations"] = json!({ REF_NAME: name });
        entry
    };
    let manifests: Vec<Value> = names.iter().enumerate().map(entry).collect();
    edit(&dir.join("index.json"), |index| index["manifests"] = json!(manifests));
}

#[test]
fn an_image_is_told_under_all_its_names() {
    let store = Store::new();
    let dir = store.path("oci");
    write_image(&dir, &[layer(&["a"], b"a")]);
    call(&dir, &[], &["app:1", "app:latest"]);
    let imported = store.json(&["image", "import", "oci"]);
    assert_eq!((&imported["ref"], &imported["refs"]), (&json!("app:1"), &json!(["app:1", "app:latest"])));
    assert_eq!(store.images(), ["app:1", "app:latest"]);
    let said = store.text(&["image", "import", "oci"]);
    assert!(said.starts_with("ref:       app:1\n           app:latest\nimage id:"), "{said}");
    assert_eq!(store.json(&["image", "import", "oci", "--ref", "other:1"])["refs"], json!(["other:1"]));
}

#[test]
fn which_of_several_images_is_said_with_select() {
    let store = Store::new();
    let (dir, other) = (store.path("bl"), store.path("other"));
    write_image(&dir, &[layer(&["a"], b"a")]);
    write_image(&other, &[layer(&["b"], b"b")]);
    call(&dir, &[&other], &["built:1", "v1"]);
    let (code, said) = store.failure(&["image", "import", "bl", "--ref", "built:cfg"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("bl has several images: built:1, v1; none of them is called built:cfg"), "{said}");
    assert!(said.contains("hint: choose with --select built:1 --ref built:cfg"), "{said}");
    let image = store.json(&["image", "import", "bl", "--select", "v1", "--ref", "built:cfg"]);
    assert_eq!(image["layers"][0], json!(Digest::of(&layer(&["b"], b"b")).hex()));
    let (code, said) = store.failure(&["image", "import", "bl", "--select", "v2", "--ref", "a:1"]);
    assert!(code == 2 && said.contains("no image in bl is called \"v2\": it has built:1, v1"), "{said}");
}

#[test]
fn what_is_no_image_is_named_with_what_to_do() {
    let store = Store::new();
    fs::write(store.path("base.tar"), layer(&["a"], b"a")).unwrap();
    fs::write(store.path("passwd"), "root:x:0:0:root:/root:/bin/bash\n".repeat(20)).unwrap();
    write_image(&store.path("bl"), &[layer(&["a"], b"a")]);
    for (path, expected, code) in [
        ("base.tar", "hint: this looks like one layer: windowsfilter layer apply ID base.tar", 1),
        ("passwd", "passwd is not a tar, plain or compressed with gzip or zstd", 1),
        ("docker://h/n:t", "skopeo copy --override-os windows docker://h/n:t oci-archive:image.tar", 2),
        ("oci:bl", "give the path alone, as in \"bl\"", 2),
        ("bl:v1", "bl is there: give it alone, and --select v1", 2),
        ("nowhere", "cannot open nowhere", 3),
    ] {
        let (actual, said) = store.failure(&["image", "import", path, "--ref", "a:1"]);
        assert!(said.contains(expected), "{path}: {said}");
        assert_eq!(actual, code, "{path}: {said}");
    }
}

#[test]
fn a_damaged_blob_is_called_so() {
    let store = Store::new();
    let tar = layer(&["a"], b"a");
    write_image(&store.path("oci"), std::slice::from_ref(&tar));
    let blob = store.path("oci/blobs/sha256").join(Digest::of(&tar).hex());
    let mut bytes = tar.clone();
    bytes[700] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let (code, said) = store.failure(&["image", "import", "oci", "--ref", "a:1"]);
    let (good, bad) = (Digest::of(&tar), Digest::of(&bytes));
    assert!(
        code == 5 && said.contains(&format!("blob {good} of oci is damaged: its bytes are {bad}")),
        "{said}"
    );
}

/// Makes the layer of a layout one that gzip has compressed, as nothing here does.
fn compress(dir: &Path, tar: &[u8]) {
    let mut gzip = flate2::GzBuilder::new().filename("layer").write(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, tar).unwrap();
    let blob = gzip.finish().unwrap();
    let name = |digest: &Digest| dir.join("blobs/sha256").join(digest.hex());
    fs::write(name(&Digest::of(&blob)), &blob).unwrap();
    let mut index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let manifest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
    let mut manifest: Value = serde_json::from_slice(&fs::read(name(&manifest)).unwrap()).unwrap();
    manifest["layers"] = json!([{
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest::of(&blob), "size": blob.len()
    }]);
    let manifest = manifest.to_string();
    fs::write(name(&Digest::of(manifest.as_bytes())), &manifest).unwrap();
    index["manifests"][0]["digest"] = json!(Digest::of(manifest.as_bytes()));
    index["manifests"][0]["size"] = json!(manifest.len());
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn what_was_compressed_anew_is_said_and_what_is_kept_is_not() {
    let store = Store::new();
    let (dir, tar) = (store.path("oci"), layer(&["a"], &[7; 10_000]));
    write_image(&dir, std::slice::from_ref(&tar));
    compress(&dir, &tar);
    let top = store.json(&["image", "import", "oci", "--ref", "a:1"])["top"].clone();
    let exported = store.json(&["image", "export", "a:1", "anew"]);
    assert_eq!((&exported["recompressed"], &exported["left_out"]), (&json!([top]), &json!([])));
    let output = store.run(&["image", "export", "a:1", "again"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("compressed again") && said.contains(&top.as_str().unwrap()[..12]), "{said}");
    store.text(&["image", "import", "oci", "--ref", "a:1", "--keep-blobs"]);
    let output = store.run(&["image", "export", "a:1", "same"]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.trim_end(), index["manifests"][0]["digest"].as_str().unwrap());
    for blob in fs::read_dir(store.path("same/blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        assert_eq!(
            fs::read(blob.path()).unwrap(),
            fs::read(dir.join("blobs/sha256").join(blob.file_name())).unwrap()
        );
    }
    assert_eq!(fs::read_dir(store.path("store/images/layer-blobs")).unwrap().count(), 1);
    store.text(&["layer", "verify", "--all"]);
    store.text(&["image", "rm", "a:1"]);
    assert_eq!(fs::read_dir(store.path("store/images/layer-blobs")).unwrap().count(), 0);
}
