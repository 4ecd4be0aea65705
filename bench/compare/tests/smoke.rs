//! The whole way with the peers that need no package: lunette and the echo pair are started, loaded and rendered.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COMPARE: &str = env!("CARGO_BIN_EXE_lunette-compare");

/// Our other programs, beside this one: a test of the whole workspace has made them already.
fn programs() -> PathBuf {
    let folder = Path::new(COMPARE).parent().expect("a folder").to_path_buf();
    let missing =
        ["lunette", "lunette-load", "lunette-wire"].into_iter().filter(|name| !folder.join(name).is_file());
    for name in missing {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "-p", name, "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "{name}");
    }
    folder
}

fn compare(args: &[&str]) -> Output {
    programs();
    let done = Command::new(COMPARE).args(args).output().expect("the program runs");
    let said = [&done.stdout, &done.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat();
    assert!(done.status.success(), "{args:?}: {said}");
    done
}

#[test]
fn from_servers_to_page() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        println!("there is one CPU: nothing can be compared here");
        return;
    }
    let folder = std::env::temp_dir().join(format!("compare-smoke-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let out = folder.join("out");
    let page = folder.join("performance.md");
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
    fs::copy(template, &page).unwrap();
    let [out_text, page_text, memory] = [&out, &page, &folder].map(|path| path.to_str().unwrap());
    let run = [
        "run",
        "--quick",
        "--rounds",
        "2",
        "--seconds",
        "0.2",
        "--disk",
        "8",
        "--peer",
        "lunette",
        "--peer",
        "echo",
        "--case",
        "randread-4k",
        "--case",
        "randwrite-4k-qd1",
        "--out",
        out_text,
        "--memory",
        memory,
    ];
    compare(&run);
    let results: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    let points = results["points"].as_array().unwrap();
    assert_eq!(points.len(), 2 * 2 * 2, "{results:#}");
    for point in points {
        assert!(point["load"]["iops"].as_f64().unwrap() > 0.0, "{point:#}");
        assert!(point["server"]["cores"].as_f64().unwrap() > 0.0, "{point:#}");
        assert!(
            point["server"]["memory_kib"].as_u64().unwrap() >= 8 * 1024,
            "the disk was filled: {point:#}"
        );
    }

    compare(&["render", "--out", out_text, "--page", page_text]);
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("| 4 KiB random write, QD 1 | of echo, ≥ 0.95 | "), "{text}");
    assert!(text.contains("\n## Method\n"), "what was written by hand stays");
    assert!(folder.join("performance/latency-qd32.svg").is_file());

    // Another run keeps what it does not measure.
    compare(&[&run[..13], &["randread-4k-qd1", "--out", out_text, "--memory", memory]].concat());
    let results: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    let count = |case: &str| {
        results["points"].as_array().unwrap().iter().filter(|point| point["case"] == case).count()
    };
    assert_eq!(["randread-4k", "randwrite-4k-qd1", "randread-4k-qd1"].map(count), [4, 4, 4]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "nothing but out, the page and its plots is left");
    fs::remove_dir_all(folder).unwrap();
}
