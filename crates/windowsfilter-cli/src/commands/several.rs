//! Work on several things: each is tried, even if others fail.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::Error;
use crate::session::Session;

/// Does `work` to each of `names` and prints what was done: as JSON, one document for one name, and a list
/// for several. Those it cannot be done to are reported, and the first of these errors is the answer.
pub(crate) fn each<T: Serialize>(
    session: &Session,
    names: &[String],
    work: impl Fn(&str) -> Result<T, Error>,
    text: impl Fn(&T, &mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let (mut done, mut failed) = (Vec::new(), None);
    for name in names {
        match work(name) {
            Ok(result) => done.push(result),
            Err(error) if error.is_interruption() => return Err(error),
            Err(error) if failed.is_none() => failed = Some(error),
            // The first one is reported at the end.
            Err(error) => drop(error.report_to(session.output.stderr())),
        }
    }
    match (names, done.as_slice()) {
        ([_], []) => {}
        ([_], [only]) => session.output.print(only, |out| text(only, out))?,
        _ => session.output.print(&done, |out| done.iter().try_for_each(|result| text(result, out)))?,
    }
    failed.map_or(Ok(()), Err)
}
