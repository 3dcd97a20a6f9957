//! The documents name tests; they have to be there.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut pages, mut source) = (String::new(), String::new());
    read(&root.join("docs"), "md", &mut pages);
    for folder in ["src", "tests", "crates"] {
        read(&root.join(folder), "rs", &mut source);
    }
    let tests = tests(&source);
    let names: BTreeSet<_> = pages.split('`').filter(|quoted| is_name_of_a_test(quoted)).collect();
    assert!(names.len() > 50, "the search for names finds {names:?}");
    let missing: Vec<_> = names.difference(&tests).collect();
    assert!(missing.is_empty(), "no test is called {missing:#?}");
}

/// What has fewer words is a setting or a field, and what begins with the service's name a metric.
fn is_name_of_a_test(quoted: &str) -> bool {
    let is_name = quoted.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_name && quoted.matches('_').count() >= 3 && !quoted.starts_with("replyvault_")
}

/// The names of functions that are run as tests: a helper of a test shows nothing by itself.
fn tests(source: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((name, _)) = function.and_then(|function| function.split_once('('))
            && std::mem::take(&mut is_test)
        {
            tests.insert(name);
        }
    }
    tests
}

#[test]
fn a_helper_is_no_test() {
    let source = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"x\")]\n// Why.\nasync fn two() {}";
    assert_eq!(tests(source), BTreeSet::from(["one", "two"]));
}

/// Adds all files below the folder whose names end so.
fn read(folder: &Path, ending: &str, into: &mut String) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            read(&path, ending, into);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            *into += &std::fs::read_to_string(&path).unwrap();
        }
    }
}
