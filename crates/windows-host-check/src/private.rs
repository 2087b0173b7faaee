//! Hides private data in a report that users send to others: names of users and machines, and paths of this
//! machine.

/// Replacements for identifying texts.
#[derive(Debug, Default)]
pub(super) struct Private {
    /// Texts to find, in lower case, and their replacements. Longer ones first.
    replaced: Vec<(Vec<char>, String)>,
}

impl Private {
    /// Hides `texts`, each by its replacement. Paths match in any case and either slash.
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = (String, &'a str)>) -> Self {
        let mut replaced: Vec<(Vec<char>, String)> = texts
            .into_iter()
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, word)| (lower(&text), word.to_owned()))
            .collect();
        replaced.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self { replaced }
    }

    /// `text` without them, without the user in paths like `C:\Users\NAME` (names may have spaces), and
    /// without accounts of a machine or domain (`S-1-5-21-…`).
    pub(super) fn hide(&self, text: &str) -> String {
        let mut text: Vec<char> = text.chars().collect();
        for (find, word) in &self.replaced {
            text = replaced(&text, find, word);
        }
        let text = until(&text, r"\users\", |c| "\\/:\"'|,\n".contains(c), "<user>");
        let text = until(&text, "s-1-5-21-", |c| !c.is_ascii_digit() && c != '-', "<account>");
        text.into_iter().collect()
    }
}

/// Lower-cases one character to one, so that positions stay those of the text.
fn lower(text: &str) -> Vec<char> {
    text.chars().map(lower_char).collect()
}

fn lower_char(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

fn is_at(text: &[char], at: usize, find: &[char]) -> bool {
    text.len() >= at + find.len()
        && text[at..].iter().zip(find).all(|(&have, &wanted)| lower_char(have) == wanted)
}

/// Replaces `find` only as a whole word: a user's name may be `a`.
fn replaced(text: &[char], find: &[char], word: &str) -> Vec<char> {
    let is_word = |at: Option<&char>| at.is_some_and(|c| c.is_alphanumeric());
    let mut new = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let end = at + find.len();
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        if is_at(text, at, find) && !is_word(before) && !is_word(text.get(end)) {
            new.extend(word.chars());
            at = end;
        } else {
            new.push(text[at]);
            at += 1;
        }
    }
    new
}

/// Replaces the text after `start` by `word`, up to the first character for which `ends` is true.
fn until(text: &[char], start: &str, ends: impl Fn(char) -> bool, word: &str) -> Vec<char> {
    let start = lower(start);
    let mut new = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if !is_at(text, at, &start) {
            new.push(text[at]);
            at += 1;
            continue;
        }
        let from = at + start.len();
        new.extend(&text[at..from]);
        new.extend(word.chars());
        at = from + text[from..].iter().take_while(|&&c| !ends(c)).count();
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_in_a_report() {
        let texts = [
            (r"C:\check".to_owned(), "<dir>"),
            (r"C:\check\base.tar".to_owned(), "<base>"),
            ("jane".to_owned(), "<user>"),
            ("SRV-07".to_owned(), "<machine>"),
            (String::new(), "<nothing>"),
        ];
        let private = Private::new(texts);
        for (text, hidden) in [
            (
                r"\\?\c:\CHECK\home\box, [guid C:\check\home\base]",
                r"\\?\<dir>\home\box, [guid <dir>\home\base]",
            ),
            (r"open C:\check\base.tar", "open <base>"),
            (r"C:\checked is another", r"C:\checked is another"),
            (r"cannot start C:\Users\Jane.D\wf.exe", r"cannot start C:\Users\<user>\wf.exe"),
            (r"open 'C:\Users\Mary Ann\wf.exe'", r"open 'C:\Users\<user>\wf.exe'"),
            (r"c:\users\JANED~1\AppData", r"c:\users\<user>\AppData"),
            (r"SRV-07\Jane has it, janet has not", r"<machine>\<user> has it, janet has not"),
            ("O:S-1-5-21-1-2-3-1001D:(A;;FA;;;BA)", "O:S-1-5-21-<account>D:(A;;FA;;;BA)"),
            ("S-1-5-32-545", "S-1-5-32-545"),
            (r"\\?\Volume{74a47361-0000}", r"\\?\Volume{74a47361-0000}"),
        ] {
            assert_eq!(private.hide(text), hidden, "{text}");
        }
    }
}
