//! Seeds for fuzzing: inputs that pass a parser's first checks, since mutation does not find magic numbers
//! and digests.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};

use programs::error::{Error, IoContext, Result};
use programs::workspace;
use sample_images::docker_store;

/// Vectors to use as seeds of a target: directory and file extension.
const VECTORS: &[(&str, &[(&str, &str)])] = &[
    ("backup_stream", &[("backuptar", "bin"), ("backupstream", "bin")]),
    ("layer_import", &[("backuptar", "tar"), ("tar-split", "tar")]),
    ("layer_tar", &[("backuptar", "tar"), ("backupstream", "tar")]),
    ("tar_reader", &[("backuptar", "tar"), ("backupstream", "tar"), ("tar-split", "tar")]),
    ("transport_directory", &[("backuptar", "tar")]),
];
/// Separates two layers, as in `fuzz/fuzz_targets/layer_import.rs`.
const NEXT_LAYER: &[u8] = b"=next layer=";
/// The fuzzer truncates longer inputs, which makes an archive useless.
const LONGEST: u64 = 64 << 10;

/// Writes the seeds of `target` into `corpus`.
///
/// # Errors
/// If vectors cannot be read, or the corpus not written.
pub(super) fn write(target: &str, corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus).at(corpus)?;
    for (number, seed) in seeds(target)?.iter().enumerate() {
        let path = corpus.join(format!("seed-{number}"));
        fs::write(&path, seed).at(&path)?;
    }
    Ok(())
}

fn seeds(target: &str) -> Result<Vec<Vec<u8>>> {
    match target {
        "docker_store" => homes(),
        "erofs_reader" => indexes(),
        "image_documents" => Ok(image_documents()),
        "image_import" => images(),
        "layer_import" => layers(),
        "list_filters" => Ok(texts(&[
            "default/3/sha256:ab\nx,y\nlabels.\"containerd.io/snapshot.ref\"==sha256:ab,parent==\"\"\nkind==view",
            "default/3/x\nv\nname~=/^default\\/\\d/,labels.label!=\"\\x31\\u00e9\"\nparent\n",
        ])),
        "server_calls" => Ok(calls()),
        "snapshot_labels" => Ok(texts(&[
            "=a 1\n=b.c 2\n+a 3\nlabels.a\nlabels.b.c",
            "+containerd.io/snapshot/windows/rootfs.sizebytes 21474836480\nlabels",
            "=containerd.io/snapshot/max-size 1\n+containerd.io/snapshot/diff-id sha256:00\n",
        ])),
        "snapshot_records" => Ok(vec![vec![0xff; 3], vec![0xff, 0xff, 0xff, 0, 0, 9, 1], vec![0, 16, 0]]),
        "store_files" => Ok((0..7).map(|file| vec![file, 0xff, 0xff, 0xff, 0, 4, 60, 1]).collect()),
        "locations" => Ok(texts(&[
            "mcr.example.com:5000/windows/nanoserver:ltsc2022\0C:\\Dir\\old.TXT",
            "servercore\0/link/../x",
            "index.docker.io/library/a@sha256:0000000000000000000000000000000000000000000000000000000000000000\0Files/Dir",
        ])),
        "pax_time" => Ok(texts(&["1600000000.1234567", "-6795364578.8713451", "+0", "9223372036.854775807"])),
        "sddl" => Ok(texts(&[
            "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(D;;0x1200a9;;;WD)S:(AU;SAFA;FA;;;BU)",
            "O:S-1-5-80-956008885-3418522649D:(OA;CI;CCDC;bf967aba-0de6-11d0-a285-00aa003049e2;;AC)",
        ])),
        "sandbox_attributes" => Ok(sandbox_attributes()),
        "sandbox_diff" => Ok(sandbox_diffs()),
        "size_option" => Ok(texts(&["127GB", "1.5 TiB", "0x1p4k", "1_000", "1e3g"])),
        _ => from_vectors(target),
    }
}

/// Calls in the encoding of `windowsfilter-containerd/src/machine.rs`: prepare, apply and commit a layer,
/// one on top of it, a restart.
fn calls() -> Vec<Vec<u8>> {
    const PREPARE: u8 = 0;
    const APPLY: u8 = 2;
    const COMMIT: u8 = 4;
    const REMOVE: u8 = 6;
    const UPDATE: u8 = 7;
    const VIEW: u8 = 8;
    const RESTART: u8 = 9;
    let base = [&[PREPARE, 0, 0, 0][..], &[APPLY, 0, 0, 1], &[COMMIT, 4, 0, 0, 0]].concat();
    let top = [&[PREPARE, 1, 1, 4, 1][..], &[APPLY, 1, 1, 1], &[RESTART], &[COMMIT, 5, 1, 1, 4, 2]].concat();
    let adopted = [&[PREPARE, 1, 0, 1][..], &[APPLY, 1, 2, 1], &[COMMIT, 5, 1, 1, 4, 2], &[RESTART]].concat();
    let rest =
        [&[UPDATE, 4, 3][..], &[VIEW, 6, 0], &[REMOVE, 4], &[REMOVE, 5], &[REMOVE, 6], &[RESTART]].concat();
    vec![base.clone(), [&base[..], &top, &rest].concat(), [&base[..], &adopted, &rest].concat()]
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn from_vectors(target: &str) -> Result<Vec<Vec<u8>>> {
    let sources = VECTORS.iter().find(|(name, _)| *name == target).map_or(&[][..], |(_, sources)| sources);
    let mut files = Vec::new();
    for (dir, ending) in sources {
        let mut below = files_below(&workspace::root().join("vectors").join(dir))?;
        below.retain(|file| file.extension().is_some_and(|extension| extension == *ending));
        files.extend(below);
    }
    files.sort();
    files.iter().map(|file| fs::read(file).at(file)).collect()
}

/// All files that are short enough, sorted.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if path.metadata().at(&path)?.len() <= LONGEST {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The index of every vector that is a layer.
fn indexes() -> Result<Vec<Vec<u8>>> {
    let root = tempfile::tempdir().at("temporary directory")?;
    let driver = |source: windowsfilter::Error| Error::Unexpected(programs::error::chain(&source));
    let store = LayerStore::open(root.path(), StorageOptions::default()).map_err(driver)?;
    let mut indexes = Vec::new();
    for (number, tar) in from_vectors("layer_import")?.iter().enumerate() {
        let id = LayerId::new(format!("vector-{number}")).map_err(driver)?;
        // Some vectors are invalid on purpose.
        if store.apply_diff(&id, None, &mut &tar[..]).is_ok() {
            let index = root.path().join("layers").join(id.as_str()).join("layer.erofs");
            indexes.push(fs::read(&index).at(&index)?);
        }
    }
    Ok(indexes)
}

/// One small image in each kind of archive.
fn images() -> Result<Vec<Vec<u8>>> {
    let vectors = workspace::root().join("vectors/backuptar");
    let path = vectors.join("ads-small/in.tar");
    let layer = fs::read(&path).at(&path)?;
    let config = json!({
        "architecture": "amd64", "os": "windows", "os.version": "10.0.20348.1",
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "history": [{"created": "2022-06-01T08:30:00Z", "created_by": "seed"}],
    })
    .to_string();
    let oci = |media_type: &str, content: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{media_type}");
        json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
    };
    let manifest = json!({
        "schemaVersion": 2, "config": oci("config.v1+json", config.as_bytes()),
        "layers": [oci("layer.v1.tar", &layer)],
    })
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [oci("manifest.v1+json", manifest.as_bytes())]});
    let docker = json!([{"Config": "config.json", "RepoTags": ["a:b"], "Layers": ["layer.tar"]}]);
    let blob = |content: &[u8]| format!("blobs/{}", digest(content).replace(':', "/"));
    let archives = [
        archive(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", index.to_string().as_bytes()),
            (&blob(manifest.as_bytes()), manifest.as_bytes()),
            (&blob(config.as_bytes()), config.as_bytes()),
            (&blob(&layer), &layer),
        ]),
        archive(&[
            ("manifest.json", docker.to_string().as_bytes()),
            ("config.json", config.as_bytes()),
            ("layer.tar", &layer),
        ]),
    ];
    archives.into_iter().collect()
}

/// Docker homes in that target's encoding: one with everything, and a small one with a container.
fn homes() -> Result<Vec<Vec<u8>>> {
    let dir = tempfile::tempdir().at("temporary directory")?;
    let root = dir.path().join("docker");
    docker_store::write(&root)?;
    let content = |file: PathBuf| {
        let name = file.strip_prefix(&root).unwrap_or(&file).as_os_str().as_encoded_bytes().to_vec();
        fs::read(&file).at(&file).map(|content| (name, content))
    };
    let home = files_below(&root)?.into_iter().map(content).collect::<Result<Vec<_>>>()?;
    let small: &[(&str, &str)] = &[
        ("windowsfilter/%a/Files/f", "content"),
        ("windowsfilter/%a/layerchain.json", ""),
        ("windowsfilter/%b/sandbox.vhdx", "disk"),
        ("windowsfilter/%b/layerchain.json", r#"["C:\\ProgramData\\docker\\windowsfilter\\%a"]"#),
        (">windowsfilter/%c", "%a"),
        ("windowsfilter/%d-removing/", ""),
        ("image/windowsfilter/layerdb/sha256/%e/cache-id", "%a"),
        ("image/windowsfilter/layerdb/mounts/%b/mount-id", "%b"),
        ("image/windowsfilter/layerdb/mounts/%b/parent", "sha256:%e"),
        (
            "image/windowsfilter/imagedb/content/sha256/%&9",
            // The spelling of Microsoft's base images.
            r#"{"rootfS":{"type":"layers","diff_ids":["sha256:%e"]}}"#,
        ),
    ];
    Ok(vec![list_of_files(&home), list_of_files(small)])
}

/// Images in that target's encoding: an OCI layout of two layers with a nested index, and an archive of
/// `docker save`.
fn image_documents() -> Vec<Vec<u8>> {
    let config = r#"{"architecture":"amd64","os":"windows","os.version":"10.0.20348.1","created":"2022-06-01T08:30:00Z","config":{"Cmd":["cmd"]},
        "rootfs":{"type":"layers","diff_ids":["%=0","%=1"]},"history":[{"created_by":"seed","empty_layer":true},{"author":"a","comment":"c"}]}"#;
    let oci: &[(&str, &str)] = &[
        ("blobs/sha256/%&0", "%Tbase"),
        ("blobs/sha256/%&1", "%Gtop"),
        ("blobs/sha256/%&2", config),
        (
            "blobs/sha256/%&3",
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","annotations":{"a":"b"},
            "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%$2","size":%#2},
            "layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar","digest":"%$0","size":%#0,"urls":["https://example.com/a"]},
            {"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%$1","size":%#1,"annotations":{"c":"d"}}]}"#,
        ),
        (
            "blobs/sha256/%&4",
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
            {"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%a","size":1,"platform":{"os":"linux","architecture":"amd64"}},
            {"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%$3","size":%#3,
            "platform":{"os":"windows","architecture":"amd64","os.version":"10.0.20348.1","os.features":["win32k"]}}]}"#,
        ),
        (
            "index.json",
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"%$4","size":%#4,
            "annotations":{"org.opencontainers.image.ref.name":"1","io.containerd.image.name":"example.com/a:1"}}]}"#,
        ),
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
    ];
    // The spelling of Microsoft's base images.
    let microsoft = config.replace("\"rootfs\"", "\"rootfS\"").replace("\"Cmd\"", "\"cmd\"");
    let docker: &[(&str, &str)] = &[
        ("%&0/layer.tar", "%Tbase"),
        ("%&1/layer.tar", "%Ttop"),
        ("%&2.json", &microsoft),
        (
            "manifest.json",
            r#"[{"Config":"%&2.json","RepoTags":["a:b","c/d:e"],"Layers":["%&0/layer.tar","%&1/layer.tar"]}]"#,
        ),
        ("repositories", r#"{"a":{"b":"%&1"}}"#),
    ];
    vec![list_of_files(oci), list_of_files(docker)]
}

/// Attributes in that target's encoding: those of a file from a layer, and some that others write.
fn sandbox_attributes() -> Vec<Vec<u8>> {
    let security =
        "010004800000000000000000000000001400000002001c0001000000000014000000001001010000000000010000000000";
    let ordinary: &[(&str, &str)] = &[
        ("DOSATTRIB", "0x2022"),
        ("win32.crtime", "132434736000000001"),
        ("win32.atime", "2"),
        ("%win32.sd", security),
        ("win32.ea.NAME", "value"),
        ("DosStream.Zone.Identifier:$DATA", "[ZoneTransfer]"),
        ("win32.origin", "0123456789abcdef:512"),
    ];
    let odd: &[(&str, &str)] = &[
        ("%DOSATTRIB", "0000050005000000110000002300000064000000000000"),
        ("win32.stream.0", "0123456789abcdef:1024:100000:big"),
        ("%win32.reparse", "0c0000a000000000"),
        ("win32.name", "a/b"),
        ("%win32.eas", "000000000001010041004200"),
    ];
    vec![list_of_files(ordinary), list_of_files(odd)]
}

/// Sandboxes in that target's encoding: a bit of everything, and links.
fn sandbox_diffs() -> Vec<Vec<u8>> {
    let changes: &[(&str, &str)] = &[
        ("fDir/old.TXT", "new"),
        ("wDir/Gone.txt", ""),
        ("dwindows", "y"),
        ("fwindows/SYSTEM32", "now a file"),
        ("hsecond", "Dir/old.TXT"),
        ("aDir/old.TXT=user.DOSATTRIB", "0x21"),
        ("wLink", ""),
        ("dLINK", ""),
    ];
    let links: &[(&str, &str)] = &[
        ("la", "/dir/../WINDOWS/./system32"),
        ("lb", "a/../Dir/Sub"),
        ("lDir/c", "../../../Link"),
        ("ld", "d"),
        ("le", "Dir/c/../x"),
    ];
    vec![list_of_files(changes), list_of_files(links)]
}

/// The encoding of `fuzz/src/files.rs`.
fn list_of_files<T: AsRef<[u8]>>(files: &[(T, T)]) -> Vec<u8> {
    files
        .iter()
        .flat_map(|(path, content)| [path.as_ref(), b"\0", content.as_ref(), b"\0"].concat())
        .collect()
}

/// The vectors, and some of them on top of each other.
fn layers() -> Result<Vec<Vec<u8>>> {
    let mut layers = from_vectors("layer_import")?;
    let path = workspace::root().join("vectors/backuptar/diff-layer/in.tar");
    let diff = fs::read(&path).at(&path)?;
    let mut chains: Vec<Vec<u8>> =
        layers.iter().map(|below| [&below[..], NEXT_LAYER, &diff].concat()).collect();
    chains.retain(|chain| chain.len() as u64 <= LONGEST);
    layers.extend(chains);
    Ok(layers)
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

fn archive(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).at(name)?;
    }
    archive.into_inner().at("archive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_start_from_something_have_it() {
        for target in VECTORS.iter().map(|(target, _)| *target).chain([
            "docker_store",
            "erofs_reader",
            "image_documents",
            "image_import",
            "sandbox_attributes",
            "sandbox_diff",
            "sddl",
        ]) {
            assert!(seeds(target).unwrap().len() > 1, "{target}");
        }
    }
}
