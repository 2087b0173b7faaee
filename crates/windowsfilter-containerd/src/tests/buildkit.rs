//! A client that unpacks layers by itself, like BuildKit, gets the layers of the store or of containerd's
//! content store.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tonic::Code;
use windowsfilter::Digest;

use super::fake_containerd::Blob;
use super::layers::{Item, gzip, layer, layer_of};
use super::support::{Fixture, options, refused, shown};
use crate::snapshotter::SnapshotterOptions;

fn fixture() -> Fixture {
    Fixture::with(SnapshotterOptions { buildkit: Some("buildkit".into()), ..options() })
}

fn base() -> Vec<u8> {
    layer(&[("a.txt", b"base")])
}

fn top() -> Vec<u8> {
    layer(&[("top.txt", b"top")])
}

/// The chain IDs of both layers.
fn chain() -> [Digest; 2] {
    let base = Digest::of(&base());
    [base, Digest::of(format!("{base} {}", Digest::of(&top())).as_bytes())]
}

fn key(number: u64, chain_id: Digest) -> String {
    format!("buildkit/{number}/extract-q1w2 {chain_id}")
}

fn name(chain_id: Digest) -> String {
    format!("buildkit/9/{chain_id}")
}

/// Prepares a snapshot and unpacks `tar` into it as BuildKit does: without Windows' own metadata.
async fn unpack(fixture: &mut Fixture, key: &str, parent: &str, tar: &[u8]) -> PathBuf {
    let prepared = fixture.prepare(key, parent).await.unwrap();
    assert_eq!(prepared[0].options, ["rbind", "rw"]);
    let mounts = fixture.mounts(key).await.unwrap();
    assert_eq!(mounts, prepared);
    let dir = fs::canonicalize(shown(&mounts)).unwrap();
    unpack_files(tar, &dir);
    fs::write(dir.join("junk.txt"), "junk").unwrap();
    // Asking again returns the same.
    assert_eq!(fixture.mounts(key).await.unwrap(), mounts);
    assert!(dir.join("junk.txt").exists());
    dir
}

/// Does the same as `winApplier` of BuildKit's `util/winlayers` and containerd's `archive.Apply`: unpacks
/// only `Files`, each entry replacing an earlier one of its name, links created at once.
fn unpack_files(tar: &[u8], dir: &Path) {
    let below = |path: &Path| Some(dir.join(path.strip_prefix("Files").ok()?));
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let Some(path) = below(&entry.path().unwrap()) else { continue };
        if entry.header().entry_type().is_dir() {
            fs::create_dir_all(&path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        if let Some(link) = entry.link_name().unwrap() {
            let target = below(&link).unwrap();
            fs::hard_link(&target, &path)
                .unwrap_or_else(|e| panic!("{} -> {}: {e}", path.display(), target.display()));
        } else {
            std::io::copy(&mut entry, &mut fs::File::create(&path).unwrap()).unwrap();
        }
    }
}

/// Commits both layers, one on top of the other, and checks their content.
async fn assert_complete(fixture: &mut Fixture) {
    let ([base, top], tars) = (chain(), [self::base(), self::top()]);
    for (number, chain_id, parent, tar) in
        [(1, base, String::new(), &tars[0]), (2, top, name(base), &tars[1])]
    {
        let dir = unpack(fixture, &key(number, chain_id), &parent, tar).await;
        fixture.restart().await;
        assert!(dir.join("junk.txt").exists());
        // containerd's database is locked during its Commit, so the server must not call it then.
        let content = std::mem::take(&mut *fixture.fake.state());
        fixture.commit(&name(chain_id), &key(number, chain_id)).await.unwrap();
        *fixture.fake.state() = content;
        assert!(!dir.exists());
    }
    let view = shown(&fixture.view("buildkit/10/v", &name(top)).await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"base");
    assert_eq!(fs::read(view.join("top.txt")).unwrap(), b"top");
    assert!(!view.join("junk.txt").exists());
    fixture.remove("buildkit/10/v").await.unwrap();
    for chain_id in [top, base] {
        fixture.remove(&name(chain_id)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_the_store_take_the_place_of_what_was_unpacked() {
    let mut fixture = fixture();
    fixture.unpack("default/1/base", "", &base()).await;
    fixture.unpack("default/2/top", "default/1/base", &top()).await;
    fixture.fake.state().blobs.clear();
    assert_complete(&mut fixture).await;
    for name in ["default/2/top", "default/1/base"] {
        fixture.remove(name).await.unwrap();
    }
    fixture.assert_layers(&[]);
}

/// Puts a layer's blob with its diffID label into the content store; returns its digest.
fn label(fixture: &Fixture, name: &str, tar: &[u8]) -> Digest {
    let digest = fixture.fake.add(&gzip(tar));
    let labels = [(name.to_owned(), Digest::of(tar).to_string())].into();
    fixture.fake.state().labels.insert(digest.to_string(), labels);
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_found_by_the_label_that_says_what_they_are() {
    let mut fixture = fixture();
    label(&fixture, "containerd.io/uncompressed", &base());
    label(&fixture, "buildkit.io/blob/annotation.containerd.io/uncompressed", &top());
    assert_complete(&mut fixture).await;
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_found_by_the_manifest_and_config_of_their_image() {
    let mut fixture = fixture();
    fixture.fake.add(b"{\"no\": \"manifest\"}");
    fixture.fake.add(b"no document");
    let layers = [base(), top()].map(|tar| json!({"digest": fixture.fake.add(&gzip(&tar)).to_string()}));
    // The spelling of Microsoft's images.
    let diff_ids = [base(), top()].map(|tar| Digest::of(&tar).to_string());
    let config = fixture.fake.add(json!({"rootfS": {"diff_ids": diff_ids}}).to_string().as_bytes());
    let manifest = json!({"config": {"digest": config.to_string()}, "layers": layers});
    fixture.fake.add(manifest.to_string().as_bytes());
    assert_complete(&mut fixture).await;
    fixture.assert_layers(&[]);
}

/// A layer with links to a lower layer, to later entries, and to names in another case.
fn links() -> Vec<u8> {
    layer_of(&[
        Item::Link("to-below.txt", "Files/a.txt"),
        Item::Link("dir/to-later.txt", "Files/other/later.txt"),
        Item::File("other/later.txt", b"later"),
        Item::Link("to-case.txt", "Files/Other/LATER.txt"),
        Item::Link("to-case-below.txt", "Files/A.TXT"),
        Item::Link("to-link.txt", "Files/dir/to-later.txt"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_what_is_not_there_yet_can_be_unpacked() {
    let mut fixture = fixture();
    let (base, top) = (base(), links());
    let base_id = Digest::of(&base);
    let top_id = Digest::of(format!("{base_id} {}", Digest::of(&top)).as_bytes());
    for tar in [&base, &top] {
        label(&fixture, "containerd.io/uncompressed", tar);
    }
    for (number, chain_id, parent, tar) in
        [(1, base_id, String::new(), &base), (2, top_id, name(base_id), &top)]
    {
        unpack(&mut fixture, &key(number, chain_id), &parent, tar).await;
        fixture.commit(&name(chain_id), &key(number, chain_id)).await.unwrap();
    }
    // The same for a layer that is in the store.
    unpack(&mut fixture, &key(3, top_id), &name(base_id), &top).await;
    fixture.remove(&key(3, top_id)).await.unwrap();

    let view = shown(&fixture.view("buildkit/10/v", &name(top_id)).await.unwrap());
    for (path, content) in [
        ("to-below.txt", "base"),
        ("dir/to-later.txt", "later"),
        ("to-case.txt", "later"),
        ("to-case-below.txt", "base"),
        ("to-link.txt", "later"),
    ] {
        assert_eq!(fs::read_to_string(view.join(path)).unwrap(), content, "{path}");
    }
    let mut names: Vec<_> = fs::read_dir(&view).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let expected =
        ["a.txt", "dir", "other", "to-below.txt", "to-case-below.txt", "to-case.txt", "to-link.txt"];
    assert_eq!(names, expected);
    fixture.remove("buildkit/10/v").await.unwrap();
    for chain_id in [top_id, base_id] {
        fixture.remove(&name(chain_id)).await.unwrap();
    }
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_the_store_stays_from_the_mounts_to_the_commit() {
    let mut fixture = fixture();
    let [base_id, _] = chain();
    fixture.unpack("default/1/base", "", &base()).await;
    fixture.fake.state().blobs.clear();
    let dir = unpack(&mut fixture, &key(1, base_id), "", &base()).await;
    fixture.remove("default/1/base").await.unwrap();
    fixture.commit(&name(base_id), &key(1, base_id)).await.unwrap();
    assert!(!dir.exists());
    fixture.remove(&name(base_id)).await.unwrap();
    fixture.assert_layers(&[]);
    // An abandoned one is removed with it.
    fixture.unpack("default/1/base", "", &base()).await;
    unpack(&mut fixture, &key(2, base_id), "", &base()).await;
    fixture.remove("default/1/base").await.unwrap();
    fixture.remove(&key(2, base_id)).await.unwrap();
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_layer_nothing_is_committed_and_nothing_is_left() {
    let mut fixture = fixture();
    let [base_id, top_id] = chain();
    fixture.prepare(&key(1, base_id), "").await.unwrap();
    refused(fixture.mounts(&key(1, base_id)).await, Code::FailedPrecondition, "no blob of its layer");
    // A blob with a false label.
    let digest = fixture.fake.add(&gzip(&top())).to_string();
    let label = [("containerd.io/uncompressed".to_owned(), base_id.to_string())].into();
    fixture.fake.state().labels.insert(digest, label);
    for _ in 0..2 {
        refused(fixture.mounts(&key(1, base_id)).await, Code::FailedPrecondition, "the diffID of");
    }
    fixture.remove(&key(1, base_id)).await.unwrap();
    fixture.prepare(&key(2, base_id), "").await.unwrap();
    refused(
        fixture.commit(&name(base_id), &key(2, base_id)).await,
        Code::FailedPrecondition,
        "nobody asked for its mounts",
    );
    fixture.remove(&key(2, base_id)).await.unwrap();
    let thrown = fixture.path("store/containerd/default/thrown");
    assert!(fs::read_dir(thrown).map_or(true, |mut entries| entries.next().is_none()));
    fixture.assert_layers(&[]);
    // Other clients get the same errors as before.
    for other in [format!("default/1/extract-q1 {top_id}"), "buildkit/1/extract-q1".to_owned()] {
        let mounts = fixture.prepare(&other, "").await.unwrap();
        assert_eq!(mounts[0].r#type, "windowsfilter", "{other}");
        refused(fixture.commit("n", &other).await, Code::FailedPrecondition, "no layer was applied");
    }
    let label = [("containerd.io/snapshot.ref", "x")];
    let mounts = fixture.prepare_labelled(&key(7, top_id), "", &label).await.unwrap();
    assert_eq!(mounts[0].r#type, "windowsfilter");
}

/// BuildKit does not know that layers in its caches are Windows layers, and applies them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_unpacks_by_itself_may_have_the_layer_applied_too() {
    let mut fixture = fixture();
    let [base_id, top_id] = chain();
    fixture.unpack("default/1/base", "", &base()).await;
    let blobs = [gzip(&base()), gzip(&top())];
    let digests = [fixture.fake.add(&blobs[0]), label(&fixture, "containerd.io/uncompressed", &top())];
    // For a layer that was in the store, and for one fetched for the mounts.
    for (number, chain_id, parent, i) in [(1, base_id, String::new(), 0), (2, top_id, name(base_id), 1)] {
        fixture.prepare(&key(number, chain_id), &parent).await.unwrap();
        let mounts = fixture.mounts(&key(number, chain_id)).await.unwrap();
        let applied = fixture.apply(mounts, digests[i], blobs[i].len()).await.unwrap();
        let tar = [base(), top()][i].clone();
        assert_eq!((applied.digest, applied.size), (Digest::of(&tar).to_string(), tar.len() as i64));
        fixture.commit(&name(chain_id), &key(number, chain_id)).await.unwrap();
    }
    // Without Mounts it is applied like any other.
    let mounts = fixture.prepare(&key(3, top_id), &name(base_id)).await.unwrap();
    fixture.apply(mounts, digests[1], blobs[1].len()).await.unwrap();
    fixture.commit("buildkit/4/top", &key(3, top_id)).await.unwrap();
    for name in ["buildkit/4/top", &name(top_id), &name(base_id), "default/1/base"] {
        fixture.remove(name).await.unwrap();
    }
    fixture.assert_layers(&[]);
}

/// An image that another builder made on top of one made by this BuildKit: the layer below has our diff
/// here, and so another chain ID than in the image.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_on_top_of_one_that_was_built_here_is_found_by_its_image() {
    let mut fixture = fixture();
    fixture.unpack("buildkit/1/base", "", &base()).await;
    fixture.prepare("buildkit/2/box", "buildkit/1/base").await.unwrap();
    fs::write(shown(&fixture.mounts("buildkit/2/box").await.unwrap()).join("built.txt"), "built").unwrap();
    fixture.commit("buildkit/3/built", "buildkit/2/box").await.unwrap();

    let built = layer(&[("built.txt", b"built")]);
    let tars = [base(), built, top()];
    let chain = tars
        .iter()
        .map(|tar| Digest::of(tar))
        .reduce(|below, diff_id| Digest::of(format!("{below} {diff_id}").as_bytes()));
    let chain_id = chain.unwrap();
    let blobs = tars.each_ref().map(|tar| fixture.fake.add(&gzip(tar)).to_string());
    let config = json!({"rootfs": {"diff_ids": tars.each_ref().map(|tar| Digest::of(tar).to_string())}});
    let config = fixture.fake.add(config.to_string().as_bytes()).to_string();
    let layers = blobs.each_ref().map(|digest| json!({"digest": digest}));
    fixture.fake.add(json!({"config": {"digest": config}, "layers": layers}).to_string().as_bytes());

    for number in [4, 5] {
        unpack(&mut fixture, &key(number, chain_id), "buildkit/3/built", &top()).await;
        fixture.commit(&format!("buildkit/{number}/app"), &key(number, chain_id)).await.unwrap();
        // The second time the store has it.
        fixture.fake.state().blobs.insert(blobs[2].clone(), Blob::Whole(b"no layer".to_vec()));
    }
    let view = shown(&fixture.view("buildkit/10/v", "buildkit/5/app").await.unwrap());
    for (file, content) in [("a.txt", "base"), ("built.txt", "built"), ("top.txt", "top")] {
        assert_eq!(fs::read_to_string(view.join(file)).unwrap(), content);
    }
    for name in ["buildkit/10/v", "buildkit/5/app", "buildkit/4/app", "buildkit/3/built", "buildkit/1/base"] {
        fixture.remove(name).await.unwrap();
    }
    fixture.assert_layers(&[]);
}
