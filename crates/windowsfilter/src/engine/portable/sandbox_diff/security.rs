//! Security descriptors of what a sandbox made: what Windows would give it, by inheritance from the directory it is in.

use std::cell::OnceCell;

use crate::engine::portable::linux::upper::UpperKind;
use crate::error::Error;
use crate::metadata::Win32Metadata;
use wclayer::security::{SecurityDescriptor, SecurityError, Sid};

use super::entry::{leads_to_directory, recorded};
use super::parent::Parent;
use super::plan::Entry;
use super::problems::Problems;
use super::tree::Tree;

/// Descriptor of `C:\` in a server's container, for a parent that does not say what its root has. The ACEs and their order
/// are those that `icacls C:\` prints in `servercore:ltsc2022` (moby/buildkit, issue 4731).
const ROOT_SDDL: &str = "O:SYG:SYD:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)\
                         (A;CI;0x4;;;BU)(A;CIIO;0x2;;;BU)(A;;0x1200a9;;;WD)";

/// Owner of what is made in a container by its usual user, ContainerAdministrator: `dir /q` shows `BUILTIN\Administrators`
/// (jenkinsci/docker-workflow-plugin, pull request 117).
const OWNER: Sid = Sid::ADMINISTRATORS;

/// Its primary group: `Get-Acl` shows `O:BAG:SY` of what is made in a container (Kubernetes, "Projected Volumes"). Windows
/// itself does not look at the group.
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

    /// What a directory in this one passes on: its own descriptor, or where it has none (or none that can be read), what it
    /// would have inherited.
    fn inside(&self, own: Option<&[u8]>) -> Self {
        let own = own.and_then(|bytes| SecurityDescriptor::parse(bytes).ok());
        Self::new(own.unwrap_or_else(|| self.child(true)), false)
    }
}

/// What the directories on the way to an entry pass on. Entries are visited depth first, so no others are kept.
#[derive(Debug)]
pub(super) struct Directories {
    above_root: Inheritance,
    /// The item of each directory, outermost first.
    open: Vec<(usize, Inheritance)>,
}

impl Directories {
    pub(super) fn new() -> Self {
        Self { above_root: Inheritance::above_root(), open: Vec::new() }
    }

    /// What entries of the directory with this item inherit; of the root's own item, which is in no directory: what it gets.
    pub(super) fn of(&mut self, directory: usize) -> &Inheritance {
        while self.open.last().is_some_and(|(item, _)| *item != directory) {
            self.open.pop();
        }
        self.innermost()
    }

    fn innermost(&self) -> &Inheritance {
        self.open.last().map_or(&self.above_root, |(_, inside)| inside)
    }

    /// Goes into a directory of the innermost one, which has its `own` descriptor or none.
    pub(super) fn enter(&mut self, item: usize, own: Option<&[u8]>) {
        let inside = self.innermost().inside(own);
        self.open.push((item, inside));
    }

    /// Says of a new entry that it inherits more than a descriptor can hold; remembers what a directory passes on.
    pub(super) fn check(
        &mut self,
        tree: &Tree,
        parent: &impl Parent,
        number: usize,
        item: &Entry<'_>,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        let metadata = recorded(parent, item)?;
        let inheritance = self.of(item.directory);
        let is_directory = matches!(item.upper.kind, UpperKind::Directory { .. });
        let mut own = metadata.security.clone();
        if inherits(&metadata) {
            let inherited = match &item.upper.kind {
                // Where a link leads is looked up only if it matters.
                UpperKind::Symlink { target }
                    if inheritance.of_new(true).is_err() || inheritance.of_new(false).is_err() =>
                {
                    inheritance.of_new(leads_to_directory(tree, parent, item, target, &metadata)?)
                }
                _ => inheritance.of_new(is_directory),
            };
            match inherited {
                Ok(bytes) if is_directory => own = Some(bytes.to_vec()),
                Ok(_) => {}
                Err(error) => {
                    let problem = format!("inherits more than a security descriptor holds: {error}");
                    problems.add(&item.upper.path, &problem);
                }
            }
        }
        if is_directory {
            self.enter(number, own.as_deref());
        }
        Ok(())
    }
}

/// Whether an entry gets its descriptor by inheritance. What the parent's tar had none for was never new; none is invented.
pub(super) fn inherits(metadata: &Win32Metadata) -> bool {
    metadata.origin.is_none() && metadata.security.is_none()
}
