//! Each rule finds what it is there for, and nothing in a text as it should be.

use super::{MISSION, lint, read};

const GOOD: &str = "\
# HELP a_bytes_total What\\nit \\\\ is.
# TYPE a_bytes_total counter
a_bytes_total{k=\"\\\"\\\\\\n, ä=\"} 18446744073709551615
a_bytes_total 0
# HELP g G.
# TYPE g gauge
g -Inf
# HELP resonance_worker_task_duration_ms H.
# TYPE resonance_worker_task_duration_ms histogram
resonance_worker_task_duration_ms_bucket{k=\"x\",le=\"0.5\"} 2
resonance_worker_task_duration_ms_bucket{k=\"x\",le=\"1e3\"} 2
resonance_worker_task_duration_ms_bucket{k=\"x\",le=\"+Inf\"} 3
resonance_worker_task_duration_ms_sum{k=\"x\"} 9.25
resonance_worker_task_duration_ms_count{k=\"x\"} 3
";

#[test]
fn a_text_as_it_should_be() {
    let families = read(GOOD).unwrap();
    assert_eq!(families.len(), 3);
    assert_eq!(families[0].help, "What\nit \\ is.");
    assert_eq!(families[0].samples[0].labels["k"], "\"\\\n, ä=");
    assert_eq!(families[1].samples[0].value, f64::NEG_INFINITY);
    assert_eq!(lint(&families, &MISSION), Vec::<String>::new());
    let strict = lint(&families, &[]);
    assert_eq!(strict, ["resonance_worker_task_duration_ms: an abbreviated unit"]);
}

#[test]
fn what_cannot_be_read() {
    let planted = [
        ("g -Inf\n", "g -Inf", "the last line does not end"),
        ("# HELP g G.\n", "", "HELP is due"),
        ("# HELP g G.\n", "# HELP g\n", "HELP without a text"),
        ("# TYPE g gauge\n", "", "no TYPE behind"),
        ("# TYPE g gauge\n", "# TYPE h gauge\n", "no TYPE behind"),
        ("# TYPE g gauge\n", "# TYPE g thing\n", "the type is `thing`"),
        ("# TYPE g gauge\n", "# TYPE g histogram\n", "has such a sample"),
        ("g -Inf\n", "", "no samples"),
        ("g -Inf\n", "g 1\ng 2\n", "twice"),
        ("g -Inf\n", "h 1\n", "has such a sample"),
        ("g -Inf\n", "g 1\n# HELP g G.\n# TYPE g gauge\ng{a=\"b\"} 1\n", "the second family"),
        ("g -Inf\n", "g\n", "no number"),
        ("g -Inf\n", "g Infinity\n", "not a number"),
        ("g -Inf\n", "g 1,5\n", "not a number"),
        ("g -Inf\n", "g 0x1\n", "not a number"),
        ("g -Inf\n", "g{a=\"b\" 1\n", "no brace"),
        ("g -Inf\n", "g{a=b} 1\n", "not a label"),
        ("g -Inf\n", "g{1a=\"b\"} 1\n", "not a label's name"),
        ("g -Inf\n", "g{__a=\"b\"} 1\n", "not a label's name"),
        ("g -Inf\n", "g{a=\"b\",a=\"c\"} 1\n", "a label twice"),
        ("g -Inf\n", "g{a=\"b\",} 1\n", "do not go on"),
        ("g -Inf\n", "g{a=\"b\"c=\"d\"} 1\n", "do not go on"),
        ("g -Inf\n", "g{a=\"b\\\"} 1\n", "without an end"),
        ("g -Inf\n", "g{a=\"\\x\"} 1\n", "behind a backslash"),
        ("g -Inf\n", "g-h 1\n", "not a metric's name"),
        ("What\\nit", "What\\tit", "behind a backslash"),
    ];
    for (good, bad, due) in planted {
        let from = if bad == "g -Inf" {
            GOOD.replace(&GOOD[GOOD.find(good).unwrap()..], bad)
        } else {
            GOOD.replacen(good, bad, 1)
        };
        let error = read(&from).unwrap_err();
        assert!(error.contains(due), "{bad:?}: {error}");
    }
}

#[test]
fn what_is_read_and_against_a_rule() {
    let long = "resonance_worker_task_duration_ms";
    let bucket = format!("{long}_bucket{{k=\"x\",le=");
    let planted = [
        ("HELP g G.", "HELP g ", "g: no help"),
        (" g", " gH", "gH: capital letters"),
        (" g", " g_kb", "g_kb: an abbreviated unit"),
        (" g", " g_milliseconds", "g_milliseconds: the base unit is seconds"),
        (" g", " g_hours", "g_hours: the base unit is seconds"),
        (" g", " g_kilobits", "g_kilobits: the base unit is bytes"),
        (" g", " g_total", "g_total: `_total`, and no counter"),
        (" g", " g_sum", "g_sum: the ending `_sum`"),
        (" g", " g_count", "g_count: the ending `_count`"),
        (" g", " g_bucket", "g_bucket: the ending `_bucket`"),
        (" g", " g_counter_value", "g_counter_value: its name has the type `counter` in it"),
        ("a_bytes_total", "a_bytes", "a_bytes: a counter without `_total`"),
        ("a_bytes_total 0", "a_bytes_total -1", "a_bytes_total: a counter that is -1"),
        ("a_bytes_total 0", "a_bytes_total NaN", "a_bytes_total: a counter that is NaN"),
        ("g -Inf", "g{le=\"1\"} 1", "g: the label `le`"),
        ("g -Inf", "g{quantile=\"1\"} 1", "g: the label `quantile`"),
        ("g -Inf", "g{aB=\"1\"} 1", "g: capital letters in the label `aB`"),
        ("\"1e3\"", "\"0.25\"", "the bound 0.25 does not rise"),
        ("\"1e3\"", "\"many\"", "the bound many does not rise"),
        ("\"1e3\"} 2", "\"1e3\"} 1", "the count at 1e3 does not go on"),
        ("\"1e3\"} 2", "\"1e3\"} 2.5", "the count at 1e3 does not go on"),
        ("\"+Inf\"} 3", "\"2e3\"} 3", "no bucket `+Inf` at the end"),
        ("_count{k=\"x\"} 3", "_count{k=\"x\"} 2", "`_count` is not the last bucket"),
        ("_count{k=\"x\"} 3", "_count{k=\"y\"} 3", "`_count` is not the last bucket"),
        ("_sum{k=\"x\"}", "_sum{k=\"x\",le=\"1\"}", "`le` where it is not due"),
        (&format!("{bucket}\"0.5\"}} 2"), &format!("{long}_bucket 2"), "not where it is"),
    ];
    for (good, bad, due) in planted {
        let text = match good {
            " g" => GOOD
                .replace(" g G.", &format!("{bad} G."))
                .replace(" g gauge", &format!("{bad} gauge"))
                .replace("\ng -", &format!("\n{} -", bad.trim())),
            "a_bytes_total" => GOOD.replace(good, bad),
            _ => GOOD.replacen(good, bad, 1),
        };
        let found = lint(&read(&text).unwrap(), &MISSION);
        assert!(found.iter().any(|f| f.contains(due)), "{bad}: {found:?}");
    }
}
