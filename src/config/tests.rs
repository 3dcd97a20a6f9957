use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../config.toml");

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    Config::parse(text, "config.toml", Path::new(""), variables(environment)).map_err(|error| error.to_string())
}

fn plain(config: &Config) -> toml::Table {
    toml::Table::try_from(config).unwrap()
}

#[test]
fn the_example_is_the_defaults() {
    let example = parse(EXAMPLE, &[]).unwrap();
    assert_eq!(plain(&example), plain(&Config::default()));
    assert_eq!(Config::default().fetch.allowed_hosts.len(), 18);
    assert!(example.warnings().is_empty(), "{:?}", example.warnings());
}

#[test]
fn the_example_has_every_key_and_a_line_on_each() {
    let key = |line: &str| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let (key, _) = line.split_once(" = ")?;
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| key.to_owned())
    };
    let (mut found, mut optional) = (Vec::new(), Vec::new());
    let mut before = "";
    for line in EXAMPLE.lines() {
        if let Some(section) = line.strip_prefix('[') {
            found.push((section.trim_end_matches(']').to_owned(), Vec::new()));
        } else if let (Some(key), Some((section, keys))) = (key(line), found.last_mut()) {
            optional.extend(line.strip_prefix("# ").map(|line| (section.clone(), line)));
            // The pair of S3 keys shares one.
            assert!(before.starts_with("# ") || key == "secret_access_key", "{line}");
            keys.push(key);
        }
        before = line;
    }
    let known =
        keys::sections().map(|(name, keys)| (name.to_owned(), keys.iter().map(|key| (*key).to_owned()).collect()));
    assert_eq!(found, known.to_vec());
    // What is commented out is accepted once it is not, but for what is not available yet.
    // Those that go in pairs are looked at elsewhere.
    let in_pairs = |line: &str| line.contains("access_key") || line.contains("tls_") || line.contains("postgres");
    for (section, line) in optional.into_iter().filter(|(_, line)| !in_pairs(line)) {
        // "…" stands for a token, which has to be visible ASCII, or for a key in base64.
        let text = format!("[{section}]\n{}", line.replace('…', "abcdefghijklmnopqrstuvwxyzABCDEF"));
        if let Err(error) = parse(&text, &[]) {
            assert!(error.ends_with("is not available in this version"), "{error}");
        }
    }
}

/// TOML text, and the whole error or the part that matters.
const WRONG: &[(&str, &str)] = &[
    ("[server\n", "config.toml:1:8: expected TOML: "),
    ("\n[server]\nlisten = 8080x", "config.toml:3:"),
    ("[auth]\napi_tokens = [hidden]", "config.toml:2:15: expected TOML: "),
    ("[auth]\napi_tokens = [\"hidden\" \"hidden\"]", "config.toml:2:"),
    ("[auth]\napi_tokens = \"hidden", "config.toml:2:"),
    (
        "[auth]\nreply_secrets = [\"hidden\"]\nreply_secrets = [\"hidden\"]",
        "config.toml:3:1: expected TOML: duplicate key",
    ),
    (
        "[cluster]\npostgres = \"mysql://hidden\"",
        "config.toml: cluster.postgres: expected a URL that begins with postgres://",
    ),
    (
        "[cluster]\npostgres = \"postgres://u:hidden@127.0.0.1/d\"",
        "config.toml: auth.reply_secrets: expected at least one key, the same for every replica, since cluster.postgres is set",
    ),
    (
        "[auth]\nreply_secrets = [\"hidden\"]\n[cluster]\npostgres = \"postgres://u@127.0.0.1/d\"",
        "config.toml: auth.api_tokens: expected at least one token, the same for every replica",
    ),
    ("server = 5", "config.toml: server: expected a section: [server]"),
    ("[servr]", "config.toml: servr: unknown section, did you mean server?"),
    ("colour = 1", "config.toml: colour: unknown section, expected one of server, data, auth,"),
    ("[server]\nlisten_on = \"x\"", "config.toml: server.listen_on: unknown key, "),
    ("[server]\nmax_size = \"1MiB\"", "config.toml: server.max_size: unknown key, did you mean fetch.max_size?"),
    (
        "[server]\nlisten = \"8080\"",
        "config.toml: server.listen: expected an address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\", found \"8080\"",
    ),
    (
        "[server]\nlisten = [1]",
        "config.toml: server.listen: expected an address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\", found a list",
    ),
    ("[server]\npublic_url = \"vault\"", "config.toml: server.public_url: expected an http or https URL such as"),
    ("[server]\npublic_url = \"http://h/?a=b\"", "config.toml: server.public_url: expected a URL without a query"),
    ("[server]\nmax_callback_size = \"1B\"", "config.toml: server.max_callback_size: expected 1KiB to 64MiB, found 1B"),
    (
        "[server]\nmax_callback_size = \"65MiB\"",
        "config.toml: server.max_callback_size: expected 1KiB to 64MiB, found 65MiB",
    ),
    (
        "[server]\nshutdown_grace = 30",
        "config.toml: server.shutdown_grace: expected a duration such as \"30s\" or \"31d\", found 30",
    ),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"x\"]",
        "config.toml: server.trusted_proxies[1]: expected an address or network such as",
    ),
    (
        "[server]\ntls_certificate = \"c.pem\"",
        "config.toml: server.tls_certificate: expected together with server.tls_key, or neither",
    ),
    (
        "[server]\ntls_key = \"c.pem\"",
        "config.toml: server.tls_key: expected together with server.tls_certificate, or neither",
    ),
    ("[data]\ndir = 5", "config.toml: data.dir: expected a text in quotes, found integer `5`"),
    (
        "[auth]\nunknown_refs = \"ignore\"",
        "config.toml: auth.unknown_refs: expected \"adopt\" or \"reject\", found \"ignore\"",
    ),
    ("[auth]\napi_tokens = [\"\"]", "config.toml: auth.api_tokens[0]: expected a text that is not empty"),
    ("[auth]\napi_tokens = \"hidden\"", "config.toml: auth.api_tokens: expected a list such as [\"…\"]"),
    ("[auth]\napi_tokens = [12345]", "config.toml: auth.api_tokens[0]: expected a text in quotes"),
    (
        "[auth]\napi_tokens = [\"hidden\\n\"]",
        "config.toml: auth.api_tokens: expected visible ASCII characters, without spaces and line ends",
    ),
    ("[auth]\nreply_secrets = \"hidden\"", "config.toml: auth.reply_secrets: expected a list such as [\"…\"]"),
    (
        "[[auth.tokens]]\nname = \"a\"\ntoken = \"hidden\"\nscope = \"write\"",
        "config.toml: auth.tokens[0].scope: expected \"read\" or \"admin\"",
    ),
    ("[[auth.tokens]]\nname = \"a\"\ntoken = \"hidden\"", "config.toml: auth.tokens[0]: missing key `scope`"),
    (
        "[[auth.tokens]]\nname = \"a\"\ntoken = \"hidden\"\nscope = \"read\"\nhost = 1",
        "config.toml: auth.tokens[0].host: unknown key `host`, expected one of `name`, `token`, `scope`",
    ),
    (
        "auth.tokens = [{ name = \"a\", token = \"x\", scope = \"read\" }, { name = \"a\", token = \"y\", scope = \"read\" }]",
        "config.toml: auth.tokens: expected a name of 1 to 64 characters for each, all different",
    ),
    (
        "auth.tokens = [{ name = \"\", token = \"x\", scope = \"read\" }]",
        "config.toml: auth.tokens: expected a name of 1",
    ),
    (
        "[auth]\napi_tokens = [\"x\"]\ntokens = [{ name = \"a\", token = \"x\", scope = \"read\" }]",
        "config.toml: auth.tokens: expected every token only once",
    ),
    (
        "[storage]\nurl = \"az://c\"",
        "config.toml: storage.url: expected file:<directory>, s3://<bucket>/<prefix>, gs://<bucket>/<prefix> or memory:, found \"az://c\"",
    ),
    ("[storage]\nendpoint = \"s3.example.com\"", "config.toml: storage.endpoint: expected an http or https URL"),
    ("[storage]\nregion = \"\"", "config.toml: storage.region: expected a region"),
    (
        "[storage]\naccess_key_id = \"hidden\"",
        "config.toml: storage.access_key_id: expected together with storage.secret_access_key, or neither",
    ),
    (
        "[storage]\nsecret_access_key = \"hidden\"",
        "config.toml: storage.secret_access_key: expected together with storage.access_key_id, or neither",
    ),
    (
        "[storage]\nkey = \"{kind}/{file}\"",
        "config.toml: storage.key: expected {job} in a part before {file}, as in {kind}/{job}/{file}, found \"{kind}/{file}\"",
    ),
    (
        "[storage]\nurl = \"s3://media\"\npart_size = \"4MiB\"",
        "config.toml: storage.part_size: expected 5MiB to 5GiB (what the store takes), found 4MiB",
    ),
    (
        "[storage]\npart_size = \"100KiB\"",
        "config.toml: storage.part_size: expected at least 429497B, since a file of 4GiB (fetch.max_size) has 10000 parts at most",
    ),
    ("[storage]\npart_size = 0", "config.toml: storage.part_size: expected 1B to 5GiB, found 0B"),
    ("[storage]\nsidecars = \"yes\"", "config.toml: storage.sidecars: expected true or false, found string \"yes\""),
    (
        "[fetch]\nallowed_hosts = [\"https://h\"]",
        "config.toml: fetch.allowed_hosts[0]: expected a host without scheme, port or path",
    ),
    ("[fetch]\nmax_size = \"big\"", "config.toml: fetch.max_size: expected a size such as \"4GiB\", found \"big\""),
    (
        "[fetch]\nmax_size = \"100GiB\"",
        "config.toml: fetch.max_size: expected 1B to 80000MiB (10000 times storage.part_size), found 100GiB",
    ),
    ("[fetch]\nconcurrency = 0", "config.toml: fetch.concurrency: expected a whole number from 1 to 10000, found 0"),
    ("[fetch]\nper_host = \"8\"", "config.toml: fetch.per_host: expected a whole number from 1 to 10000, found \"8\""),
    (
        "[fetch]\nmax_attempts = 1001",
        "config.toml: fetch.max_attempts: expected a whole number from 1 to 1000, found 1001",
    ),
    ("[fetch]\nmax_attempts = -1", "config.toml: fetch.max_attempts: expected a whole number from 1 to 1000, found -1"),
    ("[fetch]\nidle_timeout = \"0s\"", "config.toml: fetch.idle_timeout: expected more than 0s"),
    (
        "[fetch]\nmin_speed = \"16KiB\"",
        "config.toml: fetch.min_speed: expected a speed such as \"16KiB/s\", found \"16KiB\"",
    ),
    (
        "[fetch]\nwatermark = \"none\"",
        "config.toml: fetch.watermark: expected \"prefer-clean\" or \"clean-only\", found \"none\"",
    ),
    (
        "[provider]\nconfirm = true",
        "config.toml: provider.api_token: expected a token to ask with, since provider.confirm is true",
    ),
    ("[provider]\napi_token = 5", "config.toml: provider.api_token: expected a text in quotes"),
    (
        "[provider]\nbase_url = \"https://h/?key=hidden\"",
        "config.toml: provider.base_url: expected a URL without a query",
    ),
    (
        "[gateway]\nenabled = true",
        "config.toml: gateway.enabled: expected provider.api_token, gateway.provider_tokens or both with it",
    ),
    ("[gateway]\nprovider_tokens = [\"a b\"]", "config.toml: gateway.provider_tokens: expected visible ASCII"),
    ("[notify]\nurl = \"https://h/hidden\"", "config.toml: notify.url: unknown key, did you mean storage.url?"),
    ("[notify]\nsecret = \"hidden\"", "config.toml: notify.secret: expected whsec_ and 24 to 64 bytes in base64"),
    ("[notify]\nsecret = []", "config.toml: notify.secret: expected whsec_ and 24 to 64 bytes in base64"),
    (
        "[[notify.endpoints]]\nname = \"a\"\nurl = \"hidden\"\nsecret = \"hidden\"",
        "config.toml: notify.endpoints[0].url: expected an http or https URL such as \"https://vault.example.com\"",
    ),
    (
        "[[notify.endpoints]]\nname = \"a b\"\nurl = \"https://h\"\nsecret = \"hidden\"",
        "config.toml: notify.endpoints[0].name: expected a name of 1 to 64 letters, digits",
    ),
    (
        "[[notify.endpoints]]\nname = \"a\"\nurl = \"https://h\"\nsecret = \"hidden\"",
        "config.toml: notify.endpoints[0].secret: expected whsec_ and 24 to 64 bytes in base64",
    ),
    (
        "[[notify.endpoints]]\nname = \"a\"\nurl = \"https://h\"\nsecret = \"hidden\"\nevents = [\"job.hidden\"]",
        "config.toml: notify.endpoints[0].events[0]: expected one of job.archived, job.failed",
    ),
    ("[storage]\npresign_expiry = \"8d\"", "config.toml: storage.presign_expiry: expected 1s to 7d, found 8d"),
    ("[storage]\npublic_url = \"https://h/?a\"", "config.toml: storage.public_url: expected a URL without a query"),
    (
        "[fetch]\nmax_size = \"\\u001b[2J\\nforged\"",
        "config.toml: fetch.max_size: expected a size such as \"4GiB\", found \"\\u{1b}[2J\\nforged\"",
    ),
    ("[server]\n\"a\\nb\" = 1", "config.toml: server.a\\nb: unknown key, expected one of"),
];

#[test]
fn errors_are_one_line_with_place_key_and_what_was_expected() {
    for (text, expected) in WRONG {
        let error = parse(text, &[]).expect_err(text);
        assert!(error.starts_with(expected), "{text}\n{error}\n{expected}");
        assert!(!error.contains('\n') && !error.contains("hidden") && !error.contains("12345"), "{error}");
    }
    let long = format!("[server]\npublic_url = \"https://h/{}\"", "a".repeat(900));
    assert!(parse(&long, &[]).unwrap_err().ends_with("expected at most 900 characters, found 910"));
}

#[test]
fn the_environment_goes_over_the_file() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\n[fetch]\nmax_size = \"1GiB\"";
    let config = parse(
        text,
        &[
            ("REPLYVAULT_SERVER__LISTEN", "0.0.0.0:8080"),
            ("REPLYVAULT_FETCH__ALLOWED_HOSTS", "[\"cdn.example.com\"]"),
            ("REPLYVAULT_FETCH__ALLOW_HTTP", "true"),
            ("REPLYVAULT_FETCH__CONCURRENCY", "3"),
            ("REPLYVAULT_FETCH__MAX_SIZE", ""),
            ("REPLYVAULT_STORAGE__PART_SIZE", "16777216"),
            ("REPLYVAULT_STORAGE__REGION", "5"),
            ("REPLYVAULT_AUTH__TOKENS", "[{ name = \"a\", token = \"abcdefghijklmnop\", scope = \"read\" }]"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.fetch.allowed_hosts, ["cdn.example.com".parse().unwrap()]);
    assert!(config.fetch.allow_http && config.fetch.concurrency == 3 && config.fetch.max_size == Size(1 << 30));
    assert_eq!((config.storage.part_size, config.storage.region.as_deref()), (Size(16 << 20), Some("5")));
    assert_eq!(config.auth.tokens[0].scope, Scope::Read);
    let shown = config.show();
    for line in [
        "listen = \"0.0.0.0:8080\"  # REPLYVAULT_SERVER__LISTEN",
        "max_size = \"1GiB\"  # config.toml",
        "public_url = \"http://127.0.0.1:8080\"",
    ] {
        assert!(shown.lines().any(|other| other == line), "{line}\n{shown}");
    }
}

#[test]
fn an_invalid_environment_value_names_its_variable() {
    for (name, value, expected) in [
        ("REPLYVAULT_SERVER__LISTN", "x", "server.listn: unknown key, did you mean server.listen?"),
        ("REPLYVAULT_SERVR__LISTEN", "x", "servr: unknown section, did you mean server?"),
        ("REPLYVAULT_SERVER__LISTEN__X", "x", "server.listen__x: unknown key, "),
        ("REPLYVAULT_SERVER__LISTEN", "x", "server.listen: expected an address and a port"),
        ("REPLYVAULT_FETCH__ALLOW_HTTP", "yes", "fetch.allow_http: expected true or false, found \"yes\""),
        ("REPLYVAULT_FETCH__CONCURRENCY", "many", "fetch.concurrency: expected a whole number, found \"many\""),
        ("REPLYVAULT_FETCH__CONCURRENCY", "0", "fetch.concurrency: expected a whole number from 1 to 10000, found 0"),
        ("REPLYVAULT_FETCH__ALLOWED_HOSTS", "a, b", "fetch.allowed_hosts: expected a list in TOML's syntax such as"),
        ("REPLYVAULT_AUTH__API_TOKENS", "hidden", "auth.api_tokens: expected a list in TOML's syntax such as"),
        ("REPLYVAULT_AUTH__API_TOKENS", "[\"hid den\"]", "auth.api_tokens: expected visible ASCII characters"),
        ("REPLYVAULT_NOTIFY__SECRET", "hidden", "notify.secret: expected whsec_ and 24 to 64 bytes in base64"),
    ] {
        let error = parse("", &[(name, value)]).expect_err(name);
        assert!(error.starts_with(&format!("{name}: {expected}")), "{error}");
        assert!(!error.contains("hid"), "{error}");
    }
}

#[test]
fn environment_variables_of_a_cluster_are_harmless() {
    let injected = [
        ("REPLYVAULT_PORT", "tcp://10.0.0.1:8080"),
        ("REPLYVAULT_SERVICE_HOST", "10.0.0.1"),
        ("REPLYVAULT_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("REPLYVAULT_LOG", "debug"),
        ("REPLYVAULT__PORT", "1"),
        ("SERVER__LISTEN", "x"),
        ("REPLYVAULT_SERVR__LISTEN", ""),
    ];
    assert_eq!(plain(&parse("", &injected).unwrap()), plain(&Config::default()));
}

#[test]
fn relative_paths_start_at_the_file() {
    let read = |text: &str| Config::parse(text, "f", Path::new("/etc/vault"), []).unwrap();
    let config = read("");
    assert_eq!(config.data.dir, Path::new("/etc/vault/data"));
    assert_eq!(config.storage.url.to_string(), "file:/etc/vault/data/bucket");
    let config = read("data.dir = \"/srv/data\"\nstorage.url = \"file:my%20bucket%25\"");
    assert_eq!(config.data.dir, Path::new("/srv/data"));
    assert_eq!(config.storage.url.to_string(), "file:/etc/vault/my bucket%25");
}

#[test]
fn secrets_are_shown_nowhere() {
    let text = "[auth]\napi_tokens = [\"hidden1\"]\nreply_secrets = [\"hidden2\"]\n\
                tokens = [{ name = \"a\", token = \"hidden3\", scope = \"read\" }]\n\
                [storage]\naccess_key_id = \"hidden4\"\nsecret_access_key = \"hidden5\"\n\
                [provider]\napi_token = \"hidden6\"\n[gateway]\nprovider_tokens = [\"hidden7\"]\n[notify]\nsecret = \"whsec_hidden8hidden8hidden8hidden8hidd\"\n\
                endpoints = [{ name = \"a\", url = \"https://h/?hidden9\", secret = [\"whsec_hidden9hidden9hidden9hidden9hidd\"] }]";
    let config = parse(text, &[]).unwrap();
    let shown = config.show();
    assert_eq!(shown.matches("\"…\"").count(), 9, "{shown}");
    assert!(!shown.contains("hidden") && !format!("{config:?}").contains("hidden"), "{config:?}");
    let warnings = config.warnings().join("\n");
    assert!(warnings.contains("auth.api_tokens: one has fewer than 16 characters") && !warnings.contains("hidden"));
    assert!(!format!("{:?}", config.credentials().unwrap()).contains("hidden"));
    let shown: toml::Table = shown.parse().unwrap();
    assert_eq!(shown["auth"]["api_tokens"][0].as_str(), Some(Secret::MASK));
}

#[test]
fn the_shown_configuration_can_be_read_again() {
    let config = parse("[server]\nlisten = \"[::]:1\"\n[fetch]\nmin_speed = 0", &[]).unwrap();
    assert_eq!(plain(&parse(&config.show(), &[]).unwrap()), plain(&config));
}

#[test]
fn an_announced_address_that_only_this_machine_knows_is_warned_of() {
    let config = parse("[server]\nlisten = \"0.0.0.0:8080\"", &[]).unwrap();
    assert!(
        config.warnings()[0].starts_with("built-in defaults: server.public_url: ")
            || config.warnings()[0].starts_with("config.toml: server.public_url: ")
    );
    let config = parse("[server]\nlisten = \"0.0.0.0:8080\"\npublic_url = \"https://vault.example.com\"", &[]).unwrap();
    assert!(config.warnings().is_empty());
}

#[test]
fn a_file_that_can_not_be_read_is_said() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("none.toml")] {
        let error = Config::load(Some(&path), []).unwrap_err().to_string();
        assert!(error.contains("expected a configuration file that can be read: "), "{error}");
    }
}

#[test]
fn credentials_are_what_is_configured_else_made() {
    let directory = tempfile::tempdir().unwrap();
    let read = |text: &str| Config::parse(text, "f", directory.path(), []).unwrap().credentials().unwrap();
    let auth = "[auth]\napi_tokens = [\"t\"]\nreply_secrets = [\"key\"]";
    let urls = Config::parse(auth, "f", directory.path(), []).unwrap().reply_urls();
    assert!(urls.is_ok() && !directory.path().join("data").exists());
    // The journal's key is made all the same, and shown to nobody.
    assert!(!read(auth).made && directory.path().join("data/secrets.toml").exists());
    let made = read("");
    assert!(made.made && !read("").made);
    assert_eq!(made.api_tokens.len(), 1);
    let url = made.reply_urls.reply_url(&crate::domain::Target::Channel);
    assert_eq!(read("").reply_urls.reply_url(&crate::domain::Target::Channel), url);
    // What is configured goes first: what was made no longer counts.
    let named = read("auth.tokens = [{ name = \"a\", token = \"t\", scope = \"read\" }]");
    assert_eq!((named.api_tokens.len(), named.api_tokens[0].name.as_str()), (1, "a"));
    assert!(named.admin_token().is_none() && made.admin_token().is_some());
}

#[test]
fn a_variable_that_moves_what_the_file_says_is_warned_of() {
    let is_warned = |text: &str| {
        let config = parse(text, &[("REPLYVAULT_STORAGE__URL", "file:elsewhere")]).unwrap();
        config.warnings().iter().any(|warning| warning.starts_with("REPLYVAULT_STORAGE__URL: storage.url: "))
    };
    assert!(is_warned("[storage]\nurl = \"file:bucket\""));
    assert!(!is_warned("") && !is_warned("[storage]\nurl = \"file:elsewhere\""));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", key in 0..50_usize, value in "\\PC*") {
        let _ = parse(&text, &[]);
        let keys: Vec<_> = keys::sections().into_iter().flat_map(|(section, keys)| keys.iter().map(move |key| (section, key))).collect();
        let (section, name) = keys[key % keys.len()];
        let texts = [value.clone(), toml::Value::from(value.as_str()).to_string(), format!("[{value}]")];
        for text in texts {
            if let Err(error) = parse(&format!("{section}.{name} = {text}"), &[]) {
                prop_assert!(!error.contains('\n'));
            }
            let variable = format!("REPLYVAULT_{}__{}", section.to_uppercase(), name.to_uppercase());
            let text = text.replace('\0', "");
            if let Err(error) = parse("", &[(&variable, &text)]) {
                prop_assert!(error.starts_with(&variable), "{}", error);
            }
        }
    }
}
