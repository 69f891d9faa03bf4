//! House rules that no compiler checks: sizes, arrows between crates, and what must not be in the tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use todoke_tests::process::workspace_root;

const LINES_MAX: usize = 800;
/// Files that are longer than allowed, with their present length. It may only shrink.
const LONGER: [(&str, usize); 0] = [];

/// Which of our crates a crate may use (docs of the layout: ARCHITECTURE.md). Arrows point one way.
const ARROWS: [(&str, &[&str]); 11] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("lake", &["domain"]),
    ("workflow", &["domain", "store", "lake"]),
    ("notifier", &["domain", "store", "lake"]),
    ("ingest", &["domain", "store", "lake"]),
    ("analytics", &["domain", "store", "lake"]),
    ("dashboards", &[]),
    ("hub", &["domain", "store", "lake", "workflow", "notifier", "ingest", "analytics", "dashboards"]),
    ("tests", &["domain", "store", "workflow", "notifier"]),
    ("tests/it", &["domain", "store", "workflow", "notifier", "tests"]),
];

/// Who may name a library in their manifest.
const KEPT_TO: [(&str, &[&str]); 9] = [
    ("sqlx", &["store", "tests", "tests/it"]),
    ("axum", &["hub"]),
    ("redis", &["hub"]),
    ("lettre", &["notifier"]),
    ("datafusion", &["lake", "ingest", "analytics"]),
    ("deltalake", &["lake", "ingest", "analytics"]),
    ("object_store", &["lake"]),
    ("arrow", &["lake", "ingest", "analytics"]),
    ("parquet", &["lake", "ingest", "analytics"]),
];

const SKIPPED_DIRS: [&str; 7] = ["target", "node_modules", "dist", ".git", ".svelte-kit", ".venv", "test-results"];

/// A source file by its path from the root, with its text.
struct Source {
    path: String,
    text: String,
}

/// Every text file of the tree that people write.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs = vec![workspace_root().to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !SKIPPED_DIRS.contains(&name.as_str()) {
                    dirs.push(path);
                }
            } else if is_written_by_us(&path) {
                if let Ok(text) = std::fs::read_to_string(&path) {
                    let path = path.strip_prefix(workspace_root()).unwrap().to_string_lossy().into_owned();
                    found.push(Source { path, text });
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "the tree was not found");
    found
}

fn is_written_by_us(path: &Path) -> bool {
    let lock = path.file_name().is_some_and(|name| name == "package-lock.json");
    let kinds = [
        "rs", "ts", "mjs", "js", "svelte", "css", "html", "sql", "sh", "toml", "md", "yml", "yaml", "json", "py",
        "service",
    ];
    let kind = path.extension().and_then(|kind| kind.to_str());
    !lock && kind.map_or_else(|| path.components().count() > 1, |kind| kinds.contains(&kind))
}

fn is_code(path: &str) -> bool {
    ["rs", "ts", "mjs", "js", "svelte", "sql", "sh"].iter().any(|kind| path.ends_with(&format!(".{kind}")))
}

/// Lines of code files for which `wanted` holds, by place, except in this file.
fn lines_where(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| is_code(&source.path) && source.path != "tests/it/tidy.rs") {
        for (line, number) in source.text.lines().zip(1..) {
            if wanted(line) {
                places.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    places
}

fn lines_with(needle: &str) -> Vec<String> {
    lines_where(|line| line.contains(needle))
}

/// Whether `word` stands in the line by itself.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !part_of_word(line[..at].chars().next_back()) && !part_of_word(line[at + word.len()..].chars().next())
    })
}

#[test]
fn no_file_is_too_long() {
    let longer = BTreeMap::from(LONGER);
    for source in sources().iter().filter(|source| is_code(&source.path)) {
        let n_lines = source.text.lines().count();
        let allowed = longer.get(source.path.as_str()).copied().unwrap_or(LINES_MAX);
        assert!(n_lines <= allowed, "{}: {n_lines} lines, {allowed} allowed; split it by noun", source.path);
        assert!(allowed == LINES_MAX || n_lines == allowed, "{}: now {n_lines} lines; say so in LONGER", source.path);
    }
}

fn manifest(krate: &str) -> toml::Table {
    let path = workspace_root().join(krate).join("Cargo.toml");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).parse().unwrap()
}

/// Names in the dependency sections of a crate.
fn dependencies(krate: &str, sections: &[&str]) -> BTreeSet<String> {
    let manifest = manifest(krate);
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn arrows_between_crates_point_one_way() {
    let members: BTreeSet<String> = {
        let root: toml::Table = std::fs::read_to_string(workspace_root().join("Cargo.toml")).unwrap().parse().unwrap();
        root["workspace"]["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|member| member.as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        members,
        ARROWS.iter().map(|(krate, _)| (*krate).to_owned()).collect(),
        "each crate has its arrows here"
    );
    for (krate, allowed) in ARROWS {
        let used = dependencies(krate, &["dependencies", "dev-dependencies", "build-dependencies"]);
        let ours = used.iter().filter_map(|name| name.strip_prefix("todoke-"));
        let wrong: Vec<&str> = ours.filter(|name| !allowed.contains(name)).collect();
        assert!(wrong.is_empty(), "{krate} must not use {wrong:?}");
    }
}

#[test]
fn a_library_stays_with_the_crate_that_wraps_it() {
    for (krate, _) in ARROWS {
        let used = dependencies(krate, &["dependencies", "dev-dependencies", "build-dependencies"]);
        for (library, keepers) in KEPT_TO {
            assert!(
                !used.contains(library) || keepers.contains(&krate),
                "{krate} must not use {library}: only {keepers:?} do"
            );
        }
    }
}

#[test]
fn the_domain_does_no_io_and_is_not_async() {
    let used = dependencies("domain", &["dependencies"]);
    for runtime in ["tokio", "hyper", "axum", "sqlx", "futures-util"] {
        assert!(!used.contains(runtime), "domain must not use {runtime}");
    }
}

/// Only the outermost layer reads the clock (invariant 9); measuring how long something took is not reading it.
#[test]
fn the_clock_is_read_in_the_hub_only() {
    for call in ["SystemTime::now(", "jiff::Timestamp::now(", "Zoned::now("] {
        let places: Vec<String> = lines_with(call).into_iter().filter(|place| !place.starts_with("hub/")).collect();
        assert!(places.is_empty(), "take `now` from the caller: {places:#?}");
    }
}

#[test]
fn every_test_runs() {
    for mark in ["#[ignore", "it.skip(", "it.only(", "test.skip(", "test.only(", "describe.skip(", "describe.only("] {
        let places = lines_with(mark);
        assert!(places.is_empty(), "a test that does not run, or keeps others from running: {places:#?}");
    }
}

#[test]
fn tests_wait_for_conditions_and_never_sleep() {
    for call in ["time::sleep(", "thread::sleep(", "waitForTimeout("] {
        let in_tests = |place: &String| place.starts_with("tests/") || place.contains("/tests/");
        let places: Vec<String> = lines_with(call).into_iter().filter(in_tests).collect();
        assert!(places.is_empty(), "wait for a condition with a deadline instead: {places:#?}");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for mark in ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"] {
        let places = lines_where(|line| has_word(line, mark));
        assert!(places.is_empty(), "left over: {places:#?}");
    }
}

/// The tree knows nothing of the machine it was written on.
#[test]
fn no_path_of_a_machine_is_in_the_tree() {
    for dir in ["work", "farm", "tmp/bash_jobs"] {
        let needle = format!("/{dir}/");
        let places: Vec<String> = sources()
            .iter()
            .flat_map(|source| {
                source
                    .text
                    .lines()
                    .filter(|line| names_path(line, &needle))
                    .map(|line| format!("{}: {}", source.path, line.trim()))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert!(places.is_empty(), "{places:#?}");
    }
}

/// Whether `needle` begins an absolute path in the line: `src/work/mod.rs` is none.
fn names_path(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        !line[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_ascii_alphanumeric() || matches!(before, '.' | '_' | '-' | '}' | '*'))
    })
}

#[test]
fn the_pages_a_newcomer_needs_are_there() {
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "docs/coverage.md",
        "docs/benchmarks.md",
        "docs/glossary.md",
        ".ci/run",
        "run",
        "test",
    ] {
        assert!(workspace_root().join(page).is_file(), "{page} is missing");
    }
}

/// A row of docs/coverage.md: `| S45 | … | works | … `tests::module::name` … |`.
struct Covered {
    id: String,
    works: bool,
    tests: Vec<String>,
}

fn covered() -> Vec<Covered> {
    let page = std::fs::read_to_string(workspace_root().join("docs/coverage.md")).expect("docs/coverage.md");
    let numbered =
        |line: &&str| line.strip_prefix("| S").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let rows = page.lines().filter(numbered);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let tests = row.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Covered { id: cells[0].to_owned(), works: cells.contains(&"works"), tests }
    })
    .collect()
}

#[test]
fn coverage_lists_every_row_once() {
    let ids: Vec<String> = covered().into_iter().map(|row| row.id).collect();
    let expected: Vec<String> = (1..=271).map(|n| format!("S{n}")).collect();
    assert_eq!(ids, expected);
}

#[test]
fn what_coverage_says_works_names_a_test_that_exists() {
    let sources = sources();
    let functions: BTreeSet<&str> = sources
        .iter()
        .filter(|source| source.path.ends_with(".rs"))
        .flat_map(|source| source.text.lines())
        .filter_map(|line| line.split("fn ").nth(1)?.split(['(', '<']).next())
        .collect();
    let exists = |test: &str| {
        let file: PathBuf = workspace_root().join(test);
        file.is_file() || test.rsplit("::").next().is_some_and(|name| functions.contains(name))
    };
    for row in covered().iter().filter(|row| row.works) {
        assert!(!row.tests.is_empty(), "{} works, but no test is named", row.id);
        for test in &row.tests {
            assert!(exists(test), "{} names `{test}`, which is neither a test nor a file", row.id);
        }
    }
}
