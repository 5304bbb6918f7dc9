//! `schedules/`: fractions and the counts that follow from them.

use mmada_diffusion::schedule::transfer_counts;
use mmada_diffusion::{Canvas, ImagePlan, Schedule};
use serde_json::Value;

use crate::golden::{get, json};

/// Names of the file: those of the original, and one sigmoid with parameters of its own.
fn schedule(name: &str, custom: &Value) -> Schedule {
    name.parse().unwrap_or_else(|_| {
        assert!(name.starts_with("sigmoid_"), "unknown schedule {name}");
        Schedule::Sigmoid {
            start: get(custom, "start"),
            end: get(custom, "end"),
            tau: get(custom, "tau"),
        }
    })
}

#[test]
fn golden_fractions() {
    let file = json("schedules/schedules.json");
    let times: Vec<f32> = get(&file, "t");
    for (name, expected) in file["mask_ratio"].as_object().unwrap() {
        let schedule = schedule(name, &file["sigmoid_custom"]);
        let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
        assert_eq!(times.len(), expected.len());
        for (&t, &expected) in times.iter().zip(&expected) {
            let got = schedule.masked_fraction(t);
            assert!(
                (got - expected).abs() <= 1e-6,
                "{name} at {t}: {got}, expected {expected}"
            );
        }
    }
}

#[test]
fn schedules_that_lead_nowhere_are_refused() {
    let sigmoid = |start, end, tau| Schedule::Sigmoid { start, end, tau };
    for sound in [
        Schedule::SIGMOID,
        Schedule::Power(0.5),
        sigmoid(3.0, -3.0, 1.0),
    ] {
        assert!(sound.check().is_ok(), "{sound:?}");
    }
    for broken in [
        Schedule::Power(0.0),
        Schedule::Power(-1.0),
        Schedule::Power(f32::NAN),
        sigmoid(0.0, 0.0, 1.0),
        sigmoid(-3.0, 3.0, 0.0),
        sigmoid(-3.0, f32::INFINITY, 1.0),
    ] {
        assert!(broken.check().is_err(), "{broken:?}");
        let plan = ImagePlan {
            schedule: broken,
            ..ImagePlan::new(0..4, 20..30, 2)
        };
        assert!(Canvas::image(vec![99; 4], 99, plan).is_err(), "{broken:?}");
    }
}

#[test]
fn golden_transfer_counts() {
    for case in json("schedules/schedules.json")["num_transfer_tokens"]
        .as_array()
        .unwrap()
    {
        let expected: Vec<Vec<usize>> = get(case, "num_transfer_tokens");
        let masked: Vec<usize> = get(case, "mask_counts");
        for (masked, expected) in masked.into_iter().zip(expected) {
            assert_eq!(transfer_counts(masked, get(case, "steps")), expected);
        }
    }
}

#[test]
fn golden_image_counts() {
    let file = json("schedules/schedules.json");
    for case in file["image_masked_counts"].as_array().unwrap() {
        let (total, steps): (usize, usize) = (get(case, "n_image_tokens"), get(case, "timesteps"));
        let name: String = get(case, "schedule");
        let schedule = schedule(&name, &file["sigmoid_custom"]);
        let floors: Vec<i64> = get(case, "floor_n_ratio");
        let after: Vec<usize> = get(case, "masked_after_step");
        let mut unknown = total;
        for step in 0..steps {
            let place = format!("{name}, {total} tokens, step {step} of {steps}");
            assert_eq!(
                schedule.masked_floor(step, steps, total),
                floors[step],
                "{place}"
            );
            unknown = schedule.masked_after(step, steps, total, unknown);
            assert_eq!(unknown, after[step], "{place}");
        }
    }
}

#[test]
fn golden_training_counts() {
    let file = json("schedules/schedules.json");
    for case in file["training_mask_counts"].as_array().unwrap() {
        let name: String = get(case, "schedule");
        let schedule = schedule(&name, &file["sigmoid_custom"]);
        let (times, expected): (Vec<f32>, Vec<usize>) = (get(case, "t"), get(case, "num_masked"));
        for (t, expected) in times.into_iter().zip(expected) {
            let (floor, total) = (get(case, "min_masking_rate"), get(case, "n_image_tokens"));
            assert_eq!(
                schedule.training_count(t, floor, total),
                expected,
                "{name} at {t}"
            );
        }
    }
}
