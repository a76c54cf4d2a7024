//! docs/rules/ is what the rules say, and each rule has its test.

use presil_device::checker::texts;
use std::fs;
use std::path::Path;

#[test]
fn every_rule_has_its_page_and_every_page_its_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules");
    let mut names = vec!["README.md".to_owned()];
    for text in texts() {
        let name = format!("{}.md", text.id);
        let page = fs::read_to_string(root.join(&name)).unwrap_or_default();
        assert!(
            page == text.page(),
            "docs/rules/{name} is stale: cargo run -p presil-device --example rules docs/rules"
        );
        names.push(name);
    }
    let index = fs::read_to_string(root.join("README.md")).unwrap();
    assert!(
        index == presil_device::checker::index(),
        "docs/rules/README.md is stale"
    );
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "docs/rules/{name} is of no rule");
    }
}

#[test]
fn every_rule_has_a_fault_that_fires_it_and_a_near_miss() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checker");
    let files = fs::read_dir(tests)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut code: String = files
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    code.retain(|c| !c.is_whitespace());
    for text in texts() {
        // It fails where the rule is silent: see there.
        let call = format!("fires({},", text.id);
        assert!(code.contains(&call), "no test calls {call} ...");
    }
}
