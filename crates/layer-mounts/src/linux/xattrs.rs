//! Extended attributes of a path, as the kernel lists them.

use super::error::LinuxError;
use rustix::io::Errno;
use std::path::Path;

/// Most bytes the kernel returns for one value or one list. Source: `XATTR_SIZE_MAX`, `XATTR_LIST_MAX` of
/// `linux/limits.h`.
const KERNEL_MAX: usize = 65_536;

/// A name, such as `user.DOSATTRIB`, and its value.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// A name, and the length of its value, which was not read.
pub(super) type Other = (Vec<u8>, usize);

/// The names of all attributes, sorted by bytes. A final link is followed.
pub(super) fn names(path: &Path) -> Result<Vec<Vec<u8>>, LinuxError> {
    let mut list = vec![0_u8; KERNEL_MAX];
    let length = match rustix::fs::listxattr(path, &mut list[..]) {
        // A file system without attributes.
        Err(Errno::OPNOTSUPP) => 0,
        result => result.map_err(LinuxError::system("listxattr", path))?,
    };
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(<[u8]>::to_vec).collect();
    names.sort();
    Ok(names)
}

/// The value of one attribute.
pub(super) fn value(path: &Path, name: &[u8]) -> Result<Vec<u8>, LinuxError> {
    let mut value = vec![0_u8; KERNEL_MAX];
    let length =
        rustix::fs::getxattr(path, name, &mut value[..]).map_err(LinuxError::system("getxattr", path))?;
    Ok(value[..length].to_vec())
}

/// All attributes with their values, sorted by name.
pub(super) fn all(path: &Path) -> Result<Vec<Attribute>, LinuxError> {
    names(path)?.into_iter().map(|name| value(path, &name).map(|value| (name, value))).collect()
}

/// Like [`all`], but only those that are `wanted`. Of the others, which may be many and large, only the
/// lengths are read.
///
/// # Errors
/// More than `most` bytes of names and values.
pub(super) fn selected(
    path: &Path,
    wanted: impl Fn(&[u8]) -> bool,
    most: usize,
) -> Result<(Vec<Attribute>, Vec<Other>), LinuxError> {
    let mut taken = 0;
    let (mut attributes, mut others) = (Vec::new(), Vec::new());
    for name in names(path)? {
        if !wanted(&name) {
            let length =
                rustix::fs::getxattr_query(path, &name).map_err(LinuxError::system("getxattr", path))?;
            others.push((name, length));
            continue;
        }
        let value = value(path, &name)?;
        taken += name.len() + value.len();
        if taken > most {
            return Err(LinuxError::AttributesTooLarge { path: path.to_path_buf(), limit: most });
        }
        attributes.push((name, value));
    }
    Ok((attributes, others))
}
