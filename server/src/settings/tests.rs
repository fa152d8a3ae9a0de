//! Promises of the table, the sources and their merge.

use std::{collections::BTreeMap, path::Path, time::Duration};

use clap::{Args, Command, FromArgMatches};

use super::{
    Changes, DefaultRoute, Flags, Loaded, Options, Reload, RuntimeKind, SECTIONS, Setting, Shape,
    Source, describe, table::SETTINGS,
};
use crate::owner::UnixOwner;

fn flags(given: &[&str]) -> Result<Flags, String> {
    let command = Flags::augment_args(Command::new("rsockd"));
    let matches = command.try_get_matches_from(["rsockd"].iter().chain(given));
    matches.and_then(|matches| Flags::from_arg_matches(&matches)).map_err(|error| error.to_string())
}

fn load(
    given: &[&str],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Loaded, Vec<String>> {
    let flags = flags(given).map_err(|error| vec![error])?;
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let file = file.map(|text| (Path::new("rsockd.toml"), text));
    Loaded::merge(&flags, variables, file).map_err(|problems| problems.0)
}

fn parse(given: &[&str]) -> Result<Options, String> {
    load(given, &[], None).map(|loaded| loaded.options).map_err(|problems| problems.join("\n"))
}

#[test]
fn the_flags_are_sound() {
    Flags::augment_args(Command::new("rsockd")).debug_assert();
}

#[test]
fn names_are_unique_and_defaults_are_what_they_say() {
    let mut names = BTreeMap::new();
    for setting in SETTINGS {
        assert_eq!(setting.flag, setting.key.replace('_', "-"));
        assert!(!SECTIONS.contains(&setting.key));
        for name in [setting.key.to_owned(), setting.variable()] {
            assert_eq!(names.insert(name.clone(), setting.key), None, "{name}");
        }
        // What is shown is read as the same.
        let texts = (setting.show)(&Options::default());
        let mut options = Options::default();
        (setting.set)(&mut options, &texts).expect("a default");
        assert_eq!(options, Options::default(), "{}", setting.key);
    }
    assert_eq!(parse(&[]), Ok(Options::default()));
}

#[test]
fn flags_set_what_they_name() {
    let options = parse(&[
        "--listen=tcp://[::1]:1",
        "--listen=ws://h:2",
        "--unix-mode=0660",
        "--unix-owner=12:34",
        "--subprotocol=a.rsocket",
        "--subprotocol=rsocket",
        "--default-route=none",
        "--max-frame=65536",
        "--max-error-text=100",
        "--setup-timeout=1m 500ms",
        "--mtu=64",
        "--resume-window=0s",
        "--max-newcomers=7",
        "--max-http-connections=9",
        "--max-http-connections-per-address=8",
        "--http-idle-timeout=5",
        "--max-sessions-per-address=8",
        "--max-topics=500",
        "--max-topics-per-connection=7",
        "--lease=100",
        "--runtime=per-core",
        "--workers=3",
    ]);
    let expected = Options {
        listen: vec!["tcp://[::1]:1".to_owned(), "ws://h:2".to_owned()],
        unix_mode: Some(0o660),
        unix_owner: Some(UnixOwner { user: Some(12), group: Some(34) }),
        subprotocol: vec!["a.rsocket".to_owned(), "rsocket".to_owned()],
        default_route: DefaultRoute::None,
        max_frame: 65_536,
        max_error_text: 100,
        setup_timeout: Duration::from_millis(60_500),
        mtu: 64,
        resume_window: Duration::ZERO,
        max_newcomers: 7,
        max_http_connections: 9,
        max_http_connections_per_address: Some(8),
        http_idle_timeout: Duration::from_secs(5),
        max_sessions_per_address: Some(8),
        max_topics: 500,
        max_topics_per_connection: Some(7),
        lease: Some(100),
        runtime: RuntimeKind::PerCore,
        workers: Some(3),
        ..Options::default()
    };
    assert_eq!(options, Ok(expected));
    for (flag, is_on) in [("--accept-damage", true), ("--accept-damage=false", false)] {
        assert_eq!(parse(&[flag]).expect(flag).accept_damage, is_on);
    }
}

#[test]
fn wrong_values_are_told_what_is_wrong() {
    for (flag, expected) in [
        ("--max-connections=0", "a whole number from 1 to 4294967295"),
        ("--max-streams=many", "a whole number from 1 to 4294967295"),
        ("--max-sessions=-1", "a whole number from 1 to 4294967295"),
        ("--max-frame=16777216", "from 1024 to 16777215"),
        ("--setup-timeout=0s", "more than 0"),
        ("--part-timeout=soon", "it is not a time: write 500ms, 10s, 5m"),
        ("--memory-max=50%", "a share of the machine's memory cannot be given; a size is"),
        ("--memory-max=512", "at least 1MiB; a size is a whole number with kB"),
        ("--mtu=63", "from 64 to 16777215"),
        ("--unix-mode=0888", "an octal number up to 0777"),
        ("--unix-mode=1777", "an octal number up to 0777"),
        ("--unix-owner=:", "USER, USER:GROUP or :GROUP"),
        ("--subprotocol=a b", "of letters, digits and"),
        ("--default-route=", "it is empty"),
        ("--runtime=both", "it must be shared or per-core"),
        ("--proxy-protocol=v3", "off, any, v1 or v2"),
        ("--proxy-trust=10.0.0.0/33", "is no network"),
        ("--tls-min=1.1", "1.2 or 1.3"),
        ("--allow-origin=app.example", "not an origin: it must be https://HOST"),
        ("--allow-host=https://a", "not a host: it must be a name or an address"),
        ("--bytes-in-per-second=100", "from 65536 to 4294967295"),
        ("--tls-client-auth=maybe", "required or optional"),
        ("--workers=0", "from 1 to 1024"),
        ("--log=loud", "\"loud\" is not a level"),
        ("--lisen=x", "a similar argument exists: '--listen'"),
    ] {
        let error = parse(&[flag]).expect_err(flag);
        assert!(error.contains(expected), "{flag}: {error}");
    }
}

/// Two values of each setting that are neither its default nor each other.
fn examples(setting: &Setting) -> [&'static str; 3] {
    match (setting.key, setting.value) {
        ("listen", _) => ["tcp://a:1", "tcp://b:2", "tcp://c:3"],
        ("runtime", _) => ["per-core", "shared", "per-core"],
        (_, "FORMAT") => ["json", "text", "json"],
        ("client_address", _) => ["forwarded", "x-forwarded-for", "forwarded"],
        ("proxy_protocol", _) => ["any", "v1", "v2"],
        (_, "ADDRESS") => ["http://a:1", "https://b:2", "http://c:3"],
        (_, "NETWORK") => ["10.0.0.0/8", "::1", "fd00::/8"],
        ("console", _) => ["on", "off", "auto"],
        ("tls_client_auth", _) => ["optional", "required", "optional"],
        (_, "VERSION") => ["1.3", "1.2", "1.3"],
        (_, "FILE") => ["/a.pem", "/b.pem", "/c.pem"],
        (_, "YES") => ["true", "false", "true"],
        (_, "NAME") => ["a", "b", "c"],
        (_, "MODE") => ["0600", "0660", "0666"],
        (_, "OWNER") => ["1", "2:3", ":4"],
        (_, "TIME") => ["1ms", "2ms", "3ms"],
        (_, "SIZE") => ["1MiB", "2MiB", "3MiB"],
        (_, "RULE") => ["a.>=durable", "b.>=latest,max_keys=5", "c=memory,age=7d"],
        (_, "DIR") => ["/a", "/b", "/c"],
        (_, "FILTER") => ["warn", "error", "debug"],
        (_, "ORIGIN") => ["https://a.example", "http://b.example:81", "null"],
        (_, "HOST") => ["a.example", "b.example:81", "localhost"],
        (_, "BYTES") => ["70000", "80000", "90000"],
        _ => ["1024", "1023", "1022"],
    }
}

/// Whatever sources give it, the strongest wins, and is named.
#[test]
fn the_strongest_source_wins() {
    for setting in SETTINGS {
        let [of_file, of_variable, of_flag] = examples(setting);
        let is_bare = setting.is_number || setting.shape == Shape::Switch;
        let quoted = if is_bare { of_file.to_owned() } else { format!("'{of_file}'") };
        let file = match setting.shape {
            Shape::List => format!("\n{} = [{quoted}]", setting.key),
            _ => format!("\n{} = {quoted}", setting.key),
        };
        let variable = match setting.shape {
            Shape::List => format!("[\"{of_variable}\"]"),
            _ => of_variable.to_owned(),
        };
        let flag = format!("--{}={of_flag}", setting.flag);
        let name = setting.variable();
        for sources in 0..8 {
            let given: &[&str] = if sources & 4 > 0 { &[&flag] } else { &[] };
            let variables: &[(&str, &str)] =
                if sources & 2 > 0 { &[(&name, &variable)] } else { &[] };
            let loaded = load(given, variables, (sources & 1 > 0).then_some(&file));
            let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
            let at = SETTINGS.iter().position(|other| other.key == setting.key).expect("itself");
            let (source, text) = match sources {
                4.. => (Source::Flag, of_flag),
                2.. => (Source::Environment, of_variable),
                1 => (Source::File(2), of_file),
                _ => (Source::Default, ""),
            };
            assert_eq!(loaded.sources[at], source, "{} of {sources:03b}", setting.key);
            if sources > 0 {
                assert_eq!(
                    (setting.show)(&loaded.options),
                    [text],
                    "{} of {sources:03b}",
                    setting.key
                );
            }
        }
    }
}

#[test]
fn a_misspelt_name_is_told_with_the_one_that_was_meant() {
    for setting in SETTINGS {
        let key = setting.key;
        let misspelt = format!("{}{}", &key[..key.len() - 1], '_');
        let problems = load(&[], &[], Some(&format!("# first\n  {misspelt} = 1"))).expect_err(key);
        let expected = format!("rsockd.toml:2:3: unknown key {misspelt:?}, is it {key:?}?");
        // Of a short word no guess is made.
        if key.len() > 3 {
            assert_eq!(problems, [expected]);
        }
        let variable = setting.variable();
        let problems = load(&[], &[(&format!("{variable}S"), "1")], None).expect_err(key);
        assert_eq!(problems, [format!("{variable}S: no such variable, is it {variable:?}?")]);
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let file = "max_streams = 0\nlog = ['a', 'b']\ntopic = ['a.>=big']\nmtu = 'x'\nnothing = 1\n";
    let variables = [("RSOCKD_LEASE", "0"), ("RSOCKD_LISTEN", "[1]"), ("RSOCKD_OTHER", "x")];
    let problems = load(&[], &variables, Some(file)).expect_err("wrong");
    let begins = [
        "rsockd.toml:1:15: max_streams: it must be a whole number from 1",
        "rsockd.toml:2:7: log: it is one value, and no list",
        "rsockd.toml:3:10: topic: unknown variant `big`",
        "rsockd.toml:4:7: mtu: it must be a whole number from 64",
        "rsockd.toml:5:1: unknown key \"nothing\"",
        "RSOCKD_LEASE: it must be a whole number",
        "RSOCKD_LISTEN: it is not a JSON array of strings",
        "RSOCKD_OTHER: no such variable",
    ];
    let mut problems_of_file: Vec<_> = problems.iter().map(String::as_str).collect();
    problems_of_file.sort_unstable_by_key(|problem| !problem.starts_with("rsockd.toml"));
    assert_eq!(problems.len(), begins.len(), "{problems:#?}");
    for begin in begins {
        assert!(
            problems.iter().any(|problem| problem.starts_with(begin)),
            "{begin}: {problems:#?}"
        );
    }
    let problems = load(&[], &[], Some("a = \nb")).expect_err("no TOML");
    assert!(problems[0].starts_with("rsockd.toml:"), "{problems:?}");
}

#[test]
fn lists_and_rules_have_their_forms_in_each_source() {
    let file = "
        topic = ['a.>=durable', { pattern = 'b.>', kind = 'latest', max_keys = 7 }]
        listen = 'tcp://a:1'
        max_streams = 0x10
        memory_max = '2GiB'
    ";
    let loaded = load(&[], &[], Some(file)).expect("right");
    let topics = loaded.options.topic.iter().map(ToString::to_string);
    assert_eq!(topics.collect::<Vec<_>>(), ["a.>=durable", "b.>=latest,max_keys=7"]);
    assert_eq!(loaded.options.listen, ["tcp://a:1"]);
    assert_eq!(loaded.options.max_streams, 16);
    let file = "
        [[topic]]
        pattern = 'orders.>'
        kind = 'durable'
        retention.age = '7d'
        sync.every_ms = 20
    ";
    let loaded = load(&[], &[], Some(file)).expect("right");
    let rule = loaded.options.topic[0].to_string();
    assert_eq!(rule, "orders.>=durable,retention.age=7d,sync.every_ms=20");
    let variables = [
        ("RSOCKD_LISTEN", "tcp://a:1, ws://b:2"),
        ("RSOCKD_TOPIC", "[\"a=durable,age=1s\", \"b=latest\"]"),
        // None of a name that is empty, or that others make.
        ("RSOCKD_MTU", ""),
        ("RSOCKD_CONFIG", "elsewhere"),
        ("RSOCKD_SERVICE_HOST", "10.0.0.1"),
        ("RSOCKD_PORT_7878_TCP", "tcp://10.0.0.1:7878"),
    ];
    let loaded = load(&[], &variables, None).expect("right");
    assert_eq!(loaded.options.listen, ["tcp://a:1", "ws://b:2"]);
    assert_eq!(loaded.options.topic.len(), 2);
}

#[test]
fn changes_are_told_by_the_time_at_which_they_act() {
    let load = |file| load(&[], &[], Some(file)).expect("right");
    let before = load("max_streams = 5");
    assert_eq!(before.changes_since(&before), Changes::default());
    let after = load("log = 'warn'\nmtu = 100\nlisten = []");
    let changes = Changes {
        live: vec!["log"],
        new_connections: vec!["max_streams", "mtu"],
        restart: vec!["listen"],
    };
    assert_eq!(after.changes_since(&before), changes);
}

/// What a file to begin with says is what there is without one.
#[test]
fn the_file_to_begin_with_has_the_defaults() {
    let file = describe::default_file();
    assert_eq!(load(&[], &[], Some(&file)).expect("comments").options, Options::default());
    let begins = |line: &str| {
        let key = line.strip_prefix('#')?.split(' ').next()?;
        SETTINGS.iter().find(|setting| setting.key == key && line.contains(" = "))
    };
    let (keys, sections) = file.split_once("\n# Who comes in, and").expect("sections behind them");
    let settings: Vec<_> = keys.lines().filter(|line| begins(line).is_some()).collect();
    assert_eq!(settings.len(), SETTINGS.len());
    let all: String = settings.iter().map(|line| format!("{}\n", &line[1..])).collect();
    let sections = sections.lines().skip(1).map(|line| format!("{}\n", &line[1..]));
    let sections: String = sections.collect();
    let whole = load(&[], &[], Some(&sections)).expect("each is right");
    assert!(whole.options.access.is_some_and(|access| access.is_config));
    toml::from_str::<rsock_access::AccessSettings>(&sections)
        .expect("of the right form")
        .rules()
        .expect("rules that can be kept");
    load(&[], &[], Some(&all)).expect("each is right");
    let defaults = settings.iter().filter(|line| !line.ends_with("# by default none"));
    let defaults: String = defaults.map(|line| format!("{}\n", &line[1..])).collect();
    assert_eq!(load(&[], &[], Some(&defaults)).expect("right").options, Options::default());
}

#[test]
fn what_is_shown_is_what_is_read() {
    let file = "max_streams = 7\ntopic = ['a.>=durable']\nlog = 'warn'";
    let loaded = load(&["--lease=5"], &[("RSOCKD_MTU", "100")], Some(file)).expect("right");
    let shown = describe::effective(&loaded);
    for line in [
        "max_streams = 7  # file, line 1",
        "topic = [\"a.>=durable\"]  # file, line 2",
        "lease = 5  # flag",
        "mtu = 100  # environment",
        "max_warnings = 5  # default",
        "#data =  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert_eq!(load(&[], &[], Some(&shown)).expect("right").options, loaded.options);
}

/// It is written by `rsockd config doc > docs/configuration.md`.
#[test]
fn the_page_is_the_one_in_the_repository() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(place).expect("it is there");
    // Both as a whole would be many screens.
    let is_same = page == describe::page();
    assert!(is_same, "it is older: rsockd config doc > docs/configuration.md");
}

#[test]
fn the_schema_has_each_setting() {
    let schema: serde_json::Value = serde_json::from_str(&describe::schema()).expect("JSON");
    let properties = schema["properties"].as_object().expect("an object");
    assert_eq!(properties.len(), SETTINGS.len() + SECTIONS.len());
    assert!(SECTIONS.iter().all(|section| properties.contains_key(*section)));
    assert_eq!(schema["properties"]["max_streams"]["default"], Options::default().max_streams);
    assert_eq!(schema["properties"]["max_streams"]["type"], "integer");
    assert_eq!(schema["properties"]["listen"]["items"]["type"], "string");
}

#[test]
fn limits_of_connections_are_for_new_ones() {
    let of = |class| SETTINGS.iter().filter(move |setting| setting.reload == class);
    assert_eq!(of(Reload::NewConnections).count(), 10);
    let live: Vec<_> = of(Reload::Live).map(|setting| setting.key).collect();
    assert_eq!(live, ["allow_origin", "allow_host", "max_warnings", "log"]);
    // Each of them is a bound of connections that come when it has been read anew.
    let before = format!("{:?}", Options::default().config());
    for setting in of(Reload::NewConnections) {
        let [value, ..] = examples(setting);
        let options = parse(&[&format!("--{}={value}", setting.flag)]).expect(setting.key);
        assert_ne!(format!("{:?}", options.config()), before, "{}", setting.key);
    }
}

/// Who comes in may stand in the file of settings, and then nowhere else.
#[test]
fn who_comes_in_stands_in_the_file_or_in_another() {
    let file =
        "max_streams = 7\n[auth]\nanonymous = ['a']\n[[grant]]\nroles = ['a']\nroutes = ['x']";
    let loaded = load(&[], &[], Some(file)).expect("right");
    let access = loaded.options.access.clone().expect("it is there");
    assert!(access.is_config && access.path.ends_with("rsockd.toml"));
    assert!(describe::effective(&loaded).contains("rsockd.toml\"  # file, line 2"));
    let two = load(&["--access=other.toml"], &[], Some(file)).expect_err("twice");
    assert!(
        two[0].contains(":2: who comes in stands here, and --access names other.toml"),
        "{two:?}"
    );
    let slip = load(&[], &[], Some("[[grants]]\nroles = []")).expect_err("unknown");
    assert!(slip[0].contains("unknown key \"grants\", is it \"grant\"?"), "{slip:?}");
}

/// As secrets come to containers: the variable names a file that has the value.
#[test]
fn a_variable_may_name_the_file_with_its_value() {
    let file = std::env::temp_dir().join(format!("rsockd-value-{}", std::process::id()));
    std::fs::write(&file, "77\n").expect("it can be written");
    let path = file.display().to_string();
    let of_file = ("RSOCKD_MAX_STREAMS_FILE", path.as_str());
    let loaded = load(&[], &[of_file], None).expect("right");
    assert_eq!(loaded.options.max_streams, 77);
    let twice = load(&[], &[of_file, ("RSOCKD_MAX_STREAMS", "5")], None).expect_err("twice");
    assert!(twice[0].contains("it is set twice"), "{twice:?}");
    std::fs::write(&file, "many").expect("it can be written");
    let wrong = load(&[], &[of_file], None).expect_err("no number");
    assert!(wrong[0].contains("a whole number"), "{wrong:?}");
    std::fs::remove_file(&file).expect("it is there");
    let missing = load(&[], &[of_file], None).expect_err("no file");
    assert!(missing[0].contains("RSOCKD_MAX_STREAMS_FILE: cannot read"), "{missing:?}");
    let unknown = load(&[], &[("RSOCKD_MAX_STREMS_FILE", "x")], None).expect_err("unknown");
    assert!(unknown[0].contains("no such variable"), "{unknown:?}");
}
