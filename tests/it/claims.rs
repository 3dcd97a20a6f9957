//! The documents name tests; they have to be there.

use std::path::Path;

#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = |name: &str| std::fs::read_to_string(root.join("docs").join(name)).unwrap();
    let text = ["threat-model.md", "durability.md", "endpoints.md"].map(document).join("\n");
    let mut source = String::new();
    for folder in ["src", "tests", "crates"] {
        read(&root.join(folder), &mut source);
    }
    let quoted = text.split('`').skip(1).step_by(2);
    let names: Vec<_> = quoted.filter(|text| text.matches('_').count() > 3 && !text.contains(['.', '/'])).collect();
    assert!(names.len() > 50, "the search for names finds {names:?}");
    let missing: Vec<_> = names.into_iter().filter(|name| !source.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

fn read(folder: &Path, into: &mut String) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *into += &std::fs::read_to_string(&path).unwrap();
        }
    }
}
