//! Weaves mutants into a copy of a crate, so that it is built once and not once for
//! each of them: `presil-mutants TREE < PLAN > WOVEN`.
//!
//! PLAN has what `cargo mutants --list --json` says, less what did not compile, as
//! `mutants`, and as `constant` the names of functions that have to stay `const`; others
//! with mutants lose the word. Each source below TREE is rewritten: where a mutant differs from the program there is a
//! `match` over the one that is on (`presil_mutant::at`), with the program as it was in its
//! last arm. WOVEN has, for each mutant in its order, its number and the number
//! of its place, or null where a mutant has to be built alone: a constant function, an
//! operand with `let` in it, a field that is left out.
//!
//! Comments `/*~NUMBER*/ ... /*~*/` stand around each mutant, and `/*@NUMBER*/ ... /*@*/`
//! around each place, for whoever has to find what does not compile.

mod weave;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

#[derive(serde::Deserialize)]
struct Plan {
    mutants: Vec<Mutant>,
    constant: BTreeSet<String>,
}

#[derive(Clone, Debug, serde::Deserialize)]
struct Mutant {
    /// From the root of the tree.
    file: String,
    span: Span,
    replacement: String,
    genre: String,
}

/// Columns count characters, lines and columns from 1; the end is behind the last.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
struct Span {
    start: At,
    end: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
struct At {
    line: usize,
    column: usize,
}

/// The number of a mutant, and that of the first of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
struct Number {
    number: u32,
    first: u32,
}

fn main() -> ExitCode {
    let Some(tree) = std::env::args_os().nth(1) else {
        eprintln!("usage: presil-mutants TREE < PLAN > WOVEN");
        return ExitCode::from(2);
    };
    match run(Path::new(&tree)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("presil-mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(tree: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let Plan {
        mutants: plan,
        constant,
    } = serde_json::from_reader(std::io::stdin().lock())?;
    let mut files = BTreeMap::<&str, Vec<usize>>::new();
    for (at, mutant) in plan.iter().enumerate() {
        files.entry(&mutant.file).or_default().push(at);
    }
    let mut woven = vec![None; plan.len()];
    let mut next = 1;
    for (file, mutants) in files {
        let path = tree.join(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
        let of = |at: &usize| &plan[*at];
        let (text, numbers) = weave::weave(
            &text,
            &mutants.iter().map(of).collect::<Vec<_>>(),
            &constant,
            &mut next,
        )
        .map_err(|error| format!("{file}: {error}"))?;
        for (at, number) in mutants.iter().zip(numbers) {
            woven[*at] = number;
        }
        fs::write(&path, text).map_err(|error| format!("{file}: {error}"))?;
    }
    serde_json::to_writer(std::io::stdout().lock(), &woven)?;
    Ok(())
}
