//! The JSON documents of an image: configuration, manifest, index, and `manifest.json` of `docker save`.
//!
//! Structs, not maps, so that the order of fields, and with it every digest, is fixed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::image::{LayerSummary, Spec, encoded};
use super::layer::Compression;

#[derive(Serialize)]
pub(super) struct Config<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(rename = "os.version")]
    os_version: String,
    created: String,
    author: &'a str,
    config: RunConfig<'a>,
    rootfs: RootFs<'a>,
    history: Vec<History>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig<'a> {
    cmd: [&'a str; 1],
    env: [&'a str; 1],
    working_dir: &'a str,
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'a str,
    diff_ids: Vec<&'a str>,
}

#[derive(Serialize)]
struct History {
    created: String,
    created_by: String,
}

/// Each layer's day follows from its number; the clock is not used.
fn created(layer: usize) -> String {
    let (month, day) = (6 + layer / 28 % 7, 1 + layer % 28);
    format!("2022-{month:02}-{day:02}T08:30:00.1234567Z")
}

pub(super) fn config<'a>(spec: &Spec, build: u64, layers: &'a [LayerSummary]) -> Config<'a> {
    let history = (0..layers.len()).map(|layer| History {
        created: created(layer),
        created_by: match layer {
            0 => format!("Apply image 10.0.20348.{build}"),
            n => format!("cmd /S /C install-app{n}.cmd"),
        },
    });
    Config {
        architecture: "amd64",
        os: "windows",
        os_version: format!("10.0.20348.{build}"),
        created: created(layers.len() - 1),
        author: if spec.real_binaries {
            "windowsfilter sample of real programs"
        } else {
            "windowsfilter sample"
        },
        config: RunConfig { cmd: [r"c:\windows\system32\cmd.exe"], env: ["SAMPLE=1"], working_dir: r"C:\" },
        rootfs: RootFs {
            r#type: "layers",
            diff_ids: layers.iter().map(|layer| layer.digests.diff_id.as_str()).collect(),
        },
        history: history.collect(),
    }
}

/// The config in the spelling of official base images, which readers in Go accept
/// (microsoft/Windows-Containers#107).
pub(super) fn as_microsoft_spells(config: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(config);
    text.replace("\"rootfs\":", "\"rootfS\":").replace("\"Cmd\":", "\"cmd\":").into_bytes()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: String,
    digest: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<BTreeMap<&'static str, String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'a str>,
}

impl<'a> Descriptor<'a> {
    fn new(media_type: impl Into<String>, digest: &'a str, size: u64) -> Self {
        let (media_type, annotations) = (media_type.into(), BTreeMap::new());
        Self { media_type, digest, size, urls: Vec::new(), platform: None, annotations }
    }
}

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
}

pub(super) fn manifest<'a>(
    spec: &Spec,
    config: &[u8],
    config_digest: &'a str,
    layers: &'a [LayerSummary],
) -> Manifest<'a> {
    let suffix = match spec.layer_compression() {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    let descriptor = |(number, layer): (usize, &'a LayerSummary)| {
        let foreign = spec.foreign && number == 0;
        let kind = if foreign { "nondistributable." } else { "" };
        let media_type = format!("application/vnd.oci.image.layer.{kind}v1.tar{suffix}");
        let mut descriptor = Descriptor::new(media_type, &layer.digests.digest, layer.digests.size);
        if foreign {
            descriptor.urls = vec![format!("https://example.com/layers/{}", encoded(&layer.digests.digest))];
        }
        descriptor
    };
    let config =
        Descriptor::new("application/vnd.oci.image.config.v1+json", config_digest, config.len() as u64);
    let layers = layers.iter().enumerate().map(descriptor).collect();
    Manifest { schema_version: 2, media_type: MANIFEST_TYPE, config, layers }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index<'a> {
    schema_version: u32,
    manifests: Vec<Descriptor<'a>>,
}

pub(super) fn index<'a>(spec: &'a Spec, build: u64, manifest: &[u8], digest: &'a str) -> Index<'a> {
    let mut descriptor = Descriptor::new(MANIFEST_TYPE, digest, manifest.len() as u64);
    descriptor.platform = Some(BTreeMap::from([
        ("architecture", "amd64".to_owned()),
        ("os", "windows".to_owned()),
        ("os.version", format!("10.0.20348.{build}")),
    ]));
    descriptor.annotations.insert("org.opencontainers.image.ref.name", &spec.reference);
    Index { schema_version: 2, manifests: vec![descriptor] }
}
