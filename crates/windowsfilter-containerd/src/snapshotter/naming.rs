//! Names of a snapshot's things in the layer store: the IDs of its sandbox and staged layer, and its name
//! as owner and holder.

use std::path::PathBuf;

use windowsfilter::{LayerId, LayerStore};

use crate::error::Error;

/// File name of the records in a set's directory.
pub(crate) const RECORDS: &str = "snapshots.redb";

/// The directory that has a subdirectory for each set of snapshots.
pub(crate) fn sets_dir(store: &LayerStore) -> PathBuf {
    store.root().join("containerd")
}

/// The ID of a snapshot's sandbox or staged layer, also used as its owner and holder name.
///
/// # Errors
/// The set's name is invalid.
pub(crate) fn id(set: &str, number: u64) -> Result<LayerId, Error> {
    Ok(LayerId::of_server(&format!("{set}-{number}"))?)
}

/// The set and number in `name`; `None` if no server uses such a name.
pub(crate) fn parts(name: &str) -> Option<(String, u64)> {
    let given = LayerId::new(name).ok()?;
    let (set, number) = given.servers_part()?.rsplit_once('-')?;
    let number: u64 = number.parse().ok()?;
    // Only the canonical form counts: `containerd-default-07` does not.
    (check_set(set).is_ok() && id(set, number).ok()? == given).then(|| (set.to_owned(), number))
}

/// Refuses an invalid set name.
///
/// # Errors
/// [`Error::Name`].
pub(crate) fn check_set(set: &str) -> Result<(), Error> {
    let fits = (1..=32).contains(&set.len());
    if fits && set.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(Error::Name { name: set.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_server_gives_are_taken_apart() {
        assert_eq!(parts("containerd-default-7"), Some(("default".to_owned(), 7)));
        assert_eq!(parts(id("k8s", 12).unwrap().as_str()), Some(("k8s".to_owned(), 12)));
        for other in
            ["containerd-default-07", "Containerd-default-7", "containerd-a-b-7", "containerd-7", "x"]
        {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
