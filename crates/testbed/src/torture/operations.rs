//! The operations to torture: the preparation of the store, the command, and the allowed results of running
//! it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use programs::error::{Error, IoContext, Result};
use programs::process::output;
use sample_images::{Format, Spec};

/// The inputs of all operations.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The tool under test.
    pub binary: PathBuf,
    /// The directory of the images and tars.
    pub dir: PathBuf,
}

impl Inputs {
    /// Makes the smallest images that have everything a Windows layer can have.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn make(binary: PathBuf, dir: PathBuf) -> Result<Self> {
        for (seed, layers, name) in [(1, 2, SAMPLE), (2, 1, KEPT)] {
            let spec = Spec {
                seed,
                layers,
                entries: 1,
                bytes: 1,
                reference: format!("{name}:1"),
                format: Format::OciArchive,
                ..Spec::default()
            };
            sample_images::write(&spec, &dir.join(name).with_extension("tar"))?;
        }
        let inputs = Self { binary, dir };
        let files = inputs.path("files");
        fs::create_dir(&files).at(&files)?;
        for (name, size) in [("small.txt", 100), ("large.bin", 300_000)] {
            fs::write(files.join(name), vec![b'x'; size]).at(&files)?;
        }
        let scratch = inputs.dir.join("scratch");
        inputs.run(&scratch, &["image", "import", &inputs.text("kept.tar")])?;
        inputs.run(
            &scratch,
            &["layer", "diff", &inputs.top(&scratch, "kept:1")?, "-o", &inputs.text("layer.tar")],
        )?;
        fs::remove_dir_all(&scratch).at(&scratch)?;
        Ok(inputs)
    }

    /// An input file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// The tool on the store at `root`.
    #[must_use]
    pub fn command(&self, root: &Path, args: &[&str]) -> Vec<String> {
        let (binary, root) = (self.binary.to_string_lossy(), root.to_string_lossy());
        [&binary, "--root", &root].into_iter().chain(args.iter().copied()).map(str::to_owned).collect()
    }

    /// Runs the tool and returns its output; it must succeed.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, root: &Path, args: &[&str]) -> Result<String> {
        let command = self.command(root, args);
        output(Command::new(&command[0]).args(&command[1..]))
    }

    /// The topmost layer of an image.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn top(&self, root: &Path, reference: &str) -> Result<String> {
        let text = self.run(root, &["--json", "image", "inspect", reference])?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|source| Error::Json { what: reference.into(), source })?;
        let layers = value["layers"].as_array().and_then(|layers| layers.last());
        let id = layers.and_then(|layer| layer.as_str().or_else(|| layer["id"].as_str()));
        id.map(str::to_owned).ok_or_else(|| Error::Unexpected(format!("no layers in {text}")))
    }
}

const SAMPLE: &str = "sample";
const KEPT: &str = "kept";
/// The sandbox in every store, with some content.
pub const BOX: &str = "keptbox";

/// A store at a place of its own.
pub struct Place<'a> {
    /// The inputs.
    pub inputs: &'a Inputs,
    /// The store.
    pub root: PathBuf,
    /// A directory beside it.
    pub aside: PathBuf,
}

impl Place<'_> {
    /// Runs the tool on it; it must succeed.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.inputs.run(&self.root, args)
    }

    fn tool(&self, args: &[&str]) -> Vec<String> {
        self.inputs.command(&self.root, args)
    }

    fn view(&self, id: &str) -> PathBuf {
        self.root.join("mounts").join(id).join("view")
    }

    fn layer(&self, id: &str) -> PathBuf {
        self.root.join("layers").join(id)
    }

    fn write_in(&self, id: &str, name: &str) -> Result<()> {
        let path = self.view(id).join(name);
        fs::write(&path, name.repeat(1000)).at(&path)
    }
}

/// An operation.
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// Once, on a store that holds the image `kept:1` and a sandbox on it.
    pub prepare: fn(&Place<'_>) -> Result<()>,
    /// Before each run, on a copy of the prepared store.
    pub begin: fn(&Place<'_>) -> Result<()>,
    /// The command.
    pub command: fn(&Place<'_>) -> Vec<String>,
    /// Allowed exit codes of running it again when it had been done completely.
    pub again: &'static [i32],
    /// The command that finishes it if a second run cannot know the remaining work.
    pub finish: Option<&'static [&'static str]>,
    /// Whether the store is intact and without leftovers before.
    pub whole: bool,
    /// Whether sandboxes' contents depend on the time, or on how far it came.
    pub writes: bool,
    /// A capability, numbered as in `linux/capability.h`, that root may lack in a container.
    pub capability: Option<u32>,
}

impl Operation {
    /// Whether this process has the capability.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_permitted(&self) -> Result<bool> {
        let Some(capability) = self.capability else { return Ok(true) };
        let status = Path::new("/proc/self/status");
        let text = fs::read_to_string(status).at(status)?;
        let bits = text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
        Ok(u64::from_str_radix(bits.trim(), 16).is_ok_and(|bits| bits >> capability & 1 != 0))
    }
}

/// To grow a mounted ext4.
const CAP_SYS_RESOURCE: u32 = 24;

fn nothing(_: &Place<'_>) -> Result<()> {
    Ok(())
}

const PLAIN: Operation = Operation {
    name: "",
    prepare: nothing,
    begin: nothing,
    command: |_| Vec::new(),
    again: &[],
    finish: None,
    whole: true,
    writes: false,
    capability: None,
};

fn import_sample(place: &Place<'_>) -> Result<()> {
    place.run(&["image", "import", &place.inputs.text("sample.tar")]).map(drop)
}

fn mount_box(place: &Place<'_>) -> Result<()> {
    place.run(&["mount", BOX]).map(drop)
}

fn apply_extra(place: &Place<'_>) -> Result<()> {
    place.run(&["layer", "apply", "extra", &place.inputs.text("layer.tar")])?;
    place.run(&["layer", "apply", "more", "--parent", "extra", &place.inputs.text("layer.tar")]).map(drop)
}

/// Leaves the leftovers of dead processes.
fn leave_things(place: &Place<'_>) -> Result<()> {
    for dir in ["layers/dead-importing", "layers/gone-removing", "templates/making", "templates/making/root"]
    {
        let dir = place.root.join(dir);
        fs::create_dir(&dir).at(&dir)?;
    }
    for file in [
        "layers/dead-importing/layer.tar",
        "layers/gone-removing/layer.tar",
        "tmp/.tmpdead",
        "templates/making/image",
    ] {
        let file = place.root.join(file);
        fs::write(&file, b"half").at(&file)?;
    }
    Ok(())
}

fn damage(place: &Place<'_>) -> Result<()> {
    leave_things(place)?;
    import_sample(place)?;
    place.run(&["mount", "sample:1"])?;
    place.run(&["umount", "sample:1"])?;
    let top = place.layer(&place.inputs.top(&place.root, "sample:1")?);
    for file in ["layer.erofs", "chain.erofs"] {
        fs::write(top.join(file), b"rotten").at(&top)?;
    }
    Ok(())
}

/// Makes a mount without a record.
fn forget_mount(place: &Place<'_>) -> Result<()> {
    mount_box(place)?;
    let record = place.root.join("mounts").join(BOX).join("state.json");
    fs::remove_file(&record).at(&record)
}

/// All operations of the command line that change a store, and a program that writes in a mounted sandbox.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "image import",
        command: |place| {
            place.tool(&["image", "import", &place.inputs.text("sample.tar"), "--ref", "sample:1"])
        },
        ..PLAIN
    },
    Operation {
        name: "layer apply",
        command: |place| place.tool(&["layer", "apply", "extra", &place.inputs.text("layer.tar")]),
        again: &[1],
        ..PLAIN
    },
    Operation {
        name: "create (first of its size)",
        command: |place| place.tool(&["create", "kept:1", "--name", "box", "--size", "18MB"]),
        again: &[1],
        // An empty sandbox has its template's age.
        writes: true,
        ..PLAIN
    },
    Operation {
        name: "create",
        command: |place| place.tool(&["create", "kept:1", "--name", "box", "--size", "16MB"]),
        again: &[1],
        ..PLAIN
    },
    Operation {
        name: "mount image",
        prepare: import_sample,
        command: |place| place.tool(&["mount", "sample:1"]),
        ..PLAIN
    },
    Operation {
        name: "mount sandbox --target",
        begin: |place| fs::create_dir_all(&place.aside).at(&place.aside),
        command: |place| place.tool(&["mount", BOX, "--target", &place.aside.to_string_lossy()]),
        // A second mount there would hide the first.
        again: &[4],
        ..PLAIN
    },
    Operation {
        name: "write in a sandbox",
        begin: mount_box,
        command: |place| {
            let to = place.view(BOX).to_string_lossy().into_owned();
            ["cp", "-rf", "--preserve=timestamps", &place.inputs.text("files"), &to]
                .map(str::to_owned)
                .to_vec()
        },
        writes: true,
        ..PLAIN
    },
    Operation {
        name: "commit",
        command: |place| place.tool(&["commit", BOX, "--ref", "new:1", "--created", "0"]),
        ..PLAIN
    },
    Operation {
        name: "commit (mounted)",
        begin: mount_box,
        command: |place| place.tool(&["commit", BOX, "--ref", "new:1", "--created", "0"]),
        ..PLAIN
    },
    Operation {
        name: "umount image",
        begin: |place| place.run(&["mount", "kept:1"]).map(drop),
        command: |place| place.tool(&["umount", "kept:1"]),
        again: &[1],
        ..PLAIN
    },
    Operation {
        name: "umount sandbox",
        begin: mount_box,
        command: |place| place.tool(&["umount", BOX]),
        again: &[1],
        ..PLAIN
    },
    Operation {
        name: "layer rm",
        prepare: apply_extra,
        command: |place| place.tool(&["layer", "rm", "more"]),
        again: &[3],
        ..PLAIN
    },
    Operation {
        name: "layer rm (sandbox)",
        prepare: |place| place.run(&["create", "kept:1", "--name", "box", "--size", "16MB"]).map(drop),
        command: |place| place.tool(&["layer", "rm", "box"]),
        again: &[3],
        ..PLAIN
    },
    Operation {
        name: "image rm",
        prepare: import_sample,
        command: |place| place.tool(&["image", "rm", "sample:1"]),
        again: &[3],
        finish: Some(&["prune"]),
        ..PLAIN
    },
    Operation { name: "prune", prepare: apply_extra, command: |place| place.tool(&["prune"]), ..PLAIN },
    Operation {
        name: "image tag",
        command: |place| place.tool(&["image", "tag", "kept:1", "other:1"]),
        ..PLAIN
    },
    Operation {
        name: "image export",
        begin: |place| fs::create_dir_all(&place.aside).at(&place.aside),
        command: |place| {
            let out = place.aside.join("out.tar").to_string_lossy().into_owned();
            place.tool(&["image", "export", "kept:1", &out, "--format", "oci-archive"])
        },
        again: &[1],
        ..PLAIN
    },
    Operation {
        name: "fsck --repair",
        prepare: damage,
        command: |place| place.tool(&["fsck", "--repair"]),
        whole: false,
        ..PLAIN
    },
    Operation {
        name: "cleanup",
        prepare: leave_things,
        begin: forget_mount,
        command: |place| place.tool(&["cleanup"]),
        whole: false,
        ..PLAIN
    },
    Operation {
        name: "layer expand",
        command: |place| place.tool(&["layer", "expand", BOX, "24MB"]),
        ..PLAIN
    },
    Operation {
        name: "layer expand (mounted)",
        begin: mount_box,
        capability: Some(CAP_SYS_RESOURCE),
        command: |place| place.tool(&["layer", "expand", BOX, "24MB"]),
        ..PLAIN
    },
];

/// Makes the store that all operations start from.
///
/// # Errors
/// If a command fails.
pub fn prepare_common(place: &Place<'_>) -> Result<()> {
    place.run(&["image", "import", &place.inputs.text("kept.tar")])?;
    place.run(&["create", "kept:1", "--name", BOX, "--size", "16MB"])?;
    mount_box(place)?;
    place.write_in(BOX, "kept.txt")?;
    place.run(&["umount", BOX]).map(drop)
}
