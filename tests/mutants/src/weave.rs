//! One source with its mutants.

use crate::{At, Mutant, Number};
use proc_macro2::LineColumn;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A part of the program that mutants replace.
struct Place {
    range: Range<usize>,
    shape: Shape,
    /// Index among the mutants of the file, and what stands there instead.
    variants: Vec<(usize, String)>,
}

#[derive(Clone, Copy)]
enum Shape {
    /// One value for another.
    Value,
    /// The word `const` of a function that loses it.
    Const,
    /// The empty range behind a function's opening brace.
    Entry,
    /// The empty range behind an arm's pattern.
    Unguarded,
    /// A guard, from behind its `if`, in front of which the arm's deletion is asked.
    Guard,
}

/// The source with the mutants that can be woven, and their numbers from `next` on.
pub(crate) fn weave(
    text: &str,
    mutants: &[&Mutant],
    constant: &BTreeSet<String>,
    next: &mut u32,
) -> Result<(String, Vec<Option<Number>>), syn::Error> {
    let file = syn::parse_file(text)?;
    let mut search = Search {
        text,
        mutants: mutants
            .iter()
            .enumerate()
            .map(|(at, mutant)| (at, *mutant))
            .collect(),
        places: BTreeMap::new(),
        stays: constant,
        rest: false,
        constant: false,
    };
    search.visit_file(&file);
    let mut places: Vec<Place> = search.places.into_values().collect();
    // An outer one stands before those in it.
    places.sort_by_key(|place| (place.range.start, usize::MAX - place.range.end));
    let mut numbers = vec![None; mutants.len()];
    for place in &places {
        let first = *next;
        for (at, _) in &place.variants {
            numbers[*at] = Some(Number {
                number: *next,
                first,
            });
            *next += 1;
        }
    }
    let mut out = String::new();
    render(text, 0..text.len(), &places, &numbers, &mut out);
    Ok((out, numbers))
}

/// The text of a range. `places` are those in it, sorted.
fn render(
    text: &str,
    range: Range<usize>,
    places: &[Place],
    numbers: &[Option<Number>],
    out: &mut String,
) {
    let mut at = range.start;
    let mut rest = places;
    while let Some((place, others)) = rest.split_first() {
        out.push_str(&text[at..place.range.start]);
        at = place.range.end;
        let inside = others.partition_point(|inner| inner.range.start < place.range.end);
        let (inner, behind) = others.split_at(inside);
        rest = behind;
        let first = place.variants.iter().find_map(|(index, _)| numbers[*index]);
        let first = first.map_or(0, |number| number.first);
        let count = place.variants.len();
        let asked = format!("::presil_mutant::at({first}, {count})");
        match place.shape {
            Shape::Const => {}
            Shape::Unguarded => {
                let _ = write!(out, " /*@{first}*/if {asked} == 0/*@*/ ");
            }
            shape => {
                let _ = write!(out, "/*@{first}*/");
                let (open, close) = match shape {
                    Shape::Entry => ("", ""),
                    _ => ("(", ")"),
                };
                let _ = write!(out, "{open}match {asked} {{ ");
                for (index, variant) in &place.variants {
                    let number = numbers[*index].map_or(0, |number| number.number);
                    let back = if matches!(shape, Shape::Entry) {
                        "return "
                    } else {
                        ""
                    };
                    let _ = write!(
                        out,
                        "{number}u32 => {{ /*~{number}*/{back}{variant}/*~*/ }} "
                    );
                }
                out.push_str("_ => { ");
                render(text, place.range.clone(), inner, numbers, out);
                let _ = write!(out, " }} }}{close}/*@*/");
            }
        }
    }
    out.push_str(&text[at..range.end]);
}

struct Search<'a> {
    text: &'a str,
    /// Those that have no place yet.
    mutants: Vec<(usize, &'a Mutant)>,
    /// By start, end and the order of shapes at one position.
    places: BTreeMap<(usize, usize, u8), Place>,
    /// Functions that stay constant.
    stays: &'a BTreeSet<String>,
    /// An arm of the `match` takes what no other does.
    rest: bool,
    /// In such a function: nothing can be asked there.
    constant: bool,
}

fn at(position: LineColumn) -> At {
    At {
        line: position.line,
        column: position.column + 1,
    }
}

impl<'a> Search<'a> {
    /// Takes the mutants for which this is the place.
    fn take(&mut self, wanted: impl Fn(&Mutant) -> bool) -> Vec<(usize, &'a Mutant)> {
        if self.constant {
            return Vec::new();
        }
        let (taken, left) = self.mutants.iter().partition(|(_, mutant)| wanted(mutant));
        self.mutants = left;
        taken
    }

    /// Has what the wanted mutants make of their replacements stand at `range`.
    fn replace(
        &mut self,
        (range, shape): (Range<usize>, Shape),
        wanted: impl Fn(&Mutant) -> bool,
        variant: impl Fn(&str) -> String,
    ) {
        let taken = self.take(wanted);
        let variants: Vec<_> = taken
            .into_iter()
            .map(|(index, mutant)| (index, variant(&mutant.replacement)))
            .collect();
        if !variants.is_empty() {
            self.put(range, shape, variants);
        }
    }

    fn put(&mut self, range: Range<usize>, shape: Shape, variants: Vec<(usize, String)>) {
        let key = (range.start, range.end, shape as u8);
        let place = self.places.entry(key).or_insert(Place {
            range,
            shape,
            variants: Vec::new(),
        });
        place.variants.extend(variants);
    }

    /// A function whose inside `visit` visits.
    fn function(
        &mut self,
        signature: &syn::Signature,
        block: &syn::Block,
        visit: impl FnOnce(&mut Self),
    ) {
        let constant = self.stays.contains(&signature.ident.to_string());
        let constant = constant && signature.constness.is_some();
        let outer = std::mem::replace(&mut self.constant, constant);
        let before = self.mutants.len();
        // Functions in it take what is theirs first.
        visit(self);
        let opaque =
            matches!(&signature.output, syn::ReturnType::Type(_, output) if has_impl(output));
        if !opaque {
            let (from, to) = (at(block.span().start()), at(block.span().end()));
            let open = block.brace_token.span.open().byte_range().end;
            self.replace(
                (open..open, Shape::Entry),
                |mutant| {
                    mutant.genre == "FnValue" && from <= mutant.span.start && mutant.span.end <= to
                },
                str::to_owned,
            );
        }
        if let Some(word) = signature.constness
            && self.mutants.len() < before
        {
            self.put(word.span().byte_range(), Shape::Const, Vec::new());
        }
        self.constant = outer;
    }
}

/// Whether a mutant is of this genre, and at this place alone.
fn is(genre: &str, span: proc_macro2::Span) -> impl Fn(&Mutant) -> bool {
    let (start, end) = (at(span.start()), at(span.end()));
    move |mutant| mutant.genre == genre && mutant.span.start == start && mutant.span.end == end
}

fn has_impl(output: &syn::Type) -> bool {
    struct Find(bool);
    impl Visit<'_> for Find {
        fn visit_type_impl_trait(&mut self, _: &syn::TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut find = Find(false);
    find.visit_type(output);
    find.0
}

/// Whether a value binds names for what stands behind it.
fn binds(value: &syn::Expr) -> bool {
    match value {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

impl<'a> Visit<'a> for Search<'_> {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.function(&function.sig, &function.block, |search| {
            visit::visit_item_fn(search, function);
        });
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.function(&function.sig, &function.block, |search| {
            visit::visit_impl_item_fn(search, function);
        });
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block, |search| {
                visit::visit_trait_item_fn(search, function);
            });
        }
    }

    fn visit_item_const(&mut self, _: &'a syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'a syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'a syn::ItemStatic) {}
    fn visit_expr_const(&mut self, _: &'a syn::ExprConst) {}
    fn visit_type(&mut self, _: &'a syn::Type) {}
    fn visit_variant(&mut self, _: &'a syn::Variant) {}
    fn visit_expr_repeat(&mut self, repeat: &'a syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr_binary(&mut self, binary: &'a syn::ExprBinary) {
        if !binds(&binary.left) && !binds(&binary.right) {
            let text = self.text;
            let operand = |of: &syn::Expr| &text[of.span().byte_range()];
            let (left, right) = (operand(&binary.left), operand(&binary.right));
            self.replace(
                (binary.span().byte_range(), Shape::Value),
                is("BinaryOperator", binary.op.span()),
                |operator| format!("{left} {operator} {right}"),
            );
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'a syn::ExprUnary) {
        let operand = &self.text[unary.expr.span().byte_range()];
        self.replace(
            (unary.span().byte_range(), Shape::Value),
            is("UnaryOperator", unary.op.span()),
            |operator| format!("{operator} {operand}"),
        );
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, whole: &'a syn::ExprMatch) {
        let takes_all = |pat: &syn::Pat| match pat {
            syn::Pat::Wild(_) => true,
            // A variant or a constant, `None`, is a name, too.
            syn::Pat::Ident(name) => name.ident.to_string().starts_with(char::is_lowercase),
            _ => false,
        };
        let rest = |arm: &syn::Arm| arm.guard.is_none() && takes_all(&arm.pat);
        // An arm that may be off covers nothing.
        let outer = std::mem::replace(&mut self.rest, whole.arms.iter().any(rest));
        visit::visit_expr_match(self, whole);
        self.rest = outer;
    }

    fn visit_arm(&mut self, arm: &'a syn::Arm) {
        let start = at(arm.span().start());
        let rest = self.rest;
        let is_arm =
            |mutant: &Mutant| rest && mutant.genre == "MatchArm" && mutant.span.start == start;
        match &arm.guard {
            None => {
                let end = arm.pat.span().byte_range().end;
                self.replace((end..end, Shape::Unguarded), is_arm, |_| String::new());
            }
            Some((_, guard)) if !binds(guard) => {
                let range = guard.span().byte_range();
                self.replace(
                    (range.clone(), Shape::Guard),
                    is("MatchArmGuard", guard.span()),
                    str::to_owned,
                );
                // A guard that says no takes the arm away.
                self.replace((range, Shape::Guard), is_arm, |_| "false".into());
            }
            Some(_) => {}
        }
        visit::visit_arm(self, arm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    /// Mutants of a source of one line, each by the text that it stands for.
    fn woven(text: &str, mutants: &[(&str, &str, &str)]) -> (String, Vec<Option<Number>>) {
        let mutants: Vec<Mutant> = mutants
            .iter()
            .map(|(genre, part, replacement)| {
                let column = text.find(part).expect("there") + 1;
                let at = |column| At { line: 1, column };
                Mutant {
                    file: String::new(),
                    span: Span {
                        start: at(column),
                        end: at(column + part.len()),
                    },
                    replacement: (*replacement).into(),
                    genre: (*genre).into(),
                }
            })
            .collect();
        let mutants: Vec<&Mutant> = mutants.iter().collect();
        let (text, numbers) =
            weave(text, &mutants, &["h".into()].into(), &mut 1).expect("a program");
        syn::parse_file(&text).expect("still one");
        (text, numbers)
    }

    fn number(number: u32, first: u32) -> Number {
        Number { number, first }
    }

    #[test]
    fn a_function_returns_at_once_and_an_operator_is_another() {
        let (text, numbers) = woven(
            "fn f(a: u32) -> bool { a + 1 == 2 }",
            &[
                ("FnValue", "a + 1 == 2", "true"),
                ("BinaryOperator", "+", "-"),
                ("FnValue", "a + 1 == 2", "false"),
                ("BinaryOperator", "==", "!="),
            ],
        );
        assert_eq!(
            numbers,
            [
                Some(number(1, 1)),
                Some(number(4, 4)),
                Some(number(2, 1)),
                Some(number(3, 3))
            ]
        );
        assert_eq!(
            text,
            "fn f(a: u32) -> bool {\
             /*@1*/match ::presil_mutant::at(1, 2) { \
             1u32 => { /*~1*/return true/*~*/ } 2u32 => { /*~2*/return false/*~*/ } _ => {  } }/*@*/ \
             /*@3*/(match ::presil_mutant::at(3, 1) { 3u32 => { /*~3*/a + 1 != 2/*~*/ } _ => { \
             /*@4*/(match ::presil_mutant::at(4, 1) { 4u32 => { /*~4*/a - 1/*~*/ } _ => { a + 1 } })/*@*/ \
             == 2 } })/*@*/ }"
        );
    }

    #[test]
    fn arms_go_and_guards_and_signs_change() {
        let (text, numbers) = woven(
            "fn f(a: i32) { match a { 1 => -a, n if n < 5 => 2, _ => 3 } }",
            &[
                ("MatchArm", "1 => -a", ""),
                ("UnaryOperator", "-", ""),
                ("MatchArmGuard", "n < 5", "true"),
                ("MatchArm", "n if n < 5 => 2", ""),
                ("BinaryOperator", "<", ">"),
            ],
        );
        assert!(numbers.iter().all(Option::is_some));
        for part in [
            "1 /*@1*/if ::presil_mutant::at(1, 1) == 0/*@*/  => ",
            "2u32 => { /*~2*/ a/*~*/ } _ => { -a }",
            "3u32 => { /*~3*/n > 5/*~*/ } _ => { /*@4*/(match",
            "4u32 => { /*~4*/true/*~*/ } 5u32 => { /*~5*/false/*~*/ } _ => { n < 5 }",
        ] {
            assert!(text.contains(part), "{text} has no {part}");
        }
    }

    #[test]
    fn a_function_is_constant_no_more_unless_it_has_to_be() {
        let (text, numbers) = woven("const fn f() -> u32 { 1 }", &[("FnValue", "1", "0")]);
        assert_eq!(numbers, [Some(number(1, 1))]);
        assert!(text.starts_with(" fn f() -> u32 {/*@1*/match"), "{text}");
    }

    #[test]
    fn what_cannot_be_asked_where_it_stands_is_left_alone() {
        for (text, genre, part) in [
            ("const fn h() -> u32 { 1 + 2 }", "BinaryOperator", "+"),
            ("const fn h() -> u32 { 1 + 2 }", "FnValue", "1 + 2"),
            ("const A: u32 = 1 + 2;", "BinaryOperator", "+"),
            ("fn f() -> [u8; 1 + 2] { g() }", "BinaryOperator", "+"),
            ("fn f() { g([0; 1 + 2]) }", "BinaryOperator", "+"),
            (
                "fn f() { if a && let Some(_) = b {} }",
                "BinaryOperator",
                "&&",
            ),
            (
                "fn f() { match a { 1 if b => 2, 3 => 4 } }",
                "MatchArm",
                "3 => 4",
            ),
            (
                "fn f() { match a { _ if b => 1, Some(c) => 2, None => 3 } }",
                "MatchArm",
                "Some(c) => 2",
            ),
            ("fn f() -> impl A { g() }", "FnValue", "g()"),
        ] {
            let (woven, numbers) = woven(text, &[(genre, part, "")]);
            assert_eq!((woven.as_str(), numbers), (text, vec![None]));
        }
    }
}
