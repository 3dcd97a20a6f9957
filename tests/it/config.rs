//! `config check` and `config show`.

use crate::cli::Place;

#[test]
fn the_settings_in_force_are_shown() {
    let place = Place::new("[server]\nlisten = \"127.0.0.1:1\"\n[auth]\napi_tokens = [\"hidden-hidden-hidden\"]");
    let ended = place.run_with(&[("REPLYVAULT_FETCH__PER_HOST", "3")], &["config", "show"]);
    for line in [
        "listen = \"127.0.0.1:1\"  # config.toml",
        "per_host = 3  # REPLYVAULT_FETCH__PER_HOST",
        "api_tokens = [\"…\"]  # config.toml",
        "max_size = \"4GiB\"",
    ] {
        assert!(ended.result().lines().any(|other| other == line), "{line}\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("hidden"));
    // The file that comes along says what is built in.
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    let values = |text: &str| text.lines().map(|line| line.split("  #").next().unwrap().to_owned()).collect::<Vec<_>>();
    let bare = Place::new("");
    std::fs::copy(example, bare.path("other.toml")).unwrap();
    let shown = bare.run(&["--config", "other.toml", "config", "show"]);
    assert_eq!(values(shown.result()), values(bare.run(&["config", "show"]).result()));
}

#[test]
fn a_check_says_ok_and_leaves_nothing_behind() {
    let place = Place::new("");
    let ended = place.run(&["config", "check"]);
    assert_eq!(ended.result(), "ok built-in defaults: data in data, media in file:data/bucket\n");
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 0);
    std::fs::create_dir(place.path("etc")).unwrap();
    std::fs::write(place.path("etc/vault.toml"), "[data]\ndir = \"d\"").unwrap();
    let ended = place.run(&["config", "check", "--config", "etc/vault.toml"]);
    assert_eq!(ended.result(), "ok etc/vault.toml: data in etc/d, media in file:etc/data/bucket\n");
    let ended = place.run_with(&[("REPLYVAULT_SERVER__LISTEN", "[::]:80")], &["config", "check"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.starts_with("replyvault: warning: built-in defaults: server.public_url: "), "{ended:?}");
}

#[test]
fn a_check_warns_of_endpoints_that_the_outbound_policy_forbids() {
    let check = |url: &str, fetch: &str| {
        let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let endpoint = format!("[[notify.endpoints]]\nname = \"a\"\nurl = \"{url}\"\nsecret = \"{secret}\"");
        let ended = Place::new(&format!("{endpoint}\n[fetch]\n{fetch}")).run(&["config", "check"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stderr
    };
    for (url, fetch, reason) in [
        ("http://hooks.example/", "", "the URL is http"),
        ("https://10.0.0.1/", "", "host 10.0.0.1 has the private address"),
        ("https://169.254.169.254/", "allow_private_addresses = true", "host 169.254.169.254 has the "),
    ] {
        let said = check(url, fetch);
        let expected = format!("replyvault: warning: config.toml: notify.endpoints[0].url: {reason}");
        assert!(said.contains(&expected), "{url}: {said}");
    }
    let allowed = "allow_http = true\nallow_private_addresses = true";
    for (url, fetch) in [("https://hooks.example/", ""), ("http://10.0.0.1/", allowed)] {
        assert!(!check(url, fetch).contains("notify.endpoints"), "{url}");
    }
}

#[test]
fn a_configuration_error_is_one_line_and_exit_code_2() {
    for (config, expected) in [
        ("[server]\nlisten_on = 1", "config.toml: server.listen_on: unknown key, "),
        ("[server]\nlisen = 1", "config.toml: server.lisen: unknown key, did you mean server.listen?"),
        ("[server\n", "config.toml:1:8: expected TOML: "),
        ("[server]\npublic_url = \"vault\"", "config.toml: server.public_url: expected an http or https URL"),
        ("[storage]\nurl = \"media\"", "config.toml: storage.url: expected file:<directory>, "),
        ("[gateway]\nenabled = true", "config.toml: gateway.enabled: expected provider.api_token, "),
        (
            "[storage]\nurl = \"s3://media\"\nendpoint = \"https://s3.example.com\"",
            "config.toml: storage.url: s3://media/: expected S3 credentials: access_key_id and secret_access_key, or ",
        ),
        (
            "[storage]\nurl = \"s3://media\"\nendpoint = \"http://h\"\naccess_key_id = \"a\"\nsecret_access_key = \"b\"",
            "config.toml: storage.endpoint: expected an https URL, or allow_http = true",
        ),
        // Below a file there is no directory, not even for root.
        (
            "[data]\ndir = \"config.toml/data\"",
            "config.toml: data.dir: config.toml/data: expected a directory that can be ",
        ),
        (
            "[storage]\nurl = \"file:config.toml\"",
            "config.toml: storage.url: config.toml: expected a directory that can be ",
        ),
    ] {
        let place = Place::new(config);
        let ended = place.run(&["config", "check"]);
        assert!(ended.line(2).starts_with(expected), "{config}\n{ended:?}");
    }
    let place = Place::new("[data]\ndir = \"config.toml/data\"");
    for arguments in [
        &["serve"][..],
        &["reply-url"],
        &["wait", "a"],
        &["get", "a"],
        &["notify", "test"],
        &["refs", "add", "--reply-ref", "a"],
        &["verify"],
        &["rebuild"],
    ] {
        let ended = place.run_with(&[("REPLYVAULT_LOG", "off")], arguments);
        let expected = "config.toml: data.dir: config.toml/data: expected a directory that can be made";
        assert!(ended.line(2).starts_with(expected), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn the_environment_counts_only_where_it_means_us() {
    let place = Place::new("");
    let injected = [
        ("REPLYVAULT_PORT", "tcp://10.0.0.1:8080"),
        ("REPLYVAULT_SERVICE_HOST", "10.0.0.1"),
        ("REPLYVAULT_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("REPLYVAULT_SERVER__PUBLIC_URL", ""),
    ];
    assert_eq!(place.run_with(&injected, &["config", "show"]).result(), place.run(&["config", "show"]).result());
    let ended = place.run_with(&[("REPLYVAULT_SERVER__LISTN", "x")], &["config", "show"]);
    assert_eq!(ended.line(2), "REPLYVAULT_SERVER__LISTN: server.listn: unknown key, did you mean server.listen?");
}
