//! Security descriptors of what a sandbox made: what Windows would give it, by inheritance from the directory
//! it is in.

use std::cell::OnceCell;

use layer_mounts::linux::upper::UpperKind;

use crate::engine::portable::xattrs::Win32Metadata;
use crate::error::Error;
use wclayer::security::{SecurityDescriptor, SecurityError, Sid};

use super::entry::{Subject, entry_error, leads_to_directory, recorded};
use super::parent::Parent;
use super::plan::Entry;
use super::problems::Problems;
use super::symlinks::Links;
use super::tree::TreeNode;

/// Descriptor of `C:\` in a server's container, for a parent that does not say what its root has. The ACEs
/// and their order are those that `icacls C:\` prints in `servercore:ltsc2022` (moby/buildkit, issue 4731).
const ROOT_SDDL: &str = "O:SYG:SYD:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)\
                         (A;CI;0x4;;;BU)(A;CIIO;0x2;;;BU)(A;;0x1200a9;;;WD)";

/// Owner of what is made in a container by its usual user, ContainerAdministrator: `dir /q` shows
/// `BUILTIN\Administrators` (jenkinsci/docker-workflow-plugin, pull request 117).
const OWNER: Sid = Sid::ADMINISTRATORS;

/// Its primary group: `Get-Acl` shows `O:BAG:SY` of what is made in a container (Kubernetes, "Projected
/// Volumes"). Windows itself does not look at the group.
const GROUP: Sid = Sid::SYSTEM;

/// What the entries of one directory inherit.
#[derive(Debug)]
pub(super) struct Inheritance {
    descriptor: SecurityDescriptor,
    /// There is no directory above: what inherits is the root, which gets the descriptor itself.
    is_above_root: bool,
    file: OnceCell<Result<Vec<u8>, SecurityError>>,
    directory: OnceCell<Result<Vec<u8>, SecurityError>>,
}

impl Inheritance {
    fn new(descriptor: SecurityDescriptor, is_above_root: bool) -> Self {
        Self { descriptor, is_above_root, file: OnceCell::new(), directory: OnceCell::new() }
    }

    /// What the sandbox's root gets, should nobody have recorded anything of it.
    pub(super) fn above_root() -> Self {
        // The text is a constant that a test reads.
        let root = SecurityDescriptor::from_sddl(ROOT_SDDL)
            .unwrap_or_else(|_| unreachable!("ROOT_SDDL is well-formed"));
        Self::new(root, true)
    }

    fn child(&self, is_directory: bool) -> SecurityDescriptor {
        match self.is_above_root {
            true => self.descriptor.clone(),
            false => SecurityDescriptor::inherit(&self.descriptor, is_directory, &OWNER, &GROUP),
        }
    }

    /// The descriptor of a new entry. All new files of a directory have the same one, so it is computed once.
    pub(super) fn of_new(&self, is_directory: bool) -> Result<&[u8], &SecurityError> {
        let cell = if is_directory { &self.directory } else { &self.file };
        cell.get_or_init(|| self.child(is_directory).to_bytes()).as_deref()
    }

    /// What a directory in this one passes on: its own descriptor, or where it has none (or none that can be
    /// read), what it would have inherited.
    fn inside(&self, own: Option<&[u8]>) -> Self {
        let own = own.and_then(|bytes| SecurityDescriptor::parse(bytes).ok());
        Self::new(own.unwrap_or_else(|| self.child(true)), false)
    }
}

/// Most bytes of the descriptors of the directories that an entry is in, one for each. In memory they take
/// some ten times as much.
const BYTES_MAX: usize = 8 << 20;

/// What the directories on the way to an entry pass on. Entries are visited depth first, so no others are
/// kept.
#[derive(Debug)]
pub(super) struct Directories {
    above_root: Inheritance,
    /// The item of each directory, outermost first, and the bytes of its descriptor.
    open: Vec<(usize, Inheritance, usize)>,
    bytes: usize,
}

impl Directories {
    pub(super) fn new() -> Self {
        Self { above_root: Inheritance::above_root(), open: Vec::new(), bytes: 0 }
    }

    /// What entries of the directory with this item inherit; of the root's own item, which is in no
    /// directory: what it gets.
    pub(super) fn of(&mut self, directory: usize) -> &Inheritance {
        while let Some((.., bytes)) = self.open.pop_if(|(item, ..)| *item != directory) {
            self.bytes -= bytes;
        }
        self.innermost()
    }

    fn innermost(&self) -> &Inheritance {
        self.open.last().map_or(&self.above_root, |(_, inside, _)| inside)
    }

    /// Goes into the directory of this name in the innermost one, which has its `own` descriptor or none.
    ///
    /// # Errors
    /// When there are more descriptors on the way than memory should hold.
    pub(super) fn enter(&mut self, item: usize, name: &[u8], own: Option<&[u8]>) -> Result<(), Error> {
        let inside = self.innermost().inside(own);
        let bytes = own.map_or_else(|| self.innermost().of_new(true).map_or(0, <[u8]>::len), <[u8]>::len);
        self.bytes += bytes;
        if self.bytes > BYTES_MAX {
            let reason = format!(
                "the security descriptors of the directories on its path have more than {BYTES_MAX} bytes"
            );
            return Err(entry_error(name, &reason));
        }
        self.open.push((item, inside, bytes));
        Ok(())
    }

    /// Says of a new entry, item `number`, that it inherits more than a descriptor can hold; remembers what a
    /// directory passes on. `read` gives what the entry's attributes say, where that matters.
    pub(super) fn check<'a, P: Parent>(
        &mut self,
        (number, item, node): (usize, &'a Entry, &'a TreeNode),
        parent: &P,
        links: &mut Links<'_, P>,
        problems: &mut Problems,
        read: impl FnOnce() -> Result<Subject<'a>, Error>,
    ) -> Result<(), Error> {
        let inheritance = self.of(item.directory);
        let is_directory = node.is_directory();
        let fits = inheritance.of_new(false).is_ok()
            && (inheritance.of_new(true).is_ok() || !matches!(node.kind, UpperKind::Symlink { .. }));
        if fits && !is_directory {
            return Ok(());
        }
        let subject = read()?;
        let metadata = recorded(parent, &subject)?;
        let mut own = metadata.security.clone();
        if inherits(&metadata) {
            let is_directory = match &node.kind {
                UpperKind::Symlink { target } => leads_to_directory(links, node, target, &metadata)?,
                _ => is_directory,
            };
            match inheritance.of_new(is_directory) {
                Ok(bytes) => own = Some(bytes.to_vec()),
                Err(error) => {
                    let problem = format!("inherits more than a security descriptor holds: {error}");
                    problems.add(&subject.path, &problem);
                }
            }
        }
        if is_directory { self.enter(number, &subject.name, own.as_deref()) } else { Ok(()) }
    }
}

/// Whether an entry gets its descriptor by inheritance. What the parent's tar had none for was never new;
/// none is invented.
pub(super) fn inherits(metadata: &Win32Metadata) -> bool {
    metadata.origin.is_none() && metadata.security.is_none()
}
