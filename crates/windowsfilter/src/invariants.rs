//! The invariants of a store, by name.
//!
//! One list for everything in a store: layers and sandboxes (`layer_store/fsck/`, and each engine for its own
//! files), images (`windowsfilter-image`) and containerd's snapshots (`windowsfilter-containerd`).
//! `docs/fsck.md` says for each what breaks it, what `--repair` does, and which test breaks it.

/// Declares the invariants, their names and their list together, so that none can be missing from any of
/// them.
macro_rules! invariants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// An invariant of a store. `fsck` prints its name.
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
    /// Every unfinished import, creation or removal has a live process working on it.
    InterruptedWork = "interrupted-work",
    /// The record of a kept staged layer is as it was written.
    StagedLayer = "staged-layer",
    /// Every file in `tmp/` has a live process writing it.
    TemporaryFiles = "temporary-files",
    /// Every unfinished template has a live process making it.
    UnfinishedTemplate = "unfinished-template",
    /// A template is as it was made.
    TemplateIntact = "template-intact",
    /// The record of a mount is as it was written.
    MountRecord = "mount-record",
    /// Every mount has a user or a holder.
    MountsInUse = "mounts-in-use",
    /// Every lock file has a layer.
    LocksOfLayers = "locks-of-layers",
    /// The directory of layers contains only layers.
    OnlyLayers = "only-layers",
    /// Only administrators, the system and the store's user can write to its directories.
    PrivateDirectories = "private-directories",

    /// `layerID` names a layer.
    AlternateId = "alternate-id",
    /// `layer.json` exists, is as it was written, and has the fields that its kind of layer needs.
    LayerRecord = "layer-record",
    /// A layer's directory contains only files of layers.
    LayerFiles = "layer-files",
    /// `owners.json` is as it was written.
    LayerOwners = "layer-owners",
    /// `layerchain.json` exists, is as it was written, and names no layer twice.
    LayerChain = "layer-chain",
    /// Every parent is a layer with content.
    ParentsExist = "parents-exist",
    /// A chain is its first parent followed by that parent's chain.
    ChainContinues = "chain-continues",
    /// `layer.tar` exists and has its recorded length.
    TarSize = "tar-size",
    /// `layer.tar` has the layer's diffID.
    TarDigest = "tar-digest",
    /// `layer.erofs` exists and is as it was written.
    IndexDigest = "index-digest",
    /// `chain.erofs`, if it exists, equals the merge of the chain's indexes.
    ChainIndex = "chain-index",
    /// `sandbox.img` exists and is no shorter than its record and its file system say.
    SandboxSize = "sandbox-size",
    /// `sandbox.img` has an ext4 superblock with a correct checksum.
    SandboxSuperblock = "sandbox-superblock",
    /// e2fsck finds no error in `sandbox.img`.
    SandboxFileSystem = "sandbox-file-system",
    /// The compute service knows the layer.
    HostKnowsLayer = "host-knows-layer",

    /// The record of an image is as it was written, and belongs to this image.
    ImageRecord = "image-record",
    /// An image's config exists, is as it was written, and lists the layers of the image's record.
    ImageConfig = "image-config",
    /// An image's manifest exists and is as it was written.
    ImageManifest = "image-manifest",
    /// An image's layers exist, each with its diffID and on top of the one below.
    ImageLayers = "image-layers",
    /// A document that no image uses is also as it was written.
    SpareDocument = "spare-document",
    /// A kept blob of a layer is as imported.
    LayerBlob = "layer-blob",

    /// The records of snapshots can be read and are as they were written.
    SnapshotRecords = "snapshot-records",
    /// A snapshot's parent exists, and so does the layer or sandbox that it needs.
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
