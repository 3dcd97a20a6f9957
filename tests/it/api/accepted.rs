//! Whatever the API accepts does something: a property that is only kept and shown is a promise not kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::vault::Vault;

/// Modules that carry what they are given: to take it in, keep it and show it is not to act on it.
const CARRIERS: &[&str] = &["api", "app", "cli", "config", "intake", "journal", "state", "simulator", "lib", "main"];
/// Parts of others that do no more either.
const CARRYING_FILES: &[&str] = &["repair/retention", "view.rs"];

#[tokio::test(flavor = "multi_thread")]
async fn every_property_accepted_is_acted_on_and_sent_by_a_test() {
    let vault = Vault::start().await;
    let (_, document) = vault.get("/api/v1/openapi.json").await;
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [source.join("src"), source.join("crates/domain/src")];
    let files = sources.iter().flat_map(|source| rust_files(source).into_iter().filter(|file| acts(file, source)));
    let acting: String = files.map(|file| code(&file)).collect();
    let here = source.join("tests/it/api/accepted.rs");
    let tests: String = rust_files(&source.join("tests/it")).iter().filter(|file| **file != here).map(code).collect();
    let mut faults = Vec::new();
    let (properties, parameters) = accepted(&document);
    assert!(properties.contains("notifyUrl") && parameters.contains("wait"), "the walk finds nothing");
    for name in properties {
        let field = snake_case(&name);
        if !words(&acting).any(|word| word == field) {
            faults.push(format!("{name}: no module but carriers has {field}"));
        }
        if !tests.contains(&format!("\"{name}\"")) {
            faults.push(format!("{name}: no test sends it"));
        }
    }
    for name in parameters {
        if !["?", "&", "\""].iter().any(|before| tests.contains(&format!("{before}{name}="))) {
            faults.push(format!("?{name}=: no test asks for it"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The properties of bodies, and the query parameters.
fn accepted(document: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut properties, mut parameters) = (BTreeSet::new(), BTreeSet::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/api/") {
            continue;
        }
        for operation in item.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] == "query" {
                    parameters.insert(parameter["name"].as_str().unwrap().to_owned());
                }
            }
            collect(document, &operation["requestBody"]["content"]["application/json"]["schema"], &mut properties);
        }
    }
    (properties, parameters)
}

fn collect(document: &Value, schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return collect(document, &document["components"]["schemas"][name.rsplit('/').next().unwrap()], into);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        into.insert(name.clone());
        collect(document, property, into);
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        schema[list].as_array().into_iter().flatten().for_each(|schema| collect(document, schema, into));
    }
}

fn acts(file: &Path, source: &Path) -> bool {
    let path = file.strip_prefix(source).unwrap().to_str().unwrap();
    let module = path.split('/').next().unwrap().trim_end_matches(".rs");
    !CARRIERS.contains(&module) && !CARRYING_FILES.iter().any(|carrying| path.starts_with(carrying))
}

/// A file without its comments.
fn code(file: &PathBuf) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.map(|line| format!("{line}\n")).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
}

fn snake_case(name: &str) -> String {
    let letters = name.chars().flat_map(|char| {
        let under = char.is_ascii_uppercase().then_some('_');
        under.into_iter().chain([char.to_ascii_lowercase()])
    });
    letters.collect()
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
