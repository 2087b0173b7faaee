//! Options that change an image's config, and what its history says: those of `image edit` and `commit`.

use windowsfilter_image::{CommandLine, ConfigEdits};

use crate::error::Error;
use crate::global::variable;

/// Changes of an image's config
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Config")]
pub(crate) struct ConfigArguments {
    /// Set an environment variable; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Remove an environment variable; may be given several times
    #[arg(long, value_name = "NAME")]
    unset_env: Vec<String>,
    /// Program to run: a JSON list of arguments, or a command line for the image's shell. It replaces the
    /// command too, unless --cmd is given; '' or [] removes both
    #[arg(long, value_name = "JSON|TEXT", value_parser = CommandLine::parse, allow_hyphen_values = true)]
    entrypoint: Option<CommandLine>,
    /// Arguments of the entrypoint, or the program where there is none: a JSON list or a command line
    #[arg(long, value_name = "JSON|TEXT", value_parser = CommandLine::parse, allow_hyphen_values = true)]
    cmd: Option<CommandLine>,
    /// Working directory; a relative one is below the image's
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// User, as in ContainerUser; '' removes it
    #[arg(long)]
    user: Option<String>,
    /// Set a label; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Add a port, as in 80, 53/udp or 8000-8010; may be given several times
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// Add a directory for a volume; may be given several times
    #[arg(long, value_name = "DIR")]
    volume: Vec<String>,
    /// Signal that ends a container: a number, or a name such as SIGTERM
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Version of Windows, as in 10.0.20348.2700
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
}

impl From<ConfigArguments> for ConfigEdits {
    fn from(arguments: ConfigArguments) -> Self {
        Self {
            env: arguments.env,
            unset_env: arguments.unset_env,
            entrypoint: arguments.entrypoint,
            cmd: arguments.cmd,
            workdir: arguments.workdir,
            user: arguments.user,
            labels: arguments.label,
            expose: arguments.expose,
            volumes: arguments.volume,
            stop_signal: arguments.stop_signal,
            os_version: arguments.os_version,
        }
    }
}

/// What the new history entries say
#[derive(Debug, Default, clap::Args)]
pub(crate) struct HistoryArguments {
    /// Author to record
    #[arg(long)]
    pub(crate) author: Option<String>,
    /// Comment to record
    #[arg(long, short)]
    pub(crate) message: Option<String>,
}

/// The time to record: that of the option, or of `SOURCE_DATE_EPOCH`, as reproducible-builds.org defines it.
pub(crate) fn created(option: Option<i64>) -> Result<Option<i64>, Error> {
    if option.is_some() {
        return Ok(option);
    }
    let Some(value) = variable("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let value = value.to_string_lossy().into_owned();
    let time = parse_time(&value);
    time.map(Some).map_err(|source| Error::Variable { name: "SOURCE_DATE_EPOCH", value, source })
}

/// Seconds since 1970, or a time as in RFC 3339.
pub(crate) fn parse_time(text: &str) -> Result<i64, jiff::Error> {
    text.parse().or_else(|_| text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second))
}
