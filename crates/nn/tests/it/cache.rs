//! Active rows against remembered keys and values.

use mmada_nn::{Cache, Config, Error, Transformer};
use mmada_tensor::{Device, Recall, Rows, Segment, Tensor, Want};

use crate::common::{assert_close, small_sizes, values};

const IDS: usize = 40;

fn model() -> Transformer {
    let cfg = Config::new(&small_sizes()).unwrap();
    Transformer::init(&cfg, 5, &Device::Cpu).unwrap().1
}

/// The rows of two sequences that are active, by their place in a memory of both.
fn active(sequences: &[Vec<u32>], places: &[usize]) -> (Rows, Recall) {
    let whole = Rows::pack(sequences);
    let mut rows = Rows::default();
    let mut segments = Vec::new();
    for keys in &whole.sequences {
        let start = rows.len();
        for &place in places.iter().filter(|place| keys.contains(place)) {
            rows.ids.push(whole.ids[place]);
            rows.positions.push(whole.positions[place]);
        }
        rows.sequences.push(start..rows.len());
        segments.push(Segment::new(start..rows.len(), keys.clone()));
    }
    let recall = Recall {
        capacity: whole.len(),
        places: places.to_vec(),
        segments,
    };
    (rows, recall)
}

fn logits(model: &Transformer, (rows, recall): (Rows, Recall), cache: &mut Cache) -> Tensor {
    let want = Want::new(0..rows.len(), 0..IDS);
    model.logits_recalled(&rows, &recall, cache, &want).unwrap()
}

#[test]
fn all_rows_active_is_a_full_forward_and_unchanged_rows_stay_as_they_were() {
    let model = model();
    let sequences = [vec![1u32, 2, 3, 4, 5], vec![9, 8, 7]];
    let whole = Rows::pack(&sequences);
    let full = model.logits(&whole, &Want::new(0..8, 0..IDS)).unwrap();
    let mut cache = Cache::default();
    let every: Vec<usize> = (0..8).collect();
    let first = logits(&model, active(&sequences, &every), &mut cache);
    assert_eq!(values(&first), values(&full));
    for places in [&[2usize, 3][..], &[7], &[0, 4, 5], &every] {
        let again = logits(&model, active(&sequences, places), &mut cache);
        let index: Vec<u32> = places.iter().map(|place| *place as u32).collect();
        let index = Tensor::new(index, &Device::Cpu).unwrap();
        let expected = full.index_select(&index, 0).unwrap();
        assert_close("recomputed", &again, &expected, 2e-6);
    }
}

#[test]
fn an_active_row_sees_the_past_of_the_others() {
    let model = model();
    let (before, mut after) = (vec![1u32, 2, 3, 4], vec![1u32, 2, 3, 4]);
    after[1] = 30;
    let mut cache = Cache::default();
    let _ = logits(&model, active(&[before], &[0, 1, 2, 3]), &mut cache);
    let full = model.logits(&Rows::pack([&after]), &Want::new([1, 2], 0..IDS));
    let full = full.unwrap();
    // One block deep the others' keys do not depend on the row that changed; deeper they do.
    let stale = logits(&model, active(&[after.clone()], &[1, 2]), &mut cache);
    let differs = |a: &Tensor, b: &Tensor| {
        let pairs = values(a).into_iter().zip(values(b));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) > 1e-6
    };
    assert!(
        differs(&stale, &full),
        "rows 0 and 3 were not computed anew"
    );
    let fresh = logits(&model, active(&[after.clone()], &[0, 1, 2, 3]), &mut cache);
    assert_close("fresh", &fresh.narrow(0, 1, 2).unwrap(), &full, 2e-6);
}

#[test]
fn a_stand_in_sees_what_its_token_would_see_if_it_were_masked() {
    let model = model();
    let mask = 39u32;
    let ids = vec![1u32, 2, mask, 4, 5];
    // Row 5 stands in for position 2, which is masked anyway: both must say the same.
    let rows = Rows {
        ids: [&ids[..], &[mask]].concat(),
        positions: vec![0, 1, 2, 3, 4, 2],
        sequences: std::iter::once(0..6).collect(),
        ..Rows::default()
    };
    let stand_in = Segment {
        hidden: Some(2),
        ..Segment::new(5..6, 0..6)
    };
    let recall = Recall {
        capacity: 6,
        places: (0..6).collect(),
        segments: vec![Segment::new(0..5, 0..5), stand_in],
    };
    let want = Want::new([2, 5], 0..IDS);
    let got = model.logits_recalled(&rows, &recall, &mut Cache::default(), &want);
    let got = got.unwrap();
    let full = model.logits(&Rows::pack([&ids]), &Want::new([2, 2], 0..IDS));
    assert_close("stand-in", &got, &full.unwrap(), 2e-6);
}

#[test]
fn a_recall_that_does_not_fit_is_an_error() {
    let model = model();
    let sequences = [vec![1u32, 2, 3]];
    let try_with = |change: fn(&mut Recall)| {
        let (rows, mut recall) = active(&sequences, &[0, 1, 2]);
        change(&mut recall);
        let want = Want::new([0], 0..IDS);
        model.logits_recalled(&rows, &recall, &mut Cache::default(), &want)
    };
    assert!(try_with(|_| ()).is_ok());
    let bad: [fn(&mut Recall); 4] = [
        |recall| recall.capacity = 2,
        |recall| recall.places[0] = 3,
        |recall| recall.places[0] = 1,
        |recall| recall.segments.clear(),
    ];
    for change in bad {
        let error = try_with(change).unwrap_err();
        assert!(
            matches!(error, Error::Input { .. } | Error::Tensor(_)),
            "{error}"
        );
    }
}
