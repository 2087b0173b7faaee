//! "Did you mean …?"

/// The candidate most like `word`, if one is so like it that the user probably meant it.
pub(crate) fn similar<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Two swapped neighbours are two edits.
    let limit = (word.chars().count() / 3).clamp(usize::from(!word.is_empty()) * 2, 8);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| distance <= limit && distance < candidate.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: how many characters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found_and_other_words_are_not() {
        let known = ["sample:ltsc2022", "servercore:ltsc2022", "box"];
        assert_eq!(similar("sampel:ltsc2022", known), Some("sample:ltsc2022"));
        assert_eq!(similar("Box", known), Some("box"));
        assert_eq!(similar("bxo", known), Some("box"));
        assert_eq!(similar("nanoserver", known), None);
        assert_eq!(similar("win", ["box"]), None);
        assert_eq!(similar("", known), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("a", "a")), (3, 3, 0));
    }
}
