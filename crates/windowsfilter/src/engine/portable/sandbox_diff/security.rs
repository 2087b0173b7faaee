//! Security descriptors of new entries in a sandbox, inherited from their directory as on Windows.

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

/// Descriptor of `C:\` in a server's container, for a parent whose root has no descriptor. The ACEs and their
/// order are those that `icacls C:\` prints in `servercore:ltsc2022` (moby/buildkit, issue 4731).
const ROOT_SDDL: &str = "O:SYG:SYD:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)\
                         (A;CI;0x4;;;BU)(A;CIIO;0x2;;;BU)(A;;0x1200a9;;;WD)";

/// Owner of files that a container's usual user, ContainerAdministrator, makes: `dir /q` shows
/// `BUILTIN\Administrators` (jenkinsci/docker-workflow-plugin, pull request 117).
const OWNER: Sid = Sid::ADMINISTRATORS;

/// Their primary group: `Get-Acl` shows `O:BAG:SY` for files made in a container (Kubernetes, "Projected
/// Volumes"). Windows itself does not look at the group.
const GROUP: Sid = Sid::SYSTEM;

/// The descriptors that the entries of one directory inherit.
#[derive(Debug)]
pub(super) struct Inheritance {
    descriptor: SecurityDescriptor,
    /// No directory is above: only the root inherits from this, and gets the descriptor itself.
    is_above_root: bool,
    file: OnceCell<Result<Vec<u8>, SecurityError>>,
    directory: OnceCell<Result<Vec<u8>, SecurityError>>,
}

impl Inheritance {
    fn new(descriptor: SecurityDescriptor, is_above_root: bool) -> Self {
        Self { descriptor, is_above_root, file: OnceCell::new(), directory: OnceCell::new() }
    }

    /// The descriptor of the sandbox's root, if none is recorded.
    pub(super) fn above_root() -> Self {
        // The text is a constant; a test parses it.
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

    /// The inheritance of a directory in this one: from its own descriptor or, if it has none that can be
    /// parsed, from the one that it would have inherited.
    fn inside(&self, own: Option<&[u8]>) -> Self {
        let own = own.and_then(|bytes| SecurityDescriptor::parse(bytes).ok());
        Self::new(own.unwrap_or_else(|| self.child(true)), false)
    }
}

/// Most bytes of descriptors of the directories above an entry, together. In memory they take about ten times
/// as much.
const BYTES_MAX: usize = 8 << 20;

/// The inheritance of each directory above the current entry. Entries are visited depth first, so no others
/// are kept.
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

    /// The inheritance of entries in the directory with this item. For the root's own item, which is in no
    /// directory, it has the root's own descriptor.
    pub(super) fn of(&mut self, directory: usize) -> &Inheritance {
        while let Some((.., bytes)) = self.open.pop_if(|(item, ..)| *item != directory) {
            self.bytes -= bytes;
        }
        self.innermost()
    }

    fn innermost(&self) -> &Inheritance {
        self.open.last().map_or(&self.above_root, |(_, inside, _)| inside)
    }

    /// Enters the directory `name` in the innermost one. `own` is its descriptor, if it has one.
    ///
    /// # Errors
    /// The descriptors of the open directories exceed [`BYTES_MAX`].
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

    /// Reports item `number`, if it is new and inherits more than a descriptor can hold; remembers the
    /// inheritance of a directory. `read` reads the entry's attributes, and is only called if they matter.
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

/// Whether an entry gets its descriptor by inheritance. An entry from the parent that has none in its tar is
/// not new, and gets none.
pub(super) fn inherits(metadata: &Win32Metadata) -> bool {
    metadata.origin.is_none() && metadata.security.is_none()
}
