//! Advice for words that are commands of other tools.

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words of Docker, containerd, Podman and skopeo, and what to type here.
const ELSEWHERE: [(&str, &str); 24] = [
    ("images", "`windowsfilter image ls` lists images"),
    ("import", "`windowsfilter image import` takes in an image, `windowsfilter layer apply` a layer"),
    ("load", "`windowsfilter image import` takes in what `docker save` wrote"),
    ("save", "`windowsfilter image export --format docker-archive` writes what `docker load` reads"),
    ("export", "`windowsfilter image export` writes an image, `windowsfilter layer diff` a layer"),
    (
        "pull",
        "`skopeo copy --override-os windows docker://NAME oci-archive:FILE`, then `windowsfilter image import FILE`",
    ),
    (
        "push",
        "`windowsfilter image export REF FILE --format oci-archive`, then `skopeo copy oci-archive:FILE docker://NAME`",
    ),
    ("rmi", "`windowsfilter image rm` removes images"),
    ("rm", "`windowsfilter layer rm` removes sandboxes and layers, `windowsfilter image rm` images"),
    ("ps", "`windowsfilter layer ls` lists sandboxes, and where they are mounted"),
    (
        "container",
        "`windowsfilter create`, `mount`, `commit` and `layer` work with sandboxes, which containers write to",
    ),
    ("tag", "`windowsfilter image tag` gives an image another name"),
    (
        "inspect",
        "`windowsfilter image inspect` shows an image, `windowsfilter layer inspect` a layer or sandbox",
    ),
    ("history", "`windowsfilter image inspect` shows how an image was made"),
    (
        "diff",
        "`windowsfilter layer changes` lists what a layer or sandbox changes, `windowsfilter layer diff` writes it as a tar",
    ),
    ("changes", "`windowsfilter layer changes` lists what a layer or sandbox changes"),
    ("apply", "`windowsfilter layer apply` makes a layer of a tar"),
    ("verify", "`windowsfilter layer verify` reads layers and checks them, `windowsfilter fsck` the store"),
    ("expand", "`windowsfilter layer expand` makes a sandbox larger"),
    (
        "run",
        "Windows programs are not run here; `windowsfilter create` and `windowsfilter mount` show an image's files",
    ),
    ("exec", "Windows programs are not run here; `windowsfilter mount` shows a sandbox's files"),
    ("build", "`windowsfilter create`, `mount`, `commit` make an image of what you change"),
    ("copy", "`windowsfilter cp` copies files out of an image"),
    ("version", "`windowsfilter --version` prints it"),
];

/// Adds the command of ours to the error for a word of other tools, and takes hidden commands and arguments
/// out of its suggestions.
pub(crate) fn explain(error: &mut clap::Error, command: &Command) {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let typed = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string);
            let known = ELSEWHERE.iter().find(|(word, _)| Some(*word) == typed.as_deref());
            if let Some((_, advice)) = known.filter(|_| is_top(error)) {
                error.remove(ContextKind::SuggestedSubcommand);
                let advice = vec![StyledStr::from(*advice)];
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(advice));
            }
        }
        ErrorKind::MissingSubcommand => {
            let hidden: Vec<&str> = hidden_commands(command);
            if let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand) {
                let shown = names.iter().filter(|name| !hidden.contains(&name.as_str())).cloned().collect();
                error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(shown));
            }
        }
        ErrorKind::UnknownArgument => {
            let suggested = error.get(ContextKind::SuggestedArg).map(ToString::to_string);
            let is_hidden = |argument: &clap::Arg| {
                argument.is_hide_set()
                    && argument.get_long() == suggested.as_deref().and_then(|s| s.strip_prefix("--"))
            };
            if command.get_arguments().any(is_hidden) {
                error.remove(ContextKind::SuggestedArg);
            }
        }
        _ => {}
    }
}

fn hidden_commands(command: &Command) -> Vec<&str> {
    command.get_subcommands().filter(|command| command.is_hide_set()).map(Command::get_name).collect()
}

/// Whether the word stands where `image` and `layer` do: `image load` is another mistake.
fn is_top(error: &clap::Error) -> bool {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    // Between the program and its options there is no other command.
    usage.split_whitespace().nth(2) == Some("[OPTIONS]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_commands_are_not_suggested() {
        let mut error = crate::command().try_get_matches_from(["windowsfilter", "-q"]).unwrap_err();
        explain(&mut error, &crate::command());
        let said = error.render().to_string();
        assert!(said.contains("umount, unmount,") && !said.contains("reclaim"), "{said}");
    }

    #[test]
    fn advice_names_commands_that_there_are() {
        let command = crate::command();
        for (word, advice) in ELSEWHERE {
            assert!(command.find_subcommand(word).is_none(), "{word} is a command by now");
            for words in advice.split('`').filter_map(|text| text.strip_prefix("windowsfilter ")) {
                let mut words = words.split(' ');
                let found = words.next().and_then(|name| command.find_subcommand(name));
                match (found, words.next()) {
                    (Some(group), Some(name)) if group.has_subcommands() => {
                        assert!(group.find_subcommand(name).is_some(), "{advice}");
                    }
                    (Some(_), _) => {}
                    (None, _) => assert!(advice.contains("--version"), "{advice}"),
                }
            }
        }
    }
}
