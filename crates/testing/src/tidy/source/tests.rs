//! Each rule against text that keeps it and text that breaks it.

use super::*;

fn lines_of(breaches: &[Breach]) -> Vec<usize> {
    breaches.iter().map(|(line, _)| *line).collect()
}

#[test]
fn a_file_says_first_what_it_is() {
    assert_eq!(without_module_doc("//! What.\n\nuse a;\n"), None);
    for text in ["", "\n//! Late.\n", "// Not a doc.\n", "use a;\n//! b\n"] {
        assert_eq!(without_module_doc(text).unwrap().0, 1, "{text:?}");
    }
}

#[test]
fn a_file_has_a_limit() {
    assert_eq!(too_many_lines("a\nb\n", 2), None);
    assert_eq!(too_many_lines("a\nb\nc", 2).unwrap().1, "3 lines; at most 2");
}

#[test]
fn a_function_has_a_limit() {
    let body = |count: usize| "        x();\n".repeat(count);
    let text = format!(
        "impl A {{\n    pub(in a) const unsafe extern \"C\" fn long(\n        a: A,\n    ) -> B {{\n{}    }}\n\n    fn short() {{\n{}    }}\n}}\n",
        body(3),
        body(3)
    );
    assert_eq!(long_functions(&text, 6), [(2, "fn long has 7 lines; at most 6".to_owned())]);
    assert_eq!(long_functions(&text, 7), []);
    assert_eq!(lines_of(&long_functions(&text, 4)), [2, 10]);
}

#[test]
fn declarations_and_single_lines_have_no_body_to_count() {
    let rest = "x\n".repeat(9);
    for head in [
        "fn a();",
        "fn a() {}",
        "fn a(\n    b: B,\n) -> C;",
        "fn_pointer(",
        "let fn_a = |x| {",
        "// fn a() {",
    ] {
        assert_eq!(long_functions(&format!("{head}\n{rest}}}\n"), 5), [], "{head}");
    }
    assert_eq!(long_functions(&format!("fn a() {{\n{rest}}}\n"), 5).len(), 1);
    let bounded = format!("fn a()\nwhere\n    A: B;\n{rest}fn b() {{\n}}\n");
    assert_eq!(long_functions(&bounded, 5), []);
}

#[test]
fn a_nested_function_is_counted_within_and_without() {
    let text = "fn a() {\n    fn b() {\n        x;\n    }\n    x;\n}\n";
    assert_eq!(lines_of(&long_functions(text, 2)), [1, 2]);
    assert_eq!(lines_of(&long_functions(text, 3)), [1]);
}

#[test]
fn a_brace_within_a_string_closes_nothing() {
    let text = "fn a() {\n    f(\"\n}\n\");\n    x;\n    x;\n}\n";
    assert_eq!(long_functions(text, 6), [(1, "fn a has 7 lines; at most 6".to_owned())]);
}

#[test]
fn the_word_unsafe_is_found_in_code_only() {
    let text = "// unsafe\nunsafe {}\n\"unsafe\"\n#![forbid(unsafe_code)]\n#[unsafe(no_mangle)]\nnot_unsafe()\nlet f: unsafe fn();\n";
    assert_eq!(unsafe_lines(text), [2, 5, 7]);
}

#[test]
fn unsafe_wants_a_reason() {
    for bare in [
        "unsafe { a() }",
        "unsafe impl Send for A {}",
        "unsafe fn a() {}",
        "pub unsafe trait A {}",
        "unsafe extern \"C\" { }",
        "unsafe extern \"C\" fn a() {}",
        "#[unsafe(no_mangle)]",
        "let f: unsafe fn() = unsafe { a() };",
        "let safety = \"SAFETY: // no\"; unsafe { a() }",
    ] {
        let text = format!("//! A.\n\n{bare}\n");
        assert_eq!(lines_of(&unsafe_without_reason(&text)), [3], "{bare}");
        assert_eq!(unsafe_without_reason(&format!("// SAFETY: so.\n{bare}\n")), [], "{bare}");
    }
    assert_eq!(unsafe_without_reason("let f: unsafe extern \"C\" fn(A) -> B = g;\n"), []);
    assert_eq!(unsafe_without_reason("unsafe { a() } // SAFETY: so.\n"), []);
}

#[test]
fn a_reason_stands_near() {
    let above =
        |count: usize| format!("// SAFETY: so.\n{}unsafe {{ a() }}\n", "x;\n".repeat(count));
    assert_eq!(unsafe_without_reason(&above(5)), []);
    assert_eq!(lines_of(&unsafe_without_reason(&above(6))), [8]);
    let doc = |between: &str| {
        format!("/// # Safety\n{}{between}unsafe fn a() {{}}\n", "/// More.\n".repeat(9))
    };
    assert_eq!(unsafe_without_reason(&doc("#[inline]\n")), []);
    assert_eq!(lines_of(&unsafe_without_reason(&doc("x;\n"))), [12]);
}

#[test]
fn the_atomics_of_the_standard_library_are_found() {
    for text in [
        "use std::sync::atomic::AtomicU64;",
        "use std::sync::{Arc, atomic::AtomicU64};",
        "use std::{\n    fmt,\n    sync::{\n        atomic,\n    },\n};",
        "pub use ::core::sync::atomic;",
        "fn f() {\n    std::sync::atomic::fence(A);\n}",
    ] {
        let found = std_atomics(&format!("//! A.\nuse a;\n{text}\n"));
        assert_eq!(lines_of(&found), [3], "{text}: {found:?}");
    }
    for text in [
        "use commonhold_segment::sync::atomic::AtomicU64;",
        "// std::sync::atomic\nuse std::sync::Arc;",
        "use std::sync::Arc;\nuse commonhold_segment::sync::atomic;",
        "use std::{fmt, sync::atomically};",
    ] {
        assert_eq!(std_atomics(text), [], "{text}");
    }
}

#[test]
fn forbidding_unsafe_is_an_attribute_of_the_crate() {
    assert!(forbids_unsafe("//! A.\n#![forbid(unsafe_code)]\n"));
    for text in [
        "//! #![forbid(unsafe_code)]\n",
        "#![deny(unsafe_code)]\n",
        "// #![forbid(unsafe_code)]",
        "",
    ] {
        assert!(!forbids_unsafe(text), "{text}");
    }
}

#[test]
fn paths_of_a_machine_are_found() {
    for path in MACHINE_PATHS {
        let bad = format!("ok\ncd {path}main\n\"{path}\"\n");
        assert_eq!(lines_of(&machine_paths(&bad)), [2, 3], "{path}");
        let good = format!("~{path}\nframe{path}\n${{HOME}}{path}\n.{path}\n");
        assert_eq!(machine_paths(&good), [], "{path}");
    }
}
