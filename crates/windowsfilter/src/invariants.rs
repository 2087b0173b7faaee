//! The invariants of a store, by name.
//!
//! One list for all that keep something in it: layers and sandboxes (`layer_store/fsck/`, and each engine of
//! its own files), images (`windowsfilter-image`) and containerd's snapshots (`windowsfilter-containerd`).
//! `docs/fsck.md` says of each what breaks it, what `--repair` does, and which test breaks it.

/// Declares the invariants, their names and the list of them together, so that none can be missing from
/// either.
macro_rules! invariants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// What must be true of a store. Its name is what `fsck` prints.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Invariant {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Invariant {
            /// All of them, in the order of `docs/fsck.md`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

invariants! {
    /// Whatever is being imported, made or removed, somebody is doing it.
    InterruptedWork = "interrupted-work",
    /// The record of a staged layer that somebody keeps is as it was written.
    StagedLayer = "staged-layer",
    /// Whatever is in `tmp/`, somebody is writing it.
    TemporaryFiles = "temporary-files",
    /// Whatever template is being made, somebody is making it.
    UnfinishedTemplate = "unfinished-template",
    /// A template is as it was made.
    TemplateIntact = "template-intact",
    /// The record of a mount is as it was written.
    MountRecord = "mount-record",
    /// Whatever is mounted, somebody has asked for it.
    MountsInUse = "mounts-in-use",
    /// A lock has a layer.
    LocksOfLayers = "locks-of-layers",
    /// Nothing but layers is among the layers.
    OnlyLayers = "only-layers",
    /// Nobody but administrators, the system and the store's user can write to a directory of it.
    PrivateDirectories = "private-directories",

    /// `layerID` names a layer.
    AlternateId = "alternate-id",
    /// `layer.json` is there, as it was written, and says what its kind of layer needs.
    LayerRecord = "layer-record",
    /// A layer's directory holds files of layers only.
    LayerFiles = "layer-files",
    /// `owners.json` is as it was written.
    LayerOwners = "layer-owners",
    /// `layerchain.json` is there, as it was written, and names nothing twice.
    LayerChain = "layer-chain",
    /// Every parent is a layer with content.
    ParentsExist = "parents-exist",
    /// A chain goes on as its first parent's does.
    ChainContinues = "chain-continues",
    /// `layer.tar` is there and as long as it was.
    TarSize = "tar-size",
    /// `layer.tar` has the layer's diffID.
    TarDigest = "tar-digest",
    /// `layer.erofs` is there, as it was written.
    IndexDigest = "index-digest",
    /// `chain.erofs`, where it is, is what the chain's indexes give.
    ChainIndex = "chain-index",
    /// `sandbox.img` is there, no shorter than its record and its file system say.
    SandboxSize = "sandbox-size",
    /// `sandbox.img` has an ext4 superblock whose checksum is right.
    SandboxSuperblock = "sandbox-superblock",
    /// e2fsck finds nothing wrong in `sandbox.img`.
    SandboxFileSystem = "sandbox-file-system",
    /// The compute service knows the layer.
    HostKnowsLayer = "host-knows-layer",

    /// The record of an image is as it was written, and its own.
    ImageRecord = "image-record",
    /// An image's config is there, as it came, and gives the layers of its record.
    ImageConfig = "image-config",
    /// An image's manifest is there, as it came.
    ImageManifest = "image-manifest",
    /// An image's layers are there, each with its diffID and on top of the one below.
    ImageLayers = "image-layers",
    /// A document of no image is as it came, too.
    SpareDocument = "spare-document",
    /// A layer's blob that is kept is as it came.
    LayerBlob = "layer-blob",

    /// The records of snapshots can be read, and are as they were written.
    SnapshotRecords = "snapshot-records",
    /// A snapshot has its parent, and the layer or sandbox that it needs.
    SnapshotNeeds = "snapshot-needs",
}

impl std::fmt::Display for Invariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Invariant;

    #[test]
    fn the_name_is_the_same_in_json() {
        for &invariant in Invariant::ALL {
            assert_eq!(serde_json::to_value(invariant).unwrap(), invariant.name());
        }
    }
}
