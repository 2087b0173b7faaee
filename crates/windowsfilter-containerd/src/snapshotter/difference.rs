//! Diff: a snapshot's changes to its parent, as a layer's tar.

use std::io::Read;

use wclayer::filetime::FileTime;
use windowsfilter::LayerId;
use windowsfilter::diff::DiffOptions;

use super::Snapshotter;
use crate::error::Error;
use crate::records::{Kind, Record};

impl Snapshotter {
    /// The layer that turns `left`, a view, into `right`: for a view its layer unchanged, for a sandbox its
    /// changes up to now. `newest` (seconds and nanoseconds since 1970) limits the times of the changes.
    ///
    /// # Errors
    /// [`Error::Unrelated`] unless `left` shows the parent of `right`; changes that no Windows layer can
    /// hold.
    pub(crate) fn difference(
        &self,
        left: Option<&Record>,
        right: &Record,
        newest: Option<(i64, u32)>,
    ) -> Result<Box<dyn Read + Send>, Error> {
        let shown = |key: &str| key.chars().take(200).collect::<String>();
        let unrelated = |reason| {
            let left = left.map_or_else(|| "nothing".to_owned(), |left| shown(&left.key));
            Error::Unrelated { left, right: shown(&right.key), reason }
        };
        if left.is_some_and(|left| left.kind != Kind::View) {
            return Err(unrelated("the first of them has to be a view"));
        }
        let id = match (right.kind, &right.layer) {
            (Kind::Sandbox, _) => self.layer_id(right.number)?,
            (Kind::View, Some(layer)) => layer.clone(),
            (Kind::View, None) => return Err(unrelated("there is nothing in it")),
            _ => return Err(unrelated("it is neither a view nor a sandbox")),
        };
        let below: Option<LayerId> = left.and_then(|left| left.layer.clone());
        if self.store.chain_ids(&id)?.first() != below.as_ref() {
            return Err(unrelated("the first shows something else than the second stands on"));
        }
        Ok(match newest {
            Some((seconds, nanos)) => self.store.diff_until(&id, FileTime::from_unix(seconds, nanos))?,
            None => self.store.diff_with(&id, DiffOptions::default())?,
        })
    }
}
