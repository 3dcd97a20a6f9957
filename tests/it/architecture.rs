//! The modules import only what they may.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each module may import from its own crate. `domain` and the simulator are crates of their own. `app`, `cli` and the
/// like, which wire the modules, may import all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("supervisor", &[]),
    ("backoff", &[]),
    ("decompress", &[]),
    ("disk", &[]),
    ("http", &["domain"]),
    ("journal", &["disk", "domain"]),
    ("cluster", &["disk", "domain", "journal"]),
    ("state", &["disk", "domain", "journal", "cluster", "supervisor"]),
    ("egress", &["domain"]),
    ("provider", &["domain", "backoff", "http", "egress"]),
    ("intake", &["disk", "domain", "decompress", "http", "provider", "journal", "state"]),
    ("fetch", &["domain", "http", "egress"]),
    ("gateway", &["domain", "decompress", "http", "provider", "intake", "state", "relay", "egress"]),
    ("bucket", &["disk", "domain", "http"]),
    ("worker", &["domain", "backoff", "provider", "journal", "cluster", "state", "fetch", "bucket"]),
    ("reconcile", &["domain", "backoff", "provider", "intake", "state"]),
    ("repair", &["disk", "domain", "backoff", "journal", "cluster", "state", "fetch", "bucket"]),
    ("delivery", &["domain", "backoff", "http", "cluster", "state", "egress"]),
    ("relay", &["domain", "journal", "cluster", "state", "egress", "delivery"]),
    ("notify", &["domain", "journal", "cluster", "state", "egress", "bucket", "delivery"]),
    ("thumbnail", &[]),
    ("search", &["domain", "state", "supervisor"]),
    (
        "api",
        &[
            "disk",
            "domain",
            "http",
            "egress",
            "cluster",
            "intake",
            "gateway",
            "state",
            "search",
            "thumbnail",
            "bucket",
            "reconcile",
            "repair",
        ],
    ),
];

const WIRING: &[&str] = &["app", "cli", "config", "telemetry", "lib", "main"];

#[test]
fn modules_import_only_what_they_may() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut faults = Vec::new();
    let mut imports = 0;
    for file in rust_files(&source) {
        let path = file.strip_prefix(&source).unwrap();
        let module = path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if WIRING.contains(&module.as_str()) || is_test(path) {
            continue;
        }
        let Some(may) = allowed.get(module.as_str()) else {
            faults.push(format!("{}: the module {module} is not in the table", path.display()));
            continue;
        };
        for used in modules_used(&production_code(&std::fs::read_to_string(&file).unwrap())) {
            imports += 1;
            if used != module && !may.contains(&used.as_str()) {
                faults.push(format!("{}: {module} may not import {used}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(imports > 50, "the search for imports finds none");
}

#[test]
fn nobody_below_app_imports_config() {
    assert!(ALLOWED.iter().all(|(_, may)| !may.contains(&"config") && !may.contains(&"app")));
}

/// What is stored there is the business of the state; what is outside sees few functions.
#[test]
fn the_store_under_the_state_stands_alone() {
    const MAX_FUNCTIONS: usize = 12;
    let state = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state");
    let mut files = rust_files(&state.join("store"));
    files.push(state.join("store.rs"));
    let mut functions = Vec::new();
    for file in files {
        let code = production_code(&std::fs::read_to_string(&file).unwrap());
        assert!(modules_used(&code.replace("pub(in crate::state)", "")).is_empty(), "{}", file.display());
        functions.extend(code.lines().filter(|line| line.contains("pub(in crate::state) fn")).map(str::to_owned));
    }
    assert!((1..=MAX_FUNCTIONS).contains(&functions.len()), "{functions:#?}");
}

/// A new API is a file, its fixtures, and a line in a table: nothing else may know names of APIs. One place has the first
/// one's for what earlier versions wrote and promised.
#[test]
fn nothing_outside_of_the_adapters_names_an_api() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: Vec<&str> = replyvault::provider::names().filter(|name| *name != "faceswap").collect();
    assert!(names.len() > 10);
    let mut faults = Vec::new();
    for file in rust_files(&root.join("src")).into_iter().chain(rust_files(&root.join("crates/domain/src"))) {
        let path = file.strip_prefix(root).unwrap();
        let is_adapter = path.starts_with("src/provider/apis") || path == Path::new("src/provider/apis.rs");
        let is_first = path == Path::new("crates/domain/src/job_id.rs");
        // The demonstration makes the first API's calls.
        let speaks_it = path.starts_with("src/app/demo.rs") || path.starts_with("src/cli");
        if is_test(path) || is_adapter || is_first || speaks_it {
            continue;
        }
        for line in production_code(&std::fs::read_to_string(&file).unwrap()).lines() {
            let line = line.trim();
            // Documentation gives examples.
            let is_documentation = line.starts_with("//")
                || line.starts_with("#[schema")
                || line.starts_with("#[param(example")
                || line.contains("description =");
            if !is_documentation && names.iter().any(|name| line.contains(name)) {
                faults.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Tests may use other modules to set the scene.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_str().unwrap().trim_end_matches(".rs").ends_with("tests"))
}

fn production_code(source: &str) -> String {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// The modules that `crate::…` paths name, `use crate::{a, b::c}` included.
fn modules_used(source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut modules = Vec::new();
    for after in code.split("crate::").skip(1) {
        let name = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
        match after.strip_prefix('{') {
            None => modules.push(name(after)),
            Some(group) => {
                let mut depth = 0;
                let mut expects_module = true;
                for (index, character) in group.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expects_module = true,
                        c if c.is_whitespace() => {}
                        _ if expects_module => {
                            modules.push(name(&group[index..]));
                            expects_module = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

#[test]
fn the_search_finds_what_it_must() {
    let code = "use crate::{domain::{A, B}, state, worker::X};\nlet x = crate::bucket::Key;\n// crate::comment";
    assert_eq!(modules_used(code), ["domain", "state", "worker", "bucket"]);
}
