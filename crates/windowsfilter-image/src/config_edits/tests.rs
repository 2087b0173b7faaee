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
    let document: serde_json::Value =
        serde_json::from_str(&edited(&format!("{{\"config\":{config}}}"), edits).0).unwrap();
    document["config"].clone()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn command(text: &str) -> Option<CommandLine> {
    Some(CommandLine::parse(text).unwrap())
}

fn refused(edits: &ConfigEdits) -> String {
    let step = Step { created: "", author: None, comment: None };
    edits.apply(&mut Object::default(), step).unwrap_err().to_string()
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
            entry("windowsfilter image edit --unset-env B"),
            entry(r"ENV PATH=C:\\app;C:\\Windows"),
            entry("ENV NEW=a=b"),
        )
    );
    let missing = ConfigEdits { unset_env: texts(&["none"]), ..ConfigEdits::default() };
    assert_eq!(edited("{}", &missing).1, ["the image has no environment variable none to remove"]);
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
    assert_eq!(edited("{}", &edits).1.len(), 1);
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
        serde_json::from_str(&edited(r#"{"config":{"WorkingDir":"C:\\"}}"#, &edits).0).unwrap();
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
            "windowsfilter image edit --os-version 10.0.20348.2700",
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
