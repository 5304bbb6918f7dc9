//! `mmada doctor`: what this machine and this build can do.

use std::hash::Hasher;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fnv::FnvHasher;
use mmada_model::{LoadOptions, Mmada, PaintOptions};
use mmada_tensor::Device;
use mmada_tensor::cpu::{self, Level};
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::{embedded, hub, output};

/// A failed self-test gives exit code 1, after the report.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let tested = self_test();
    let report = json!({
        "task": "doctor",
        "version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpu_features": cpu::features(),
        "cpu_level": { "used": Level::current(), "found": Level::found() },
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "memory_bytes": memory_bytes(),
        "devices": {
            "cpu": "yes",
            "cuda": device(Device::new_cuda(0)),
            "metal": device(Device::new_metal(0)),
        },
        "embedded_model_bytes": embedded::list().map(|(_, bytes)| bytes).sum::<usize>(),
        "hub_cache": hub::cache().ok().map(|cache| output::shown(cache.path())),
        "self_test": match &tested {
            Ok(test) => test.clone(),
            Err(error) => json!({ "passed": false, "problem": format!("{error:#}") }),
        },
    });
    match args.json {
        true => output::json(&report)?,
        false => output::line(text(&report))?,
    }
    tested.map(|_| ExitCode::SUCCESS)
}

/// Paints the same picture twice; the hashes must agree.
fn self_test() -> Result<Value> {
    let started = Instant::now();
    let model = Mmada::from_files(embedded::file, &LoadOptions::default())
        .context("the model inside this program")?;
    let options = PaintOptions {
        steps: 2,
        guidance: 0.0,
        count: 1,
        seed: 7,
        ..model.defaults().paint.clone()
    };
    let paint = || -> Result<u64> {
        let painting = model.paint("a blue circle", &options)?.finish()?.pop();
        Ok(hash(
            painting.context("self-test: no picture")?.picture.pixels(),
        ))
    };
    let (first, second) = (paint()?, paint()?);
    if first != second {
        bail!(
            "self-test: expected the same picture twice, got the hashes {first:016x} and {second:016x}; check the memory of this machine"
        );
    }
    Ok(json!({
        "passed": true,
        "hash": format!("{first:016x}"),
        "seconds": started.elapsed().as_secs_f64(),
    }))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

fn device(opened: Result<Device, mmada_tensor::candle::Error>) -> String {
    match opened {
        Ok(_) => "yes".to_owned(),
        Err(error) => format!(
            "no: {}",
            error.to_string().lines().next().unwrap_or_default()
        ),
    }
}

/// Memory of the machine, where the system says so.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The level of the kernels, and why it is no higher one.
fn level(level: &Value) -> String {
    let [used, found] = ["used", "found"].map(|key| level[key].as_str().unwrap_or_default());
    match used == found {
        true => used.to_owned(),
        false => format!("{used}, as {} says; {found} is there", cpu::VARIABLE),
    }
}

fn text(report: &Value) -> String {
    let plain = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let list = |value: &Value| {
        let words: Vec<String> = value.as_array().into_iter().flatten().map(plain).collect();
        if words.is_empty() {
            "none known".to_owned()
        } else {
            words.join(", ")
        }
    };
    let memory = report["memory_bytes"].as_u64();
    let test = &report["self_test"];
    let verdict = match test["passed"] == true {
        true => format!(
            "passed in {:.2} s, hash {}",
            test["seconds"].as_f64().unwrap_or(0.0),
            plain(&test["hash"])
        ),
        false => format!("FAILED: {}", plain(&test["problem"])),
    };
    let megabytes = report["embedded_model_bytes"].as_u64().unwrap_or(0) as f64 / 1e6;
    [
        ("mmada", plain(&report["version"])),
        (
            "system",
            format!("{} {}", plain(&report["os"]), plain(&report["arch"])),
        ),
        ("cpu features", list(&report["cpu_features"])),
        ("cpu level", level(&report["cpu_level"])),
        ("cores", plain(&report["cores"])),
        (
            "memory",
            memory.map_or("unknown".to_owned(), |bytes| {
                format!("{:.1} GB", bytes as f64 / 1e9)
            }),
        ),
        ("cpu", plain(&report["devices"]["cpu"])),
        ("cuda", plain(&report["devices"]["cuda"])),
        ("metal", plain(&report["devices"]["metal"])),
        ("embedded model", format!("{megabytes:.1} MB")),
        ("hub cache", plain(&report["hub_cache"])),
        ("self-test", verdict),
    ]
    .map(|(name, value)| format!("{name:<15} {value}"))
    .join("\n")
}
