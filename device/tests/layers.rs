//! The files of the model know each other in one direction.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The parts of `use` paths: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let Some((prefix, group)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let group = group.trim_end().strip_suffix('}').unwrap();
    let mut depth = 0;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| paths(part.trim()))
        .map(|part| format!("{}{part}", prefix.trim()))
        .collect()
}

/// The files of the crate by their module's path; the root, which only names them, is none.
fn files(at: &Path, module: &str, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner = format!("{module}::{name}");
        if entry.is_dir() {
            files(&entry, &inner, all);
        } else if name != "lib" {
            let own = if name == "mod" { module } else { &inner };
            all.insert(own.to_owned(), fs::read_to_string(entry).unwrap());
        }
    }
}

/// The file that holds what a path names: the longest beginning of it that is a file.
fn file_of(path: &str, all: &BTreeMap<String, String>) -> Option<String> {
    let ends = path.match_indices("::").map(|(at, _)| at);
    let mut ends: Vec<_> = ends.chain([path.len()]).collect();
    ends.reverse();
    let mut names = ends.into_iter().map(|end| &path[..end]);
    names.find(|name| all.contains_key(*name)).map(Into::into)
}

/// The files that one uses; what only its tests use does not count.
fn uses(module: &str, text: &str, all: &BTreeMap<String, String>) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let parent = module.rsplit_once("::").unwrap().0;
    let starts = ["\nuse ", "\npub use ", "\npub(crate) use "];
    let statements = (starts.iter()).flat_map(|start| text.split(start).skip(1));
    let trees = statements.map(|statement| statement.split(';').next().unwrap());
    let mut used: Vec<_> = trees
        .flat_map(paths)
        .filter_map(|path| {
            let path = match path.split_once("::")? {
                ("crate", _) => path,
                ("super", rest) => format!("{parent}::{rest}"),
                _ => format!("{module}::{path}"),
            };
            file_of(&path, all)
        })
        .collect();
    used.retain(|used| used != module);
    used
}

#[test]
fn no_file_is_used_by_one_that_it_uses() {
    let mut all = BTreeMap::new();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    files(&root, "crate", &mut all);
    let mut left: BTreeMap<_, _> = all
        .iter()
        .map(|(module, text)| (module.clone(), uses(module, text, &all)))
        .collect();
    for (user, used) in [
        ("gpu", "csp"),
        ("csp::engine", "blit"),
        ("mmu::walk", "memory"),
    ] {
        let known = &left[&format!("crate::{user}")];
        assert!(
            known.contains(&format!("crate::{used}")),
            "{user}: {known:?}"
        );
    }
    // A file that uses none of those left has its place. One of a circle never does.
    while let Some(lowest) = left.iter().find(|(_, used)| used.is_empty()) {
        let lowest = lowest.0.clone();
        left.remove(&lowest);
        for used in left.values_mut() {
            used.retain(|used| *used != lowest);
        }
    }
    assert!(left.is_empty(), "in a circle, or above one: {left:#?}");
}
