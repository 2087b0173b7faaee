//! What commands print on standard output: text for people or one JSON document for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::Error;
use crate::interrupt;
use crate::stderr::Stderr;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    stderr: Stderr,
}

impl Output {
    /// Text, or JSON.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, stderr: Stderr::new(json, quiet) }
    }

    /// Whether the user wants neither notes nor progress.
    pub(crate) fn is_quiet(self) -> bool {
        self.stderr.is_quiet()
    }

    /// Where notes and failures go.
    pub(crate) fn stderr(self) -> Stderr {
        self.stderr
    }

    /// Prints `value` as JSON, or else what `text` writes.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        interrupt::finished();
        let mut out = io::BufWriter::new(io::stdout().lock());
        if self.json {
            // Before anything is printed: half a document is none.
            let mut document =
                serde_json::to_vec_pretty(value).map_err(io::Error::from).map_err(Error::Stdout)?;
            document.push(b'\n');
            out.write_all(&document).map_err(Error::Stdout)?;
        } else {
            text(&mut out).map_err(Error::Stdout)?;
        }
        out.flush().map_err(Error::Stdout)
    }

    /// Refuses `--json` where the output is a file's content.
    pub(crate) fn no_json(self, command: &'static str) -> Result<(), Error> {
        if self.json { Err(Error::NoJson { command }) } else { Ok(()) }
    }

    /// Prints something on standard error that the user should know and programs do not need.
    pub(crate) fn note(self, text: &str) {
        self.stderr.note(text);
    }
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows with a head, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; one cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints head and rows; no spaces at the ends of lines.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                match align {
                    Align::Left => line += &format!("{cell:<width$}  "),
                    Align::Right => line += &format!("{cell:>width$}  "),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(self.columns[column].0.len())
    }
}

/// Prints `name:  value` lines with the values below each other; a field without a name continues the one
/// before.
pub(crate) fn write_fields(out: &mut dyn Write, fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    for (name, value) in fields {
        let label = if name.is_empty() { String::new() } else { format!("{name}:") };
        writeln!(out, "{label:<width$}  {value}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("NOTE", Align::Left)]);
        table.row(["größer".into(), "1".into(), String::new()]);
        table.row(["a".into(), "12345".into(), "x".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let expected = "NAME     SIZE  NOTE\ngrößer      1\na       12345  x\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn values_stand_below_each_other() {
        let mut out = Vec::new();
        write_fields(&mut out, &[("id", "x".into()), ("entries", "3".into()), ("", "4".into())]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "id:       x\nentries:  3\n          4\n");
    }
}
