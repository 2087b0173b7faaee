//! Edits of configs as users write them, and of configs as builders and other programs leave them.

use super::*;

/// `config` after the edits, and the notes.
fn edited(config: &str, edits: &ConfigEdits) -> (String, Vec<String>) {
    let mut object = Object::parse("it", config.as_bytes()).unwrap();
    let step = Step { created: "1970-01-01T00:00:00Z", author: None, comment: None };
    let notes = edits.apply(&mut object, step).unwrap();
    (object.text(), notes)
}

/// What the object `config` is after the edits.
fn runs(config: &str, edits: &ConfigEdits) -> serde_json::Value {
    let config = format!("{{\"os\":\"windows\",\"config\":{config}}}");
    let document: serde_json::Value = serde_json::from_str(&edited(&config, edits).0).unwrap();
    document["config"].clone()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn command(text: &str) -> Option<CommandLine> {
    Some(CommandLine::parse(text).unwrap())
}

fn refused(edits: &ConfigEdits) -> String {
    refused_in(r#"{"os":"windows"}"#, edits)
}

/// Why the edits of this config are refused, with the causes.
fn refused_in(config: &str, edits: &ConfigEdits) -> String {
    let mut object = Object::parse("it", config.as_bytes()).unwrap();
    let step = Step { created: "", author: None, comment: None };
    let error = edits.apply(&mut object, step).unwrap_err();
    assert_eq!(object.text(), config, "nothing is changed");
    let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

#[test]
fn no_edit_changes_no_byte() {
    let config = r#"{"os":"windows","x-vendor":{"deep":[1.50,null]},"config":{"user":"x","Env":["A=1"]},"history":null}"#;
    assert_eq!(edited(config, &ConfigEdits::default()).0, config);
}

#[test]
fn variables_are_replaced_in_any_case_where_they_are() {
    let config = r#"{"config":{"Env":["Path=C:\\Windows","A=1","b=2"]},"history":[{"created_by":"x"}]}"#;
    let edits = ConfigEdits {
        env: texts(&["PATH=C:\\app;C:\\Windows", "NEW=a=b"]),
        unset_env: texts(&["B"]),
        ..ConfigEdits::default()
    };
    let entry = |step: &str| {
        format!(r#"{{"created":"1970-01-01T00:00:00Z","created_by":"{step}","empty_layer":true}}"#)
    };
    assert_eq!(
        edited(config, &edits).0,
        format!(
            r#"{{"config":{{"Env":["PATH=C:\\app;C:\\Windows","A=1","NEW=a=b"]}},"history":[{{"created_by":"x"}},{},{},{}]}}"#,
            entry("windowsfilter --unset-env B"),
            entry(r"ENV PATH=C:\\app;C:\\Windows"),
            entry("ENV NEW=a=b"),
        )
    );
    let missing = ConfigEdits { unset_env: texts(&["none"]), ..ConfigEdits::default() };
    let (same, notes) = edited("{}", &missing);
    assert_eq!(notes, ["the image has no environment variable none to remove"]);
    assert_eq!(same, "{}");
}

#[test]
fn the_first_argument_alone_decides_whether_it_is_escaped() {
    let base = r#"{"Cmd":["c:\\windows\\system32\\cmd.exe"]}"#;
    let with = |config: &str, entrypoint: Option<&str>, cmd: Option<&str>| {
        let edits = ConfigEdits {
            entrypoint: entrypoint.and_then(command),
            cmd: cmd.and_then(command),
            ..ConfigEdits::default()
        };
        runs(config, &edits)
    };
    // A list of arguments, which the runtime escapes; the old command was another program's.
    assert_eq!(
        with(base, Some(r#"["app.exe","a b"]"#), None),
        serde_json::json!({"Entrypoint": ["app.exe", "a b"]})
    );
    let shell = serde_json::json!({"Entrypoint": ["cmd /S /C app \"a b\" | more"], "ArgsEscaped": true});
    assert_eq!(with(base, Some("app \"a b\" | more"), None), shell);
    // Arguments behind it change nothing of that.
    let config = r#"{"Entrypoint":["cmd /S /C app"],"ArgsEscaped":true}"#;
    assert_eq!(with(config, None, Some(r#"["--x"]"#))["ArgsEscaped"], true);
    let config = r#"{"Entrypoint":["app.exe"]}"#;
    assert!(with(config, None, Some("--x"))["ArgsEscaped"].is_null());
    // Without an entrypoint the command is the first.
    assert_eq!(
        with(base, None, Some("dir")),
        serde_json::json!({"Cmd": ["cmd /S /C dir"], "ArgsEscaped": true})
    );
    let escaped = r#"{"Cmd":["cmd /S /C dir"],"ArgsEscaped":true}"#;
    assert_eq!(with(escaped, None, Some(r#"["dir.exe"]"#)), serde_json::json!({"Cmd": ["dir.exe"]}));
    // The image's own shell.
    let config = r#"{"Shell":["powershell","-Command"]}"#;
    assert_eq!(with(config, Some("Get-Item ."), None)["Entrypoint"][0], "powershell -Command Get-Item .");
    assert_eq!(with(escaped, Some(""), None), serde_json::json!({}));
}

#[test]
fn a_command_line_behind_an_entrypoint_is_said_to_be_odd() {
    let edits =
        ConfigEdits { entrypoint: command(r#"["a"]"#), cmd: command("b c"), ..ConfigEdits::default() };
    assert_eq!(edited(r#"{"os":"windows"}"#, &edits).1.len(), 1);
}

#[test]
fn history_has_what_docker_would_have_written() {
    let edits = ConfigEdits {
        labels: texts(&["a=b"]),
        entrypoint: command(r#"["C:\\app.exe","x"]"#),
        workdir: Some("app".into()),
        user: Some("ContainerUser".into()),
        stop_signal: Some("15".into()),
        expose: texts(&["80-81", "53/udp"]),
        volumes: texts(&["C:/data"]),
        os_version: Some("10.0.20348.2700".into()),
        ..ConfigEdits::default()
    };
    let document: serde_json::Value =
        serde_json::from_str(&edited(r#"{"os":"windows","config":{"WorkingDir":"C:\\"}}"#, &edits).0)
            .unwrap();
    let steps: Vec<&str> =
        document["history"].as_array().unwrap().iter().map(|e| e["created_by"].as_str().unwrap()).collect();
    assert_eq!(
        steps,
        [
            "LABEL a=b",
            r#"ENTRYPOINT ["C:\\app.exe" "x"]"#,
            r"WORKDIR C:\app",
            "USER ContainerUser",
            "STOPSIGNAL 15",
            "EXPOSE 80-81",
            "EXPOSE 53/udp",
            "VOLUME [C:/data]",
            "windowsfilter --os-version 10.0.20348.2700",
        ]
    );
    assert_eq!(document["os.version"], "10.0.20348.2700");
    let config = &document["config"];
    assert_eq!(config["ExposedPorts"], serde_json::json!({"80/tcp": {}, "81/tcp": {}, "53/udp": {}}));
    assert_eq!((&config["Volumes"]["C:/data"], &config["Labels"]["a"]), (&json!({}), &json!("b")));
}

/// Labels differ in case, fields of the config do not.
#[test]
fn labels_are_told_apart_by_case_and_fields_are_not() {
    let config = r#"{"labels":{"Name":"old","name":"other"},"workingdir":"C:\\x"}"#;
    let edits =
        ConfigEdits { labels: texts(&["name=new"]), workdir: Some("y".into()), ..ConfigEdits::default() };
    let expected = json!({"labels": {"Name": "old", "name": "new"}, "workingdir": "C:\\x\\y"});
    assert_eq!(runs(config, &edits), expected);
}

#[test]
fn what_no_config_can_have_is_refused_with_its_option() {
    let with = |change: fn(&mut ConfigEdits)| {
        let mut edits = ConfigEdits::default();
        change(&mut edits);
        refused(&edits)
    };
    let message = with(|edits| edits.env.push("A".into()));
    assert_eq!(message, "--env \"A\": expected NAME=VALUE");
    assert!(with(|edits| edits.unset_env.push("A=1".into())).starts_with("--unset-env"));
    assert!(with(|edits| edits.labels.push("=1".into())).starts_with("--label"));
    assert!(with(|edits| edits.workdir = Some("C:x".into())).starts_with("--workdir"));
    assert!(with(|edits| edits.expose.push("http".into())).starts_with("--expose"));
    assert!(with(|edits| edits.volumes.push(String::new())).starts_with("--volume"));
    assert!(with(|edits| edits.stop_signal = Some("a b".into())).starts_with("--stop-signal"));
    assert!(with(|edits| edits.os_version = Some("2022".into())).starts_with("--os-version"));
    assert!(CommandLine::parse("[\"C:\\app\"]").unwrap_err().contains("backslash"));
}

/// BuildKit on Linux tells names apart by case, so images built there have both; Windows takes the last.
#[test]
fn a_variable_that_an_image_has_twice_is_set_once() {
    let edits = ConfigEdits { env: texts(&["PATH=C:\\c"]), ..ConfigEdits::default() };
    let twice = r#"{"Env":["A=1","Path=C:\\a","B=2","PATH=C:\\b"]}"#;
    assert_eq!(runs(twice, &edits), json!({"Env": ["A=1", "PATH=C:\\c", "B=2"]}));
    let edits =
        ConfigEdits { env: texts(&["X=1", "x=2"]), unset_env: texts(&["path"]), ..ConfigEdits::default() };
    assert_eq!(runs(twice, &edits), json!({"Env": ["A=1", "B=2", "x=2"]}));
    let none = ConfigEdits { unset_env: texts(&["a"]), ..ConfigEdits::default() };
    assert_eq!(runs(r#"{"Env":["A=1"]}"#, &none), json!({}));
}

#[test]
fn many_edits_of_a_large_config_take_no_time() {
    let variables: Vec<String> = (0..200_000).map(|number| format!("v{number}=1")).collect();
    let config = json!({"os": "windows", "config": {"Env": variables}}).to_string();
    let edits = ConfigEdits {
        env: (0..20_000).map(|number| format!("V{number}=2")).collect(),
        unset_env: (20_000..40_000).map(|number| format!("v{number}")).collect(),
        expose: texts(&["1-65535", "1-65535/udp"]),
        ..ConfigEdits::default()
    };
    let start = std::time::Instant::now();
    let document: serde_json::Value = serde_json::from_str(&edited(&config, &edits).0).unwrap();
    // Without optimisation, on a busy machine; with a search for each it was minutes.
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    assert_eq!(document["config"]["Env"].as_array().unwrap().len(), 180_000);
    assert_eq!(document["config"]["ExposedPorts"].as_object().unwrap().len(), 131_070);
}

/// What the builders have left in images: BuildKit says `ArgsEscaped` with every CMD.
#[test]
fn a_path_that_windows_would_cut_at_its_space_is_said() {
    let edits = ConfigEdits { cmd: command(r#"["y"]"#), ..ConfigEdits::default() };
    let with = |entrypoint: &str| {
        let runs = json!({"Entrypoint": [entrypoint], "Cmd": ["x"], "ArgsEscaped": true});
        edited(&json!({"os": "windows", "config": runs}).to_string(), &edits).1.len()
    };
    assert_eq!(with(r"C:\Program Files\a.exe"), 1);
    assert_eq!(with(r"cmd /S /C app"), 0);
    assert_eq!(with(r#""C:\Program Files\a.exe" -x"#), 0);
    assert_eq!(with("app.exe"), 0);
}

#[test]
fn a_text_is_a_list_only_if_it_begins_as_one_of_strings() {
    let line = |text: &str| CommandLine::Shell(text.to_owned());
    assert_eq!(CommandLine::parse("[Console]::Beep()").unwrap(), line("[Console]::Beep()"));
    assert_eq!(CommandLine::parse(" [ ] ").unwrap(), CommandLine::List(vec![]));
    assert_eq!(CommandLine::parse(r#"[ "a" ]"#).unwrap(), CommandLine::List(vec!["a".into()]));
    assert!(CommandLine::parse(r#"["a""#).is_err() && CommandLine::parse("[").is_err());
}

#[test]
fn history_is_quoted_as_go_quotes() {
    let edits = ConfigEdits {
        entrypoint: Some(CommandLine::List(vec!["a\u{7}\u{1b}\u{a0}\u{e4}\"\\\t".into()])),
        ..ConfigEdits::default()
    };
    let document: serde_json::Value = serde_json::from_str(&edited("{}", &edits).0).unwrap();
    let step = document["history"][0]["created_by"].as_str().unwrap();
    assert_eq!(step, "ENTRYPOINT [\"a\\a\\x1b\\u00a0\u{e4}\\\"\\\\\\t\"]");
}

#[test]
fn configs_are_read_as_go_reads_them() {
    let workdir = ConfigEdits { workdir: Some("b".into()), ..ConfigEdits::default() };
    let null = r#"{"WorkingDir":"C:\\a","workingdir":null}"#;
    assert_eq!(runs(null, &workdir)["workingdir"], "C:\\a\\b", "null sets nothing");
    let label = ConfigEdits { labels: texts(&["b=2"]), ..ConfigEdits::default() };
    let emptied = r#"{"Labels":{"a":"1"},"labels":null}"#;
    assert_eq!(runs(emptied, &label)["labels"], json!({"b": "2"}), "null empties a map");
    let env = ConfigEdits { env: texts(&["a=1"]), ..ConfigEdits::default() };
    let message = refused_in(r#"{"config":{"Env":"x"}}"#, &env);
    assert_eq!(message, "the image's config cannot be read: config.Env: it is not a list");
    let cmd = ConfigEdits { cmd: command("a"), ..ConfigEdits::default() };
    let message = refused_in(r#"{"os":"windows","config":{"Shell":[5]}}"#, &cmd);
    assert!(message.starts_with("the image's config cannot be read: config.Shell"), "{message}");
}

#[test]
fn command_lines_and_directories_are_windows_own() {
    let cmd = ConfigEdits { cmd: command("a b"), ..ConfigEdits::default() };
    let message = refused_in(r#"{"os":"linux"}"#, &cmd);
    assert!(message.starts_with("--cmd \"a b\": command lines are for Windows"), "{message}");
    let workdir = ConfigEdits { workdir: Some("/a".into()), ..ConfigEdits::default() };
    assert!(refused_in(r#"{"os":"linux"}"#, &workdir).starts_with("--workdir"));
    let list = ConfigEdits { cmd: command(r#"["a"]"#), ..ConfigEdits::default() };
    assert!(edited(r#"{"os":"linux"}"#, &list).0.contains(r#""Cmd":["a"]"#));
}
